"""Virtual orders: fates worked out by hand on a tape small enough to follow."""

from dataclasses import replace

import numpy as np
import pytest

from mmsim.config import SimConfig
from mmsim.data.views import level_view, snapshot_view
from mmsim.errors import ConfigError, DataError
from mmsim.scoring.probes import (
    INSIDE,
    INSIDE_HALF,
    UNFILLED,
    Plan,
    compare,
    fates,
    passes,
    spans,
)
from mmsim.testing import market_from, tiny_market
from mmsim.testing.markets import SECOND, T0
from mmsim.types import Episode, EventFlag, EventKind

K, LAST = EventKind, EventFlag.LAST


def at(seconds):
    return T0 + round(seconds * SECOND)


def tape(extra=(), ask=103):
    """A bid of 4 lots (order 0) at 100, an ask of 10 at `ask`; `extra` rows; a quiet last row."""
    rows = [
        (at(0), 100, 4, 0, K.ADD, 1, LAST),
        (at(0), 99, 7, 3, K.ADD, 1, LAST),
        (at(0), ask, 10, 1, K.ADD, -1, LAST),
        *extra,
        (at(25), 90, 1, 9, K.ADD, 1, LAST),
    ]
    return market_from(rows, episode=(at(10), at(20)), unit_lots=3)


# We join behind order 0 (4 lots) at 10 s; order 2 (4 lots) joins behind us; 2 lots of order 0 leave.
CANCELLED_AHEAD = [
    (at(11), 100, 4, 2, K.ADD, 1, LAST),
    (at(12), 100, 2, 0, K.REDUCE, 1, LAST),
    (at(13), 100, 2, 0, K.EXECUTE, 1, LAST),
    (at(14), 100, 1, 2, K.EXECUTE, 1, LAST),
    (at(15), 100, 1, 2, K.EXECUTE, 1, LAST),
    (at(16), 100, 1, 2, K.EXECUTE, 1, LAST),
]
ONE = Plan(places=(0,), units=("lot",), lives_ns=10 * SECOND, grid_ns=10 * SECOND)


def by_side(probes, fate):
    return {int(p["side"]): int(f) for p, f in zip(probes, fate, strict=True)}


def test_the_truth_and_what_the_models_make_of_it():
    data = tape(CANCELLED_AHEAD)
    models = [
        ("risk_averse", SimConfig(queue_model="risk_averse")),  # both lots left from behind us: 4 ahead still
        ("proportional", SimConfig(queue_model="proportional")),  # one of them from ahead: 3 ahead
    ]
    probes, truth, said = compare(data, level_view(data), "test", ONE, models)
    assert by_side(probes, truth) == {1: 4 * SECOND, -1: UNFILLED}
    assert by_side(probes, said["proportional"]) == {1: 5 * SECOND, -1: UNFILLED}
    assert by_side(probes, said["risk_averse"]) == {1: 6 * SECOND, -1: UNFILLED}
    bid = probes[probes["side"] == 1][0]
    assert (bid["ts"], bid["px"], bid["qty"], bid["ahead"], bid["place"]) == (at(10), 100, 1, 4, 0)


def test_a_function_of_ones_own_is_scored_like_the_others(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("def first(ahead, behind, gone):\n    return gone\n", encoding="utf-8")  # all from ahead
    data = tape(CANCELLED_AHEAD)
    probes, truth, said = compare(
        data, level_view(data), "test", ONE, [("mine", SimConfig(queue_model=f"{file}:first"))]
    )
    assert by_side(probes, said["mine"]) == by_side(probes, truth)


def test_an_order_counts_as_filled_with_its_last_lot():
    data = tape(CANCELLED_AHEAD)
    plan = replace(ONE, units=("unit",))
    probes, fate = fates(data, "test", plan, SimConfig())
    assert by_side(probes, fate) == {1: 6 * SECOND, -1: UNFILLED}
    assert probes["qty"].tolist() == [3, 3]


def test_what_is_only_partly_filled_is_not_filled():
    data = tape(CANCELLED_AHEAD[:-1])
    probes, fate = fates(data, "test", replace(ONE, units=("unit",)), SimConfig())
    assert by_side(probes, fate) == {1: UNFILLED, -1: UNFILLED}


def test_places_behind_the_best_price():
    data = tape()
    probes, _ = fates(data, "test", replace(ONE, places=(1,)), SimConfig())
    assert [(int(p["side"]), int(p["px"]), int(p["ahead"])) for p in probes] == [(1, 99, 7)]  # one ask level


@pytest.mark.parametrize(
    ("ask", "place", "expected"),
    [
        (101, INSIDE, []),  # no room
        (102, INSIDE, []),  # both would stand at 101, which is odd: see below
        (103, INSIDE, [(1, 101), (-1, 102)]),
        (103, INSIDE_HALF, []),  # the middle is where INSIDE stands
        (105, INSIDE_HALF, [(1, 102), (-1, 103)]),
        (104, INSIDE_HALF, [(1, 102)]),  # both at 102: the bid has it on even ticks
    ],
)
def test_places_inside_the_spread(ask, place, expected):
    data = tape(ask=ask)
    if ask == 102:
        expected = [(-1, 101)]
    plan = replace(ONE, places=(place,))
    if not expected:
        probes, fate = fates(data, "test", plan, SimConfig())
        assert len(probes) == len(fate) == 0
        return
    probes, _ = fates(data, "test", plan, SimConfig())
    assert [(int(p["side"]), int(p["px"])) for p in probes] == expected
    assert probes["ahead"].tolist() == [0] * len(expected)


def test_the_rules_for_a_quote_inside_the_spread():
    # Snapshots every second. A buy of 2 lots prints at the ask, then a sale of 2 lots at the bid, best prices unmoved.
    data = tape(
        [(at(11.2), 103, 2, 1, K.EXECUTE, -1, LAST), (at(13.2), 100, 2, 0, K.EXECUTE, 1, LAST)],
    )
    rules = [(rule, SimConfig(inside=rule)) for rule in ("through", "any", "strict")]
    plan = replace(ONE, places=(INSIDE,))
    probes, truth, said = compare(data, snapshot_view(data, SECOND, 5), "test", plan, rules)
    assert by_side(probes, truth) == {1: round(3.2 * SECOND), -1: round(1.2 * SECOND)}
    assert by_side(probes, said["through"]) == {1: 4 * SECOND, -1: 2 * SECOND}
    assert by_side(probes, said["any"]) == {1: 2 * SECOND, -1: 2 * SECOND}
    assert by_side(probes, said["strict"]) == {1: UNFILLED, -1: UNFILLED}


def test_every_place_size_and_offset_is_a_pass_of_its_own():
    data = tiny_market(seconds=5, unit_lots=4)
    plan = Plan(places=(0, 1), lives_ns=10 * SECOND, grid_ns=5 * SECOND)
    assert passes(data, plan) == [(p, s, o) for p in (0, 1) for s in (1, 4) for o in (0, 5 * SECOND)]
    assert plan.sizes(1) == (1,), "one lot is the unit: not twice"


def test_every_order_lives_its_whole_life_and_the_grid_is_regular():
    data = tiny_market(3, seconds=120)
    plan = Plan(places=(0,), units=("lot",), lives_ns=2 * SECOND, grid_ns=SECOND)
    probes, fate = fates(data, "train", plan, SimConfig())
    (span,) = spans(data, "train")
    bids = np.sort(probes["ts"][probes["side"] == 1])
    assert bids[0] == -(-span.start_ts // plan.grid_ns) * plan.grid_ns
    assert set(np.diff(bids).tolist()) == {plan.grid_ns}
    assert bids[-1] + plan.lives_ns <= span.end_ts < bids[-1] + plan.lives_ns + plan.grid_ns
    filled = fate[fate != UNFILLED]
    assert 0 < len(filled) < len(fate)
    assert filled.min() > 0
    assert filled.max() <= plan.lives_ns


def test_orders_do_not_depend_on_the_model():
    data = tiny_market(3, seconds=120)
    plan = Plan(lives_ns=20 * SECOND, grid_ns=10 * SECOND)
    models = [("risk_averse", SimConfig(queue_model="risk_averse")), ("log", SimConfig(queue_model="log"))]
    probes, truth, said = compare(data, level_view(data), "train", plan, models)
    assert len(probes) == len(truth) == len(said["log"])
    # the most careful model never fills before the truth does
    late = np.where(said["risk_averse"] == UNFILLED, np.iinfo(np.int64).max, said["risk_averse"])
    assert (late >= np.where(truth == UNFILLED, np.iinfo(np.int64).max, truth)).all()


def test_another_market_is_not_a_view_of_this_one():
    a, b = tiny_market(3, seconds=60), tiny_market(4, seconds=60)
    plan = Plan(places=(0,), units=("lot",), lives_ns=10 * SECOND, grid_ns=10 * SECOND)
    with pytest.raises(DataError, match="expected the same orders on the day and on its view"):
        compare(a, level_view(b), "train", plan, [("log", SimConfig(queue_model="log"))])


def test_adjacent_episodes_are_joined():
    data = tape()
    parts = (Episode(0, at(14), at(20)), Episode(0, at(10), at(14)), Episode(0, at(22), at(24)))
    data = replace(data, splits={"test": parts})
    assert spans(data, "test") == (Episode(0, at(10), at(20)), Episode(0, at(22), at(24)))
    with pytest.raises(DataError, match="no train split to place orders on"):
        spans(data, "train")


def test_impossible_plans_say_so():
    with pytest.raises(ConfigError, match="multiple of the grid"):
        Plan(lives_ns=10, grid_ns=3)
    with pytest.raises(ConfigError, match="stretch of at least 40 s"):
        fates(tape(), "test", Plan(lives_ns=40 * SECOND, grid_ns=40 * SECOND), SimConfig())
    plan = Plan.living(120)
    assert (plan.lives_ns, plan.grid_ns, plan.horizons_s) == (120 * SECOND, 6 * SECOND, (3, 10, 30, 120))
