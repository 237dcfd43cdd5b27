"""Agents as users write them; a file of its own, so that the compiled one is kept between runs of the tests."""

from mmsim.agent import Agent, Quotes, Strategy, within_limits
from mmsim.compiled import CompiledStrategy, set_quotes


class Mine(Strategy):
    size: int = 1

    def reset(self, ctx):
        self._ctx = ctx

    def quote(self, obs):
        return within_limits(obs.bid_px, obs.ask_px, self.size * self._ctx.unit, obs, self._ctx)


class Plain(Agent):
    def __init__(self, size=1):
        self.size = size

    def quote(self, obs):
        return Quotes(((obs.bid_px, self.size),), ((obs.ask_px, self.size),))


class Compiled(CompiledStrategy):
    size: int = 1

    @staticmethod
    def decide(obs, want, params, memory):
        set_quotes(want, obs.bid_px, params.size, obs.ask_px, params.size)
