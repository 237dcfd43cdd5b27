"""Strategies whose decision is compiled: the same interface, no Python per decision.

A `CompiledStrategy` writes `decide` in the Python that numba compiles. A session runs it in the kernel,
some ten times faster than a Python `quote`; everywhere else (the Gym environment, `check_agent`, an
ensemble) it is an ordinary agent, because its `quote` calls the same function.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from mmsim._jit import FUNCTIONS, NO_JIT, checked_kernel, inline_kernel
from mmsim.agent import (
    MAX_LEVELS,
    WANT_HEAD,
    WANT_SIZE,
    Observation,
    Quotes,
    SessionContext,
    Strategy,
)
from mmsim.errors import ConfigError

MEMORY = 64  # float64 cells that a compiled strategy keeps between decisions
Decide = Callable[
    [npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float64], npt.NDArray[np.float64]], None
]


@inline_kernel
def set_quotes(want: Any, bid_px: int, bid_qty: int, ask_px: int, ask_qty: int) -> None:
    """Ask for one bid and one ask (ticks, lots); a quantity of 0 leaves that side out."""
    at = WANT_HEAD
    want[0] = 0
    want[1] = 0
    if bid_qty > 0:
        want[0] = 1
        want[at] = bid_px
        want[at + 1] = bid_qty
        at += 2
    if ask_qty > 0:
        want[1] = 1
        want[at] = ask_px
        want[at + 1] = ask_qty


def quotes_in(want: npt.NDArray[np.int64]) -> Quotes:
    """Return what a compiled strategy wrote as `Quotes`.

    Raises
    ------
    ValueError
        If it wrote a number of levels that there is no room for.
    """
    n, m, post_only, take = want[:4].tolist()
    if not (0 <= n <= MAX_LEVELS and 0 <= m <= MAX_LEVELS):
        raise ValueError(f"expected 0 to {MAX_LEVELS} levels a side, was {n} bids and {m} asks")
    flat = want[WANT_HEAD : WANT_HEAD + 2 * (n + m)].tolist()
    levels = list(zip(flat[::2], flat[1::2], strict=True))
    return Quotes(
        tuple(levels[:n]), tuple(levels[n:]), post_only == 1 if post_only in (0, 1) else post_only, take
    )


class CompiledStrategy(Strategy):
    """A strategy whose `decide` is compiled.

    Subclasses define ``decide(obs, want, params, memory)`` as a static method:

    * ``obs``: the ``(OBS_SIZE,)`` int64 observation vector, ``obs[O_BID_PX]``, ``obs[O_INVENTORY]`` ...
      (`mmsim.agent`), read-only;
    * ``want``: to be written, with `set_quotes`, or by hand: ``[n_bids, n_asks, post_only, take, 0, 0]``, then
      (px, qty) of the bids and of the asks. It comes as "no quotes, post-only";
    * ``params``: the class's annotated parameters as float64, in their order (numbers and booleans only);
    * ``memory``: ``(MEMORY,)`` float64, zero at the start of an episode.

    An index outside an array raises, as in Python (compiled helpers that it calls have their own rules).

    Examples
    --------
    >>> from mmsim.agent import O_ASK_PX, O_BID_PX
    >>> class Touch(CompiledStrategy):
    ...     size: int = 1
    ...     @staticmethod
    ...     def decide(obs, want, params, memory):
    ...         set_quotes(want, obs[O_BID_PX], int(params[0]), obs[O_ASK_PX], int(params[0]))
    >>> Touch(size=2)
    Touch(size=2)
    """

    @staticmethod
    @abstractmethod
    def decide(obs: Any, want: Any, params: Any, memory: Any) -> None:
        """Write the desired quotes for what is known now to `want`."""

    def reset(self, ctx: SessionContext) -> None:  # noqa: ARG002
        """Take the parameters, clear the memory, compile `decide` if that was not done yet."""
        values = []
        for name in self.parameters():
            value = getattr(self, name)
            if not isinstance(value, int | float):
                raise ConfigError(
                    f"{type(self).__name__}.{name}: expected a number (it goes to compiled code), was {value!r}"
                )
            values.append(float(value))
        self._params = np.array([*values, 0.0])  # never empty
        self._memory = np.zeros(MEMORY)
        self._want = np.zeros(WANT_SIZE, np.int64)
        self._compiled, self._address = _compiled(type(self).decide)

    def quote(self, obs: Observation) -> Quotes:
        """Ask `decide`, from Python."""
        want = self._want
        want[:6] = (0, 0, 1, 0, 0, 0)
        self._compiled(obs.raw, want, self._params, self._memory)
        return quotes_in(want)

    def machine(self) -> tuple[int, npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return address of the compiled function, parameters and memory, for the kernel."""
        return self._address, self._params, self._memory


_MADE: dict[Any, tuple[Callable[..., None], int]] = {}


def _compiled(decide: Decide) -> tuple[Callable[..., None], int]:
    if decide not in _MADE:
        if NO_JIT:
            FUNCTIONS[id(decide)] = decide
            _MADE[decide] = (decide, id(decide))
        else:
            _MADE[decide] = _machine_code(decide)
    return _MADE[decide]


def _machine_code(decide: Any) -> tuple[Callable[..., None], int]:
    # Compiled for the kernel's arrays, and kept on disk where the function stands in a file. It writes where the
    # engine's own state stands beside: the observation is read-only, and indices are checked.
    from numba import float64, int64, types

    arrays = (types.Array(int64, 1, "C", readonly=True), int64[::1], float64[::1], float64[::1])
    try:
        fast: Any = checked_kernel(decide)
        fast.compile(arrays)
        fast.disable_compile()  # a writable observation is taken, too
    except Exception as err:  # numba has many error classes
        lines = [
            line for line in str(err).splitlines() if line.strip() and "nopython mode pipeline" not in line
        ]
        first = lines[0] if lines else type(err).__name__
        if "setitem(readonly array" in str(err):
            first = "it writes to the observation, which is read-only"
        raise ConfigError(f"{decide.__qualname__}: numba cannot compile it: {first}") from err
    made = fast.overloads[arrays]
    return fast, int(made.library.get_pointer_to_function(made.fndesc.llvm_func_name))
