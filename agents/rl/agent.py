"""The PPO agent: a trained policy network that quotes; runs without torch and gymnasium."""

from __future__ import annotations

from dataclasses import replace

from mmsim.agent import Observation, Quotes, SessionContext, Strategy
from mmsim.errors import ConfigError
from mmsim.quoting import Quoter
from mmsim_agents.common.checkpoint import cached
from mmsim_agents.rl.policy import AGENT, Policy


class PPO(Strategy):
    """Offset and skew of one quote per side by a policy network, trained by PPO on the train split.

    Parameters
    ----------
    size_units : int, optional
        Quantity on each side, units; default what it was trained with.

    Notes
    -----
    Source: J. Schulman et al. (2017), Proximal policy optimization algorithms, arXiv 1707.06347, as
    implemented by stable-baselines3. The mean of the policy acts; nothing is drawn.
    """

    name = AGENT
    size_units: int | None = None

    _source: Policy | None = None

    def reset(self, ctx: SessionContext) -> None:
        """Load the checkpoint of ``ctx.dataset`` (once per process) and forget the last episode."""
        policy = cached(ctx.checkpoints, ctx.dataset, AGENT, Policy.parse)
        if policy is not self._source:
            spec = policy.quoter
            if self.size_units is not None:
                if self.size_units < 1:
                    raise ConfigError(f"PPO.size_units: expected at least 1, was {self.size_units}")
                spec = replace(spec, size_units=self.size_units)
            self._quoter = Quoter(spec)
            self._network = policy.network
            self._source = policy
        self._quoter.reset(ctx)

    def quote(self, obs: Observation) -> Quotes:
        quoter = self._quoter
        return quoter.quotes(self._network(quoter.state(obs)), obs)
