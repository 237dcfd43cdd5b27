"""Each limit of the engine at its edge: the largest allowed value works, one more is refused by name."""

from __future__ import annotations

from dataclasses import replace
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmsim.agent import Observation, Quotes, Strategy
from mmsim.config import MAX_INTERVAL_NS, MAX_LATENCY_NS, MAX_SEED, LatencyConfig, RunConfig, SimConfig, build
from mmsim.errors import AgentError, ConfigError, DataError
from mmsim.records import MAX_PX
from mmsim.registry import make_agent, parameters, resolve
from mmsim.sim import limits
from mmsim.sim import records as R
from mmsim.sim.latency import WireTable
from mmsim.sim.session import Session
from mmsim.testing.markets import SECOND, T0, market_from, tiny_market
from mmsim.types import Episode, EventFlag, EventKind, MarketData

LAST = int(EventFlag.LAST)
MS = 1_000_000


class Touch(Strategy):
    def quote(self, obs: Observation) -> Quotes:
        held = obs.inventory
        return Quotes(((obs.bid_px, 1),) if held < 4 else (), ((obs.ask_px, 1),) if held > -4 else ())


class Once(Strategy):
    """Quotes the same, far away, for ever: its messages are few however long their way."""

    def quote(self, obs: Observation) -> Quotes:
        return Quotes(((1, 1),), ())


def quiet(px: int = 100, *, seconds: float = 4, decision_ns: int = SECOND // 2, **more: Any) -> MarketData:
    rows = [
        (T0, px - 1, 10, 0, EventKind.LEVEL, 1, LAST),
        (T0, px, 10, 0, EventKind.LEVEL, -1, LAST),
        (T0 + round(seconds * SECOND) + 1, px - 2, 1, 0, EventKind.LEVEL, 1, LAST),
    ]
    window = (T0 + 1, T0 + round(seconds * SECOND))
    return market_from(rows, level="L2", episode=window, decision_ns=decision_ns, **more)


def play(data: MarketData, agent: Strategy | None = None, **sim: Any) -> Any:
    return Session(data, SimConfig(**sim)).run(agent or Once(), data.splits["test"][0])


LATENCIES = ("decision", "feed", "order", "cancel", "reduce", "market", "ack")
EDGES = [(f"latency.{name}", 0, MAX_LATENCY_NS) for name in LATENCIES] + [
    ("decision_interval_ns", 1_000, MAX_INTERVAL_NS),
    ("seed", 0, MAX_SEED),
    ("max_levels", 1, 16),
    ("max_inventory_units", 1, 10**9),
    ("max_order_units", 1, 10**9),
]


def nested(name: str, value: object) -> dict[str, object]:
    """``{"a": {"b": value}}`` for ``a.b``."""
    table, _, key = name.rpartition(".")
    return {table: {key: value}} if table else {key: value}


@pytest.mark.parametrize(("name", "least", "most"), EDGES)
def test_the_range_of_every_option(name: str, least: int, most: int) -> None:
    data = quiet(seconds=0.1)
    for value in (least, most):
        sim = build(SimConfig, {"decision_interval_ns": MAX_INTERVAL_NS, **nested(name, value)})
        result = Session(data, sim).run(Once(), data.splits["test"][0])
        assert result.counters["decisions"] >= (0 if name == "latency.feed" and value else 1)
    at_least, at_most = f"at least {least}", f"at most {most}"
    if name == "latency.decision":
        at_least = at_most = f"{least} to {most} ns, or 'profile'"
    with pytest.raises(ConfigError, match=f"{name}: expected {at_least}, was {least - 1}"):
        build(SimConfig, nested(name, least - 1))
    with pytest.raises(ConfigError, match=f"{name}: expected {at_most}, was {most + 1}"):
        build(SimConfig, nested(name, most + 1))
    for wild in (2**63 - 1, 2**70, -(2**63), "1e300", "nan", float("inf")):
        if wild != most:
            with pytest.raises(ConfigError, match=name):
                build(SimConfig, nested(name, wild))


def test_every_time_of_the_configuration_is_among_them() -> None:
    times = {name for name in SimConfig.model_fields if name.endswith("_ns")}
    assert times == {name for name, _, _ in EDGES if name.endswith("_ns")}
    assert set(LatencyConfig.model_fields) == {*LATENCIES, "sigma", "file"}


@pytest.mark.parametrize(("name", "values"), [("latency.sigma", (0, 3)), ("queue_power", (1e-6, 20))])
def test_the_range_of_what_is_no_whole_number(name: str, values: tuple[float, float]) -> None:
    for value in values:
        assert attrgetter(name)(build(SimConfig, nested(name, value))) == value
    for wild in (-1, values[0] - 1e-7, values[1] + 1e-9, "nan", "inf", 1e300):
        with pytest.raises(ConfigError, match=f"{name}: expected"):
            build(SimConfig, nested(name, wild))


@pytest.mark.parametrize("key", ["agents", "datasets"])
def test_names_are_some_and_each_once(key: str) -> None:
    assert build(RunConfig, {key: ["a", "b"]})
    for wrong in ([], ["a", "a"], ["a", ""], [" "]):
        with pytest.raises(ConfigError, match=f"{key}: expected"):
            build(RunConfig, {key: wrong})


def test_the_wall_limit_of_a_run() -> None:
    assert build(RunConfig, {"decision_timeout_s": "2.5"}).decision_timeout_s == 2.5
    for wrong in (0, -1, "nan", 1e9):
        with pytest.raises(ConfigError, match="decision_timeout_s: expected"):
            build(RunConfig, {"decision_timeout_s": wrong})


def test_an_interval_longer_than_the_episode_is_one_decision() -> None:
    assert play(quiet(), decision_interval_ns=MAX_INTERVAL_NS).counters["decisions"] == 1


def test_an_interval_of_the_data_that_is_no_interval() -> None:
    for wrong in (-1, MAX_INTERVAL_NS + 1, 2**63 - 1):
        with pytest.raises(ConfigError, match="decision_ns: expected 0 to 86400000000000 ns"):
            Session(replace(quiet(), decision_ns=wrong))
        assert (
            play(replace(quiet(), decision_ns=wrong), decision_interval_ns=SECOND).counters["decisions"] == 4
        )
    assert play(quiet(decision_ns=MAX_INTERVAL_NS)).counters["decisions"] == 1


def test_decisions_of_one_episode(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Episode(0, T0 + 1, T0 + 4 * SECOND)
    session = Session(quiet(), SimConfig(decision_interval_ns=MS))
    rows = (whole.end_ts - whole.start_ts) // MS + 2
    monkeypatch.setattr(limits, "MOST_DECISIONS", rows)
    assert session.run(Once(), whole).counters["decisions"] == rows - 1 == 4_000
    monkeypatch.setattr(limits, "MOST_DECISIONS", rows - 1)
    with pytest.raises(
        ConfigError, match=f"sim.decision_interval_ns: an episode of .* holds {rows} decisions"
    ):
        session.run(Once(), whole)
    year = replace(whole, end_ts=T0 + 365 * 86_400 * SECOND)
    with pytest.raises(ConfigError, match="decisions of 1000 ns"):
        Session(quiet(), SimConfig(decision_interval_ns=1000)).start(year)


# ---- what is on its way ------------------------------------------------------------------------------
def test_observations_on_their_way() -> None:
    most = (limits.MOST_WAITING - 2) * 1_000
    data = quiet(seconds=0.15)
    session = Session(data, SimConfig(decision_interval_ns=1_000, latency={"feed": most}))
    assert session.run(Once(), data.splits["test"][0]).counters["decisions"] > 0
    assert len(session.inspect().looks) == limits.MOST_WAITING
    with pytest.raises(
        ConfigError, match=r"sim.latency.feed: expected at most 65534 decision intervals of 1000 ns"
    ):
        Session(data, SimConfig(decision_interval_ns=1_000, latency={"feed": most + 1}))


def test_observations_on_their_way_where_the_pace_is_the_feeds(monkeypatch: pytest.MonkeyPatch) -> None:
    data = tiny_market(1, level="snapshot", seconds=60)
    assert data.decision_ns == 0
    monkeypatch.setattr(limits, "MOST_WAITING", 32)
    with pytest.raises(
        ConfigError, match=r"more than 32 observations on their way to the agent: lower sim.latency.feed"
    ):
        play(data, latency={"feed": 40 * SECOND})
    assert play(data, latency={"feed": 2 * SECOND}).counters["decisions"] > 50


@pytest.mark.parametrize("leg", ["order", "cancel", "reduce", "market", "ack"])
def test_messages_on_their_way(leg: str) -> None:
    most = (R.N_RING - 2) * MS
    data = quiet(seconds=6)
    assert play(data, decision_interval_ns=MS, latency={leg: most}).counters["decisions"] == 6_000
    with pytest.raises(ConfigError, match=r"sim.latency.order and sim.latency.ack: expected at most 4094"):
        play(data, decision_interval_ns=MS, latency={leg: most + 1})
    # an agent that thinks is asked less often
    slow = {"decision": 2 * MS, leg: most + 1}
    assert play(data, decision_interval_ns=MS, latency=slow).counters["decisions"] == 3_000
    with pytest.raises(
        ConfigError,
        match=r"more own orders or messages on their way than the engine keeps .*sim.latency.ack",
    ):
        play(tiny_market(3, level="L2", seconds=30, events_per_second=60), Touch(), decision_interval_ns=50 * MS,
             replace="always", latency={"order": 20 * SECOND})  # fmt: skip


def test_an_hour_is_an_hour() -> None:
    # nothing wraps around: what takes an hour arrives after the end
    data = tiny_market(3, level="L2", seconds=30, events_per_second=30)
    result = play(data, Touch(), latency={"order": MAX_LATENCY_NS, "ack": 0}, decision_interval_ns=SECOND)
    assert len(result.fills) == 0
    assert result.counters["orders"] == 0


# ---- recorded and drawn latencies ---------------------------------------------------------------------
@pytest.mark.parametrize("column", ["order_ns", "ack_ns", "cancel_ns", "feed_ns"])
def test_a_recording(column: str, tmp_path: Path) -> None:
    names = ["ts_ns", "order_ns", "ack_ns", "cancel_ns", "feed_ns"]

    def table(value: object) -> WireTable:
        row = {"ts_ns": T0, **dict.fromkeys(names[1:], 5), column: value}
        path = tmp_path / "x.csv"
        path.write_text(
            ",".join(names) + "\n" + ",".join(str(row[n]) for n in names) + "\n", encoding="utf-8"
        )
        return WireTable(LatencyConfig(file=str(path)))

    assert MAX_LATENCY_NS in table(MAX_LATENCY_NS).fill(0, 0)
    for value in (MAX_LATENCY_NS + 1, 8 * 10**18, 2**64, "9" * 90):
        with pytest.raises(
            DataError, match=rf"x\.csv, row 1, field '{column}': expected at most {MAX_LATENCY_NS} ns"
        ):
            table(value)
    for value in ("9" * 5000, "1e9", "nan", "", "-1"):
        with pytest.raises(DataError, match="expected a whole number of ns"):
            table(value)


def test_a_recording_that_is_none(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    for raw, error, message in (
        (b"ts_ns,order_ns,ack_ns\n99999999999999999999,1,1\n", DataError, "field 'ts_ns': expected at most"),
        (b"ts_ns,order_ns,order_ns,ack_ns\n1,1,1,1\n", DataError, "every column once"),
        (b"ts_ns,order_ns,ack_ns\n" + b"1" * 200_000 + b",1,1\n", DataError, "expected a CSV, field larger"),
        (b"\xff\xfe\x00", ConfigError, "sim.latency.file"),
    ):
        path.write_bytes(raw)
        with pytest.raises(error, match=message):
            WireTable(LatencyConfig(file=str(path)))
    for name in (str(tmp_path), "x" * 300, "a\0b"):
        with pytest.raises(ConfigError, match=r"sim\.latency\.file"):
            WireTable(LatencyConfig(file=name))


def test_drawn_latencies_stay_in_the_range() -> None:
    drawn = WireTable(LatencyConfig(order=10**6, sigma=3)).fill(0, 0)
    assert drawn.max() <= MAX_LATENCY_NS
    for median in (10**9, MAX_LATENCY_NS):
        with pytest.raises(
            ConfigError, match=r"sim.latency.sigma=3 draws a latency of .* s from a median of"
        ):
            WireTable(LatencyConfig(order=median, sigma=3)).fill(0, 0)


def test_an_episode_that_cannot_be_opened_leaves_the_session_as_it_was() -> None:
    data = tiny_market(3, level="L2", seconds=40, events_per_second=30)
    whole = data.splits["test"][0]
    middle = (whole.start_ts + whole.end_ts) // 2
    first, second = replace(whole, end_ts=middle), replace(whole, start_ts=middle)
    year = replace(second, end_ts=middle + 10**18)
    session = Session(data, SimConfig(decision_interval_ns=MS))
    session.run(Touch(), first)
    with pytest.raises(ConfigError, match="decisions of 1000000 ns"):
        session.run(Touch(), year, 1)
    again = session.run(Touch(), second, 1)  # goes on from the book of the first
    fresh = Session(data, SimConfig(decision_interval_ns=MS))
    fresh.run(Touch(), first)
    assert again.fills.tobytes() == fresh.run(Touch(), second, 1).fills.tobytes()
    assert len(again.fills) > 0


# ---- lots, prices and money ------------------------------------------------------------------------
@pytest.mark.parametrize("option", ["max_inventory_units", "max_order_units"])
def test_lots(option: str) -> None:
    others = {"max_inventory_units": 1, "max_order_units": 1}
    for unit, units in ((MAX_PX, 1), (1, 10**9), (2, 10**9)):
        assert play(quiet(unit_lots=unit), **{**others, option: units}).counters["decisions"] > 0
    for unit, units in ((MAX_PX + 1, 1), (3, 10**9), (2**62, 10**9)):
        with pytest.raises(
            ConfigError,
            match=rf"sim.max_\w+_units: expected 1 to {MAX_PX} lots, was \d+ \(hand-made has {unit} lots per",
        ):
            Session(quiet(unit_lots=unit), SimConfig(**{**others, option: units}))


def test_the_worth_of_an_inventory() -> None:
    px = 2**31 - 2
    lots = limits.MAX_VALUE // px
    data = quiet(px, max_inventory_units=lots)
    sim = {"max_order_units": 10**9, "decision_interval_ns": 2 * SECOND}
    assert play(data, **sim).counters["decisions"] == 2
    with pytest.raises(ConfigError, match=rf"an inventory of {lots + 1} lots at {px} ticks is worth more"):
        play(quiet(px, max_inventory_units=lots + 1), **sim)


def test_what_is_traded_in_an_episode_is_exact_or_refused() -> None:
    px, lots = 2**31 - 2, 5 * 10**8

    class Churn(Strategy):
        def quote(self, obs: Observation) -> Quotes:
            return Quotes(take=lots if obs.inventory == 0 else -lots)

    rows = [
        (T0, px - 1, 2**31 - 1, 0, EventKind.LEVEL, 1, LAST),
        (T0, px, 2**31 - 1, 0, EventKind.LEVEL, -1, LAST),
        (T0 + 9 * SECOND, px - 2, 1, 0, EventKind.LEVEL, 1, LAST),
    ]

    def churn(seconds: int) -> Any:
        data = market_from(
            rows,
            level="L2",
            episode=(T0 + 1, T0 + seconds * SECOND),
            decision_ns=SECOND,
            max_inventory_units=lots,
        )
        return play(data, Churn(), max_order_units=lots)

    once = churn(1)  # bought, and closed at the end
    assert int(np.sum(once.fills["qty"].astype(np.int64))) <= 2 * lots
    with pytest.raises(ConfigError, match=r"lots traded at up to .* lower sim.max_order_units"):
        churn(3)


@pytest.mark.parametrize("seed", [-1, 2**63])
def test_seeds_of_a_session(seed: int) -> None:
    with pytest.raises(ConfigError, match="seed: expected 0 to"):
        Session(quiet(), seed=seed)


# ---- parameters of the rules ---------------------------------------------------------------------------
RULES = ("foic", "liic", "glft", "avellaneda_stoikov", "strategies/template.py:Template")
ROOT = Path(__file__).resolve().parents[3]
WILD = [
    "0",
    "-1",
    "-3",
    "1e300",
    "-1e300",
    "5e-324",
    "nan",
    "inf",
    "-inf",
    str(2**31),
    str(2**63),
    str(-(2**70)),
    "x",
    "",
]
CASES = [
    (str(ROOT / rule) if "/" in rule else rule, name)
    for rule in RULES
    for name in parameters(resolve(str(ROOT / rule) if "/" in rule else rule))
]
MARKET = tiny_market(3, level="L2", seconds=12, events_per_second=30)
CALIBRATION = {"sigma": 0.8, "A": 0.5, "k": 0.4, "mean_spread": 3.0}


@pytest.mark.parametrize(("rule", "name"), CASES, ids=[f"{Path(rule).stem}-{name}" for rule, name in CASES])
def test_a_parameter_without_sense_is_named_and_the_others_play(rule: str, name: str) -> None:
    played = []
    for value in WILD:
        try:
            agent = make_agent(rule, {name: value})
            Session(MARKET, calibration=CALIBRATION).run(agent, MARKET.splits["test"][0])
            played.append(value)
        except (AgentError, ConfigError) as err:
            assert name in str(err), err  # noqa: PT017 (it need not raise)
    assert not {"nan", "inf", "-inf", "x"} & set(played)
    if name in {"size_units", "c"}:
        assert not {"-1", "-3", str(-(2**70))} & set(played)
