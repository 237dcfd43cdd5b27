"""The checker finds what is wrong: every bad agent breaks exactly the clause it was made to break."""

import random
import re
import sys
import time

import numpy as np
import pytest

from mmsim.agent import Agent, Quotes, Strategy, within_limits
from mmsim.errors import AgentError
from mmsim.sim.session import Session
from mmsim.testing import check_agent


class Good(Strategy):
    """Keeps the contract; the bad ones below each change one thing."""

    offset_ticks: int = 0

    def reset(self, ctx):
        self._ctx = ctx
        self._count = 0

    def shift(self, obs):
        return 0

    def quote(self, obs):
        ctx = self._ctx
        shift = self.shift(obs)
        return within_limits(obs.bid_px - shift, obs.ask_px + shift, ctx.unit, obs, ctx)


class NeedsArguments(Agent):
    def __init__(self, size):
        self.size = size

    def quote(self, obs):
        return Quotes.none()


class WorksInInit(Good):
    def __init__(self, **params):
        super().__init__(**params)
        self.table = [0] * 100


class ChangesItsArguments(Good):
    def __init__(self, **params):
        super().__init__(**params)
        self.offset_ticks = self.offset_ticks + 1

    def __reduce__(self):
        raise TypeError("no pickle")


class FailsToReset(Good):
    def reset(self, ctx):
        raise RuntimeError("no weights")


class NeedsTwoUnits(Good):
    def reset(self, ctx):
        super().reset(ctx)
        ctx.constants("no_such_constant")


class ReturnsNone(Good):
    def quote(self, obs):
        return None


class ReturnsTuple(Good):
    def quote(self, obs):
        return (obs.bid_px, obs.ask_px)


class WritesObservation(Good):
    def quote(self, obs):
        obs.record["cash"] = 1
        return super().quote(obs)


class SortsOrdersInPlace(Good):
    def quote(self, obs):
        obs.orders["qty"] = 1
        return super().quote(obs)


class CrossesOnOneTick(Good):
    def quote(self, obs):
        return (
            Quotes.two_sided(obs.bid_px + 1, obs.ask_px, self._ctx.unit)
            if abs(obs.inventory) < 2
            else Quotes()
        )


class QuotesNaN(Good):
    def quote(self, obs):
        return Quotes(((float("nan"), 1),))


class QuotesFractions(Good):
    def quote(self, obs):
        return Quotes(((obs.mid2 / 2 - 1, 1),))


class QuotesZero(Good):
    def quote(self, obs):
        return Quotes(((obs.bid_px, 0),))


class BreaksItsLimit(Good):
    def quote(self, obs):
        return Quotes.two_sided(obs.bid_px, obs.ask_px, self._ctx.unit)


class TakesTooMuch(Good):
    def quote(self, obs):
        return Quotes(take=-self._ctx.unit)


class QuotesTwiceAtAPrice(Good):
    def quote(self, obs):
        unit = self._ctx.unit
        return Quotes(((obs.bid_px, unit), (obs.bid_px, unit))) if obs.inventory < 0 else Quotes.none()


class QuotesTooManyLevels(Good):
    def quote(self, obs):
        if abs(obs.inventory) > 0:
            return Quotes.none()
        return Quotes(tuple((obs.bid_px - i, 1) for i in range(self._ctx.max_levels + 1)))


class TripsAtItsLimit(Good):
    def quote(self, obs):
        1 / (self._ctx.max_inventory - obs.inventory)
        return super().quote(obs)


class TripsAtTheEnd(Good):
    def quote(self, obs):
        1 / obs.time_left_ns
        return super().quote(obs)


class UsesGlobalNumPy(Good):
    def shift(self, obs):
        return int(np.random.randint(2))  # noqa: NPY002


class SeedsGlobalPython(Good):
    def reset(self, ctx):
        super().reset(ctx)
        random.seed(1)


class LooksAtTheClock(Good):
    def shift(self, obs):
        return time.perf_counter_ns() // 100 % 3


class CountsInTheClass(Good):
    seen = 0

    def shift(self, obs):
        type(self).seen += 1
        return type(self).seen % 7


class RemembersEpisodes(Good):
    def reset(self, ctx):
        self._ctx = ctx
        self._count = getattr(self, "_count", 0)

    def shift(self, obs):
        self._count += 1
        return self._count % 7


class ChangesItsParameter(Good):
    def quote(self, obs):
        self.offset_ticks += 1
        return super().quote(obs)


class KeepsAView(Good):
    def reset(self, ctx):
        super().reset(ctx)
        self._last = None

    def shift(self, obs):
        last, self._last = self._last, obs.record
        return 0 if last is None else int((last != obs.record).any())


class PeeksIntoTheSession(Good):
    def shift(self, obs):
        # the true inventory, which has not been acknowledged yet, from the caller's caller
        frame = sys._getframe()
        while frame is not None:
            session = frame.f_locals.get("self")
            if isinstance(session, Session):
                return 1
            frame = frame.f_back
        return 0


class TripsWhenLate(Good):
    def reset(self, ctx):
        super().reset(ctx)
        self._due = 0

    def quote(self, obs):
        if self._due and obs.ts > self._due:
            raise RuntimeError("a decision is missing")
        self._due = obs.ts + 600_000_000
        return super().quote(obs)


class Sleeps(Good):
    def quote(self, obs):
        time.sleep(0.0011)  # just over the limit: it is asked thousands of times
        return super().quote(obs)


class FailsToClose(Good):
    def close(self):
        raise RuntimeError("not open")


CASES = [
    (NeedsArguments, "constructs", "missing 1 required"),
    (WorksInInit, "init_only_stores", "__init__ sets table, which are no parameters"),
    (ChangesItsArguments, "rebuilds", "a copy made from its parameters has others"),
    (FailsToReset, "resets", "raised RuntimeError: no weights"),
    (NeedsTwoUnits, "resets", "mmsim calibrate tiny --write"),
    (ReturnsNone, "returns_quotes", "returned NoneType; expected Quotes"),
    (ReturnsTuple, "returns_quotes", "returned tuple; expected Quotes"),
    (WritesObservation, "leaves_observation_alone", "work on a copy"),
    (SortsOrdersInPlace, "leaves_observation_alone", "work on a copy"),
    (CrossesOnOneTick, "quotes_are_valid", "a spread of 1 tick, .*is not below ask"),
    (QuotesNaN, "quotes_are_valid", "expected a whole price in ticks, was nan"),
    (QuotesFractions, "quotes_are_valid", "expected a whole price in ticks, was .*to_ticks"),
    (QuotesZero, "quotes_are_valid", "expected a positive quantity in lots, was 0"),
    (BreaksItsLimit, "quotes_are_valid", "inventory 5 of .*could leave .*within_limits"),
    (TakesTooMuch, "quotes_are_valid", "could leave"),
    (QuotesTwiceAtAPrice, "quotes_are_valid", "expected one level per price"),
    (QuotesTooManyLevels, "quotes_are_valid", "expected at most 5 levels"),
    (TripsAtItsLimit, "quotes_are_valid", "raised ZeroDivisionError"),
    (TripsAtTheEnd, "quotes_are_valid", "0 ns before the end of the episode, .*ZeroDivisionError"),
    (UsesGlobalNumPy, "own_random_numbers_only", "use ctx.rng"),
    (SeedsGlobalPython, "own_random_numbers_only", "use ctx.rng"),
    (LooksAtTheClock, "repeats", "do not look at the clock"),
    (CountsInTheClass, "repeats", "keep nothing in the class"),
    (RemembersEpisodes, "reset_forgets", "start afresh in reset"),
    (ChangesItsParameter, "keeps_parameters", "its parameters changed"),
    (KeepsAView, "keeps_no_view", "obs.copy"),
    (PeeksIntoTheSession, "knows_only_what_it_is_told", "never the session"),
    (TripsWhenLate, "plays_with_latency", "a decision is missing"),
    (Sleeps, "is_quick", "expected a median decision under 1 ms"),
    (FailsToClose, "closes", "not open"),
]


def test_the_good_one_passes_as_class_and_as_instance():
    assert check_agent(Good).ok
    report = check_agent(Good(offset_ticks=2))
    assert report.ok
    assert all(check.status == "ok" for check in report.checks)
    report.raise_if_failed()


@pytest.mark.parametrize(("bad", "clause", "message"), CASES, ids=[case[0].__name__ for case in CASES])
def test_each_bad_agent_is_caught_by_the_right_clause(bad, clause, message):
    report = check_agent(bad, max_p50_ms=1.0)
    assert [check.name for check in report.failures] == [clause]
    assert re.search(message, report.failures[0].detail)
    with pytest.raises(AgentError, match=f"{bad.__name__}.*breaks the agent contract: {clause}"):
        report.raise_if_failed()


def test_clauses_that_cannot_be_judged_are_skipped():
    report = check_agent(CASES[0][0])
    assert [check.status for check in report.checks[:2]] == ["failed", "skipped"]
    assert {check.detail for check in report.checks[1:]} == {"repair constructs first"}
