"""What the engine can hold, checked before anything runs: each limit by the name of the option that meets it.

The ranges of single options stand in `mmsim.config`; here is what depends on the market, or on two together.
"""

from __future__ import annotations

from mmsim.config import MAX_INTERVAL_NS, SimConfig
from mmsim.errors import ConfigError
from mmsim.records import MAX_PX
from mmsim.sim import records as R
from mmsim.types import MarketData

MAX_VALUE = (
    2**61
)  # tick-lots held, or traded in one episode: cash, twice it, and its sums stay inside an int64
MOST_WAITING = 65_536  # observations on their way to the agent (2.5 kB each)
MOST_DECISIONS = 100_000_000  # rows of one episode (100 bytes each)


def check(data: MarketData, sim: SimConfig, decision_ns: int, max_inventory: int, max_order: int) -> None:
    """Check the limits of a session on `data`.

    Parameters
    ----------
    decision_ns : int
        Time between decisions, ns; 0: one per snapshot, whose pace is not known in advance.
    max_inventory, max_order : int
        In lots.

    Raises
    ------
    ConfigError
        If the engine cannot hold it; the message names the options.
    """
    if not 0 <= decision_ns <= MAX_INTERVAL_NS:
        raise ConfigError(
            f"{data.name}: decision_ns: expected 0 to {MAX_INTERVAL_NS} ns (a day), was {decision_ns}: set "
            "sim.decision_interval_ns"
        )
    _lots("sim.max_inventory_units", max_inventory, data)
    _lots("sim.max_order_units", max_order, data)
    if data.px_max * max_inventory > MAX_VALUE:
        raise ConfigError(
            f"{data.name}: an inventory of {max_inventory} lots at {data.px_max} ticks is worth more than {MAX_VALUE} "
            "tick-lots, beyond which cash is not exact: lower sim.max_inventory_units, or take a larger lot"
        )
    if decision_ns:
        _on_their_way(sim, decision_ns)


def _lots(option: str, lots: int, data: MarketData) -> None:
    if not 1 <= lots <= MAX_PX:
        raise ConfigError(
            f"{option}: expected 1 to {MAX_PX} lots, was {lots} ({data.name} has {data.instrument.unit_lots} lots per "
            "unit): lower it, or the manifest's unit_lots"
        )


def _on_their_way(sim: SimConfig, decision_ns: int) -> None:
    latency = sim.latency
    if latency.feed > (MOST_WAITING - 2) * decision_ns:
        raise ConfigError(
            f"sim.latency.feed: expected at most {MOST_WAITING - 2} decision intervals of {decision_ns} ns, was "
            f"{latency.feed} ns: lower it or raise sim.decision_interval_ns"
        )
    there_and_back = max(latency.requests) + latency.ack
    thinking = 0 if latency.decision == "profile" else latency.decision
    if there_and_back > (R.N_RING - 2) * max(decision_ns, thinking):
        raise ConfigError(
            f"sim.latency.order and sim.latency.ack: expected at most {R.N_RING - 2} decision intervals of "
            f"{decision_ns} ns there and back, was {there_and_back} ns: lower them or raise sim.decision_interval_ns"
        )


def rows_of(span_ns: int, decision_ns: int) -> int:
    """Return the rows that an episode of `span_ns` may need, with a decision every `decision_ns` (> 0).

    Raises
    ------
    ConfigError
        If they are too many to keep.
    """
    rows = span_ns // decision_ns + 2
    if rows > MOST_DECISIONS:
        raise ConfigError(
            f"sim.decision_interval_ns: an episode of {span_ns} ns holds {rows} decisions of {decision_ns} ns, expected "
            f"at most {MOST_DECISIONS}: raise it"
        )
    return rows


def messages_full(sim: SimConfig, decision_ns: int) -> ConfigError:
    """Return what to say when more of the agent's own is on its way than the engine keeps."""
    return ConfigError(
        f"more own orders or messages on their way than the engine keeps ({R.MAX_OWN} orders, {R.N_RING // 2} "
        f"messages): quote fewer levels, raise sim.decision_interval_ns ({decision_ns} ns) or lower the latencies "
        f"(sim.latency.order {sim.latency.order}, sim.latency.cancel {sim.latency.cancel}, "
        f"sim.latency.ack {sim.latency.ack}, or those of sim.latency.file)"
    )


def observations_full(decision_ns: int) -> ConfigError:
    """Return what to say when more observations are on their way than the engine keeps."""
    return ConfigError(
        f"more than {MOST_WAITING} observations on their way to the agent: lower sim.latency.feed (or the feed's own "
        f"delay), or raise sim.decision_interval_ns ({decision_ns} ns)"
    )


def check_traded(traded: int, px_max: int, name: str) -> None:
    """Check that what was traded in an episode (lots, at up to `px_max` ticks) is held exactly.

    Raises
    ------
    ConfigError
        If cash or its sums could have left an int64.
    """
    if traded * px_max > MAX_VALUE:
        raise ConfigError(
            f"{name}: {traded} lots traded at up to {px_max} ticks are more than {MAX_VALUE} tick-lots, beyond which "
            "cash is not exact: lower sim.max_order_units or sim.max_inventory_units, or take a larger lot"
        )
