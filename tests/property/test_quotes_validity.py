"""What `Session.step` accepts, against an oracle in plain Python: nothing valid refused, nothing invalid taken."""

from __future__ import annotations

import math
import numbers
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmsim.agent import Quotes, Strategy
from mmsim.config import SimConfig
from mmsim.errors import AgentError, Status
from mmsim.sim.session import Session
from mmsim.testing.markets import SECOND, T0, market_from
from mmsim.types import EventFlag, EventKind

LAST = int(EventFlag.LAST)
MOST_LEVELS, MOST_LOTS, MOST_HELD = 3, 12, 12
ROWS = [
    (T0, 100, 10, 0, EventKind.LEVEL, 1, LAST),
    (T0, 102, 10, 0, EventKind.LEVEL, -1, LAST),
    (T0 + 9 * SECOND, 99, 1, 0, EventKind.LEVEL, 1, LAST),
]
DATA = market_from(ROWS, level="L2", episode=(T0 + 1, T0 + 8 * SECOND), max_inventory_units=MOST_HELD)
SESSION = Session(
    DATA, SimConfig(max_levels=MOST_LEVELS, max_order_units=MOST_LOTS, decision_interval_ns=SECOND)
)


@dataclass
class Whole:
    """A whole number of somebody else's."""

    value: int

    def __index__(self) -> int:
        return self.value


def whole(value: object) -> int | None:
    """The number that `value` is, None if it is not a whole one."""
    if isinstance(value, Whole):
        return value.value
    if isinstance(value, np.ndarray):
        return whole(value.item()) if value.ndim == 0 else None
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float | Decimal) and not math.isfinite(value):
        return None
    if isinstance(value, numbers.Real | Decimal) and value == math.floor(value):
        return math.floor(value)
    return None


def side(levels: object) -> list[tuple[int, int]] | None:
    if isinstance(levels, str | dict) and not levels:
        return []  # no levels, whatever they are not in
    if not isinstance(levels, tuple | list) or len(levels) > MOST_LEVELS:
        return None
    out = []
    for level in levels:
        if not isinstance(level, tuple | list) or len(level) != 2:
            return None
        px, qty = whole(level[0]), whole(level[1])
        if px is None or qty is None or not 0 < px < 2**31 - 1 or not 0 < qty < 2**31 - 1:
            return None
        out.append((px, qty))
    return out if len({px for px, _ in out}) == len(out) else None


def valid(quotes: object, held: int = 0) -> tuple | None:
    """The oracle: (bids, asks, post_only, take) as ints, or None."""
    if not isinstance(quotes, Quotes):
        return None
    bids, asks, take = side(quotes.bids), side(quotes.asks), whole(quotes.take)
    flag = whole(quotes.post_only)
    if bids is None or asks is None or take is None or flag not in (0, 1):
        return None
    if isinstance(quotes.take, bool | np.bool_) and take:
        return None
    if bids and asks and max(px for px, _ in bids) >= min(px for px, _ in asks):
        return None
    buy, sell = sum(q for _, q in bids) + max(take, 0), sum(q for _, q in asks) + max(-take, 0)
    if max(buy, sell) > MOST_LOTS or held + buy > MOST_HELD or held - sell < -MOST_HELD:
        return None
    return bids, asks, flag, take


NASTY = st.sampled_from(
    [
        None, "", "5", [], (), {}, 0.5, -1, 0, 1, True, False, np.True_, np.False_, float("nan"), float("inf"), -math.inf,
        2**31 - 2, 2**31 - 1, 2**31, 2**63 - 1, 2**63, -(2**63), -(2**63) + 3, 2**70, -(2**70), 10**5000, np.int8(3),
        np.uint64(2**64 - 1), np.float32(2), np.float64("nan"), np.array(4), np.array([4]), np.array([1, 2]), Decimal(7),
        Decimal("7.5"), Decimal("NaN"), Fraction(3), Fraction(1, 3), 1 + 0j, b"a", object(), Whole(2), 1.0, 100.0, {1: 2},
    ]
)  # fmt: skip
PX, QTY = st.integers(97, 105), st.integers(1, 6)
LEVEL = st.tuples(PX, QTY) | st.tuples(PX | NASTY, QTY | NASTY) | st.lists(PX, max_size=3) | NASTY
SIDE = st.lists(st.tuples(PX, QTY), max_size=4).map(tuple) | st.lists(LEVEL, max_size=4).map(tuple) | NASTY
QUOTES = st.one_of(
    st.builds(Quotes, SIDE, SIDE, st.booleans(), st.integers(-13, 13)),
    st.builds(Quotes, SIDE, SIDE, NASTY, NASTY),
    st.builds(Quotes, st.just(()), st.just(()), st.booleans() | NASTY, NASTY),
    st.tuples(SIDE, SIDE, st.booleans(), st.integers(-2, 2)),
    NASTY,
)


@settings(max_examples=600, deadline=None)
@given(QUOTES)
def test_step_takes_exactly_what_is_valid(quotes: object) -> None:
    SESSION.start(DATA.splits["test"][0])
    expected = valid(quotes)
    if expected is None:
        with pytest.raises(AgentError, match=r"decision 0 at \d+ ns: "):
            SESSION.step(quotes)  # type: ignore[arg-type]
        return
    bids, asks, post_only, take = expected
    SESSION.step(quotes)  # type: ignore[arg-type]
    n, m = len(bids), len(asks)
    want = SESSION.inspect().state.want
    assert want.tolist()[:6] == (n, m, post_only, take, 0, 0)
    assert want.bids[:n].tolist() == [tuple(level) for level in bids]
    assert want.asks[:m].tolist() == [tuple(level) for level in asks]


WANTED = st.lists(
    st.integers(-2, 20) | st.sampled_from([-(2**63), -(2**63) + 1, 2**63 - 1, 2**62, 2**31, -(2**31)]), min_size=8, max_size=10
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.integers(-1, 4), st.integers(-1, 4), st.sampled_from([0, 1, 2, -1, 2**40]), WANTED)
def test_the_kernel_refuses_the_same_of_compiled_strategies(
    n: int, m: int, post_only: int, numbers_: list[int]
) -> None:
    SESSION.start(DATA.splits["test"][0])
    take, *flat = numbers_
    flat += [1] * 16
    levels = list(zip(flat[::2], flat[1::2], strict=False))
    want = SESSION.inspect().state.want
    want.n_bids, want.n_asks, want.post_only, want.take_qty, want.latency_ns, want.wall_ns = (
        n,
        m,
        post_only,
        take,
        0,
        0,
    )
    want.bids[: max(n, 0)] = levels[: max(n, 0)]
    want.asks[: max(m, 0)] = levels[n : n + m] if min(n, m) >= 0 else levels[: max(m, 0)]
    fine = (
        min(n, m) >= 0
        and valid(Quotes(tuple(levels[:n]), tuple(levels[n : n + m]), post_only, take)) is not None
    )
    refused = SESSION._kernel(*SESSION._arrays()) == Status.BAD_QUOTES
    assert refused == (not fine)


class Raises:
    """Raises wherever it is touched."""

    def __init__(self, where: str, what: type[BaseException] = RuntimeError) -> None:
        self.where, self.what = where, what

    def _at(self, where: str) -> None:
        if where == self.where:
            raise self.what("touched")

    def __len__(self) -> int:
        self._at("len")
        return 1

    def __iter__(self):  # type: ignore[no-untyped-def]
        self._at("iter")
        return iter(((101, 1),))

    def __index__(self) -> int:
        self._at("index")
        return 1

    def __int__(self) -> int:
        self._at("int")
        return 1

    def __eq__(self, other: object) -> bool:
        self._at("eq")
        return False

    def __bool__(self) -> bool:
        self._at("bool")
        return True

    def __repr__(self) -> str:
        self._at("repr")
        return "Raises"

    __hash__ = None  # type: ignore[assignment]


class Says(Strategy):
    def __init__(self, quotes: object) -> None:
        super().__init__()
        self.says = quotes

    def __repr__(self) -> str:
        return "Says()"

    def quote(self, obs):  # type: ignore[no-untyped-def]
        return self.says


@pytest.mark.parametrize("what", [RuntimeError, TypeError, ValueError, SystemExit, GeneratorExit])
@pytest.mark.parametrize("where", ["len", "iter", "index", "int", "eq", "bool", "repr"])
@pytest.mark.parametrize("place", ["quotes", "bids", "level", "price", "size", "post_only", "take"])
def test_objects_that_raise_are_the_agents_fault_if_they_are_looked_at(
    place: str, where: str, what: type
) -> None:
    bad = Raises(where, what)
    quotes = {
        "quotes": bad,
        "bids": Quotes(bad),  # type: ignore[arg-type]
        "level": Quotes((bad,)),  # type: ignore[arg-type]
        "price": Quotes(((bad, 1),)),  # type: ignore[arg-type]
        "size": Quotes(((99, bad),)),  # type: ignore[arg-type]
        "post_only": Quotes((), (), bad),  # type: ignore[arg-type]
        "take": Quotes((), (), True, bad),  # type: ignore[arg-type]
    }[place]
    try:
        SESSION.run(Says(quotes), DATA.splits["test"][0])
    except AgentError as err:
        assert "agent Says(), decision 0" in str(err)  # noqa: PT017 (it need not raise)
    else:  # the number 1, or one level: what it is unless it is touched where it raises
        assert place in {"bids", "price", "size", "post_only", "take"}
