"""A trained policy without torch: a small tanh network in numpy, and its checkpoint.

``<checkpoints>/<dataset>/ppo.safetensors`` holds the network of the policy's mean, ``ppo.json`` beside it
the card: the quoter's constants, and how, on what and by which command it was trained.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mmsim.errors import ConfigError
from mmsim.quoting import N_ACTIONS, N_STATE, QuoterSpec
from mmsim_agents.common import checkpoint
from mmsim_agents.common.checkpoint import Arrays, Card

AGENT = "ppo"
F32 = npt.NDArray[np.float32]


class Network:
    """Mean of a Gaussian policy: linear layers with tanh between them, cut to [-1, 1].

    Parameters
    ----------
    layers : list of (weight, bias)
        ``(n_out, n_in)`` and ``(n_out,)``; from `N_STATE` inputs to `N_ACTIONS` outputs.
    """

    def __init__(self, layers: list[tuple[F32, F32]]) -> None:
        width = N_STATE
        for weight, bias in layers:
            if weight.shape != (len(bias), width):
                raise ConfigError(
                    f"network: expected a weight of shape {(len(bias), width)}, was {weight.shape}"
                )
            width = len(bias)
        if width != N_ACTIONS:
            raise ConfigError(f"network: expected {N_ACTIONS} outputs, was {width}")
        self.layers = [
            (np.ascontiguousarray(w, np.float32), np.ascontiguousarray(b, np.float32)) for w, b in layers
        ]

    def __call__(self, state: F32) -> F32:
        """Return the action ``(N_ACTIONS,)`` for the input vector ``(N_STATE,)``."""
        *hidden, (weight, bias) = self.layers
        x = state
        for w, b in hidden:
            x = w @ x
            x += b
            np.tanh(x, out=x)
        out: F32 = weight @ x
        out += bias
        return np.minimum(np.maximum(out, np.float32(-1.0), out=out), np.float32(1.0), out=out)

    def arrays(self) -> Arrays:
        """Return the weights by name, as the checkpoint stores them."""
        out: Arrays = {}
        for i, (w, b) in enumerate(self.layers):
            out[f"{i}.weight"], out[f"{i}.bias"] = w, b
        return out

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> Network:
        """Read what `arrays` returned."""
        return cls([(arrays[f"{i}.weight"], arrays[f"{i}.bias"]) for i in range(len(arrays) // 2)])


@dataclass(frozen=True, eq=False)
class Policy:
    """A network, the constants of its quoter, and the card as written."""

    network: Network
    quoter: QuoterSpec
    card: Card

    def write(self, folder: Path) -> None:
        """Write the policy into `folder` (``<checkpoints>/<dataset>``)."""
        checkpoint.write(folder, AGENT, self.network.arrays(), {"quoter": self.quoter.to_dict(), **self.card})

    @classmethod
    def parse(cls, arrays: Arrays, card: Card) -> Policy:
        """Make one of what was read; for `mmsim_agents.common.checkpoint.read`.

        Raises
        ------
        ConfigError
            If it was trained on other features.
        """
        return cls(Network.from_arrays(arrays), QuoterSpec.from_dict(card["quoter"]), card)
