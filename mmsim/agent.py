"""The one interface: everything that quotes is an `Agent`, and the session asks it one question.

Rule baselines, RL policies, the LLM teacher, students and the CMM ensemble all implement `quote`.
Users subclass `Strategy`, whose parameters are annotated class attributes.
"""

from __future__ import annotations

import inspect
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, get_type_hints

import numpy as np
import numpy.typing as npt

from mmsim.errors import ConfigError, UncalibratedError, did_you_mean, shown, told
from mmsim.records import MAX_PX, N_SCALARS
from mmsim.types import MAX_DEPTH, Instrument

Level = tuple[int, int]  # (price in ticks, quantity in lots)


class Quotes(NamedTuple):
    """The *desired* state of our orders: what should rest in the market from now on.

    ``bids`` and ``asks`` are tuples of ``(px, qty)`` in ticks and lots, best first or in any order,
    at most one per price. The session compares them with the live orders and sends the difference.
    ``post_only`` rejects (as an event, not an error) an order that would trade on arrival; otherwise
    it takes what it crosses and rests the remainder. ``take`` is a signed quantity in lots to trade
    at once by a market order.
    """

    bids: tuple[Level, ...] = ()
    asks: tuple[Level, ...] = ()
    post_only: bool = True
    take: int = 0

    @classmethod
    def two_sided(cls, bid_px: int, ask_px: int, qty: int) -> Quotes:
        """Quote `qty` lots at `bid_px` and at `ask_px` (ticks)."""
        return cls(((bid_px, qty),), ((ask_px, qty),))

    @classmethod
    def none(cls) -> Quotes:
        """Quote nothing: live orders are cancelled."""
        return _NO_QUOTES


_NO_QUOTES = Quotes()


def to_ticks(px: float, side: int) -> int:
    """Round a price in fractional ticks away from the market: bids (+1) floor, asks (-1) ceil.

    Raises
    ------
    ValueError
        If the price is not finite (the session reports it as an `AgentError`).

    Examples
    --------
    >>> to_ticks(100.4, 1), to_ticks(100.4, -1)
    (100, 101)
    """
    if not math.isfinite(px):
        raise ValueError(f"a quote's price must be finite, was {px}")
    return math.floor(px) if side > 0 else math.ceil(px)


def within_limits(
    bid_px: int, ask_px: int, qty: int, obs: Observation, ctx: SessionContext, limit: int | None = None
) -> Quotes:
    """Quote `qty` lots on both sides as far as the limits allow.

    Prices stay passive (bid below the best ask, ask above the best bid). A side shrinks to the lots
    that keep the acknowledged inventory within ``+-limit`` even if it fills completely, and to
    ``ctx.max_order``; it is dropped at zero lots or a price outside 1 to ``MAX_PX`` ticks.

    Parameters
    ----------
    bid_px, ask_px
        Desired prices, ticks.
    qty
        Desired quantity on each side, lots.
    limit
        The agent's own bound on its absolute inventory, lots; default and maximum ``ctx.max_inventory``.
    """
    bound = ctx.max_inventory if limit is None else min(limit, ctx.max_inventory)
    most = min(qty, ctx.max_order)
    buy = min(most, bound - obs.inventory)
    sell = min(most, bound + obs.inventory)
    bid_px = min(bid_px, obs.ask_px - 1)
    ask_px = max(ask_px, obs.bid_px + 1)
    return Quotes(
        ((bid_px, buy),) if buy > 0 and 0 < bid_px <= MAX_PX else (),
        ((ask_px, sell),) if sell > 0 and 0 < ask_px <= MAX_PX else (),
    )


@dataclass(frozen=True)
class SessionContext:
    """What an agent may know when an episode starts.

    ``max_inventory`` is in lots; ``unit`` is the usual order size in lots; ``calibration`` holds the
    market's fitted constants (see ``mmsim calibrate``); ``decision_ns`` is the time between
    decisions (0: one per snapshot, see ``typical_decision_ns``).
    """

    instrument: Instrument
    dataset: str
    max_inventory: int
    max_order: int
    max_levels: int
    unit: int
    start_ts: int
    end_ts: int
    decision_ns: int
    rng: np.random.Generator
    calibration: Mapping[str, float] = field(default_factory=dict)
    typical_decision_ns: int = 500_000_000
    checkpoints: Path | None = None  # folder that holds NAME/ checkpoint folders; None: the shipped ones

    def constants(self, *names: str) -> tuple[float, ...]:
        """Return constants of ``calibration``, in the order asked for.

        Raises
        ------
        UncalibratedError
            If one is missing: the market has not been calibrated.
        """
        missing = [name for name in names if name not in self.calibration]
        if missing:
            raise UncalibratedError(
                f"dataset {self.dataset!r} has no calibrated {', '.join(missing)}",
                f"run: mmsim calibrate {self.dataset} --write, or hand them to the Session (calibration=...)",
            )
        return tuple(float(self.calibration[name]) for name in names)


# Places of the scalars in an observation; a list is read faster than a record.
(
    _TS,
    _STEP,
    _N_BID,
    _N_ASK,
    _INVENTORY,
    _BUY_QTY,
    _SELL_QTY,
    _BUY_NOTIONAL,
    _SELL_NOTIONAL,
    _LAST_TRADE_PX,
    _TIME_LEFT,
    _CASH,
    _N_ORDERS,
    _N_TRADES,
    _BID_PX,
    _BID_QTY,
    _ASK_PX,
    _ASK_QTY,
    _EXCH_TS,
    _SPARE,
) = range(N_SCALARS)


class Observation:
    """What the agent knows at one decision. Valid until the next; `copy` keeps it.

    ``record`` is the ``(1,)`` `mmsim.records.OBSERVATION` array behind it, for kernels. A session hands it out
    read-only; `copy` may be written to.
    """

    __slots__ = ("_head", "_orders", "_top", "record")

    def __init__(self, record: npt.NDArray[np.void], orders: npt.NDArray[np.void]) -> None:
        self.record = record
        self._orders = orders
        self._top = record.view(np.int64)[:N_SCALARS]
        self._head: list[int] = self._top.tolist()

    def _refresh(self) -> Observation:
        # The session hands out one object and renews what it shows.
        self._head = self._top.tolist()
        return self

    def copy(self) -> Observation:
        """Return an observation that stays valid after the next decision."""
        return Observation(self.record.copy(), self.orders.copy())

    @property
    def orders(self) -> npt.NDArray[np.void]:
        """Own orders as far as the agent knows, ``(n,)`` `OWN_ORDER`, with their queue positions."""
        return self._orders[: self._head[_N_ORDERS]]

    @property
    def ts(self) -> int:
        """Local time of the decision, ns since the epoch."""
        return self._head[_TS]

    @property
    def exch_ts(self) -> int:
        """Exchange time up to which the market is known, ns; ``ts`` minus the feed latency."""
        return self._head[_EXCH_TS]

    @property
    def step(self) -> int:
        """Zero-based index of the decision in the episode."""
        return self._head[_STEP]

    @property
    def inventory(self) -> int:
        """Acknowledged signed inventory, lots."""
        return self._head[_INVENTORY]

    @property
    def cash(self) -> int:
        """Acknowledged cash, tick-lots, before fees; of an inverse contract it is no money."""
        return self._head[_CASH]

    @property
    def time_left_ns(self) -> int:
        """Time to the end of the episode, ns."""
        return self._head[_TIME_LEFT]

    @property
    def bid_px(self) -> int:
        """Best bid, ticks."""
        return self._head[_BID_PX]

    @property
    def ask_px(self) -> int:
        """Best ask, ticks."""
        return self._head[_ASK_PX]

    @property
    def bid_qty(self) -> int:
        """Quantity at the best bid, lots."""
        return self._head[_BID_QTY]

    @property
    def ask_qty(self) -> int:
        """Quantity at the best ask, lots."""
        return self._head[_ASK_QTY]

    @property
    def mid2(self) -> int:
        """Twice the mid-price, ticks (exact)."""
        return self._head[_BID_PX] + self._head[_ASK_PX]

    @property
    def spread_ticks(self) -> int:
        """Best ask minus best bid, ticks."""
        return self._head[_ASK_PX] - self._head[_BID_PX]

    @property
    def microprice(self) -> float:
        """Size-weighted mid-price, ticks."""
        b, a = self._head[_BID_QTY], self._head[_ASK_QTY]
        return (self._head[_ASK_PX] * b + self._head[_BID_PX] * a) / (a + b)

    @property
    def buy_qty(self) -> int:
        """Lots traded by aggressive buyers since the last decision."""
        return self._head[_BUY_QTY]

    @property
    def sell_qty(self) -> int:
        """Lots traded by aggressive sellers since the last decision."""
        return self._head[_SELL_QTY]

    @property
    def last_trade_px(self) -> int:
        """Price of the last trade, ticks; 0 before the first."""
        return self._head[_LAST_TRADE_PX]

    @property
    def n_bid(self) -> int:
        """Bid levels shown (at most ``MAX_DEPTH``)."""
        return self._head[_N_BID]

    @property
    def n_ask(self) -> int:
        """Ask levels shown (at most ``MAX_DEPTH``)."""
        return self._head[_N_ASK]

    @property
    def bid_pxs(self) -> npt.NDArray[np.int64]:
        """Bid prices, best first, ``(n_bid,)`` ticks; levels the feed lacks are not shown."""
        return self.record["bid_pxs"][0, : self._head[_N_BID]]

    @property
    def bid_qtys(self) -> npt.NDArray[np.int64]:
        """Bid quantities, best first, ``(n_bid,)`` lots."""
        return self.record["bid_qtys"][0, : self._head[_N_BID]]

    @property
    def ask_pxs(self) -> npt.NDArray[np.int64]:
        """Ask prices, best first, ``(n_ask,)`` ticks."""
        return self.record["ask_pxs"][0, : self._head[_N_ASK]]

    @property
    def ask_qtys(self) -> npt.NDArray[np.int64]:
        """Ask quantities, best first, ``(n_ask,)`` lots."""
        return self.record["ask_qtys"][0, : self._head[_N_ASK]]


class Fill(NamedTuple):
    """One own execution, as the agent learns of it."""

    ts: int
    order_id: int
    side: int
    px: int
    qty: int
    maker: bool
    reason: int


class Agent(ABC):
    """Supplies quotes. Store parameters in ``__init__``, implement `quote`.

    A session turns whatever goes wrong in a hook into an `AgentError`, ``sys.exit()`` included. An agent that
    measures a decision itself may have an attribute ``last_latency_ns``: ns, or None for the session's clock.
    """

    name: ClassVar[str] = ""
    levels_read: ClassVar[int] = MAX_DEPTH
    """Levels per side that the agent reads, 1 to `MAX_DEPTH`: it is shown no more, and fewer are gathered faster."""

    def reset(self, ctx: SessionContext) -> None:
        """Prepare for an episode. Randomness only from ``ctx.rng``; ``ctx`` is the agent's own copy."""

    @abstractmethod
    def quote(self, obs: Observation) -> Quotes:
        """Return the desired quotes for what is known now; ticks and lots only."""

    def on_fill(self, fill: Fill) -> None:
        """Learn of a fill (called before the next `quote`). Optional."""

    def close(self) -> None:
        """Release what the agent holds. Optional."""


class Strategy(Agent):
    """An agent whose parameters are annotated class attributes.

    Examples
    --------
    >>> class Touch(Strategy):
    ...     offset_ticks: int = 0
    ...     def quote(self, obs):
    ...         return Quotes.two_sided(obs.bid_px - self.offset_ticks, obs.ask_px + self.offset_ticks, 1)
    >>> Touch(offset_ticks=2)
    Touch(offset_ticks=2)
    >>> Touch(ofset_ticks=2)
    Traceback (most recent call last):
    mmsim.errors.ConfigError: Touch has no parameter 'ofset_ticks' (did you mean 'offset_ticks'?)
    """

    def __init__(self, **params: Any) -> None:
        known = self.parameters()
        for key, value in params.items():
            if key not in known:
                raise ConfigError(f"{type(self).__name__} has no parameter {key!r}{did_you_mean(key, known)}")
            setattr(self, key, coerce(value, known[key][0], f"{type(self).__name__}.{key}"))

    @classmethod
    def parameters(cls) -> dict[str, tuple[Any, Any]]:
        """Return ``{name: (type, default)}`` of the class's parameters, bases first.

        Raises
        ------
        ConfigError
            If an annotation names a type that is not there.
        """
        out: dict[str, tuple[Any, Any]] = {}
        for klass in reversed(cls.__mro__):
            hints = _hints(klass) if issubclass(klass, Strategy) else {}
            for key in inspect.get_annotations(klass):
                hint = hints.get(key)
                if key.startswith("_") or key == "name" or hint is None or not hasattr(cls, key):
                    continue
                if str(hint).startswith("typing.ClassVar"):
                    continue
                out[key] = (hint, getattr(cls, key))
        return out

    def at_least(self, **least: float) -> None:
        """Check that parameters are not below what makes sense; one that is None is not looked at.

        Raises
        ------
        ConfigError
            For the first that is.
        """
        for key, bound in least.items():
            value = getattr(self, key)
            if value is not None and not value >= bound:
                raise ConfigError(
                    f"{type(self).__name__}.{key}: expected at least {bound}, was {shown(value)}"
                )

    def __repr__(self) -> str:
        changed = [
            f"{k}={getattr(self, k)!r}"
            for k, (_, default) in self.parameters().items()
            if getattr(self, k) != default
        ]
        return f"{type(self).__name__}({', '.join(changed)})"


def _hints(klass: type[Strategy]) -> dict[str, Any]:
    try:
        return get_type_hints(klass)
    except Exception as err:
        raise ConfigError(
            f"{klass.__name__}: an annotation cannot be resolved ({told(err)}); parameters are int, float, bool, "
            "str, or one of them | None, and a type that is imported must be so when the program runs"
        ) from err


def coerce(value: Any, kind: Any, where: str) -> Any:
    """Turn text from a command line or TOML into `kind` (int, float, bool, str, or one ``| None``).

    Raises
    ------
    ConfigError
        If the value is not of that kind.
    """
    kinds = getattr(kind, "__args__", (kind,))
    if type(None) in kinds:
        if value is None or (isinstance(value, str) and value in ("none", "None", "")):
            return None
        kinds = tuple(k for k in kinds if k is not type(None))
    target = kinds[0]
    try:
        if target is bool:
            if isinstance(value, bool):
                return value
            return {"true": True, "1": True, "false": False, "0": False}[str(value).lower()]
        if target is int:
            if isinstance(value, bool) or (isinstance(value, float) and value != int(value)):
                raise ValueError
            return int(value)
        if target is float:
            if isinstance(value, bool) or not math.isfinite(float(value)):
                raise ValueError
            return float(value)
        if target is str:
            return str(value)
    except (KeyError, ValueError, TypeError, OverflowError):
        expected = "float (a finite number)" if target is float else target.__name__
        raise ConfigError(f"{where}: expected {expected}, was {shown(value)}") from None
    return value
