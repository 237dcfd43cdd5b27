"""Rerun agents under other rules of the simulator: queue model, wire latency, impact, quotes inside the spread."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Literal, get_args

from mmsim import runner
from mmsim.config import RunConfig, SimConfig, build
from mmsim.data import load
from mmsim.errors import ConfigError, did_you_mean
from mmsim.metrics import epnl
from mmsim.report.titles import market_title
from mmsim.statistics.ranking import Cell, Rankings, cell

AXES = ("inside", "impact", "wire", "queue")  # the last one changes fastest
Split = Literal["train", "validation", "test"]
QUEUES = ("proportional", "risk_averse", "power", "log")
WIRE = ("0", "1000000", "100000000")  # ns, one way
SNAPSHOT_WIRE = (
    "0",
    "300000000",
    "1000000000",
)  # there and back: more than the half second between snapshots
_POWER = re.compile(r"power\((\d+(?:\.\d+)?)\)")


def _first(field: str, leave: Sequence[str] = ()) -> tuple[str, ...]:
    # what the configuration takes by default, then the other choices
    info = SimConfig.model_fields[field]
    others = [x for x in get_args(info.annotation) if x != info.default and x not in leave]
    return (str(info.default), *others)


DEFAULTS: dict[str, tuple[str, ...]] = {
    "queue": QUEUES,
    "wire": WIRE,
    "impact": _first("impact", ("reactive",)),
    "inside": _first("inside"),
}


@dataclass(frozen=True)
class Grid:
    """The settings to run: axis -> values, the first of each being the base setting.

    ``dropped`` says which axes cannot matter on the market, and why.
    """

    axes: dict[str, tuple[str, ...]]
    dropped: tuple[str, ...] = ()

    def settings(self) -> list[dict[str, str]]:
        """Return every combination, the base setting first."""
        return [dict(zip(self.axes, values, strict=True)) for values in product(*self.axes.values())]


def grid(level: str, given: Mapping[str, Sequence[str]] | None = None) -> Grid:
    """Return the grid for a market of `level` with the `given` axes in place of the defaults.

    The queue model matters on level feeds only (on L3 positions are exact), the rule for quotes inside the
    spread on snapshot feeds only: elsewhere these axes are left out.

    >>> grid("L3").axes
    {'impact': ('none', 'consume'), 'wire': ('0', '1000000', '100000000')}

    Raises
    ------
    ConfigError
        For an unknown axis, an empty one, or a ``wire`` that is not a whole number of ns.
    """
    given = given or {}
    for axis, values in given.items():
        if axis not in AXES:
            raise ConfigError(
                f"expected an axis of {', '.join(AXES)}, was {axis!r}{did_you_mean(axis, AXES)}"
            )
        if not values:
            raise ConfigError(f"{axis}: expected at least one value, was none")
    axes: dict[str, tuple[str, ...]] = {}
    dropped = []
    for axis in AXES:
        usual = SNAPSHOT_WIRE if axis == "wire" and level == "snapshot" else DEFAULTS[axis]
        values = tuple(dict.fromkeys(given.get(axis, usual)))
        if axis == "queue" and level == "L3":
            dropped.append("queue: left out, positions in the queue are exact on an L3 feed")
        elif axis == "inside" and level != "snapshot":
            dropped.append(f"inside: left out, the rule is for snapshots and this feed is {level}")
        else:
            axes[axis] = values
    for value in axes["wire"]:
        if not value.isdecimal():
            raise ConfigError(f"wire: expected whole numbers of ns, 0 or more, was {value!r}")
    return Grid(axes, tuple(dropped))


def sim_for(setting: Mapping[str, str], base: SimConfig) -> SimConfig:
    """Return `base` under one setting.

    ``wire`` is the latency of every message, one way, ns: feed, requests of every kind and responses each take that long. ``queue`` is a
    model's name, ``power(n)``, or ``FILE.py:FUNCTION``.
    """
    values: dict[str, Any] = base.model_dump()
    if "queue" in setting:
        power = _POWER.fullmatch(setting["queue"])
        values["queue_model"] = "power" if power else setting["queue"]
        if power:
            values["queue_power"] = float(power[1])
    if "wire" in setting:
        ns = int(setting["wire"])
        values["latency"].update(feed=ns, order=ns, cancel=None, reduce=None, market=None, ack=ns)
    values.update({axis: setting[axis] for axis in ("impact", "inside") if axis in setting})
    sim: SimConfig = build(SimConfig, values, "sensitivity")
    return sim


def run(
    agents: Sequence[str],
    dataset: str,
    *,
    split: Split = "validation",
    axes: Mapping[str, Sequence[str]] | None = None,
    config: RunConfig | None = None,
    data_home: str | Path | None = None,
    checkpoints: Path | None = None,
    tick: Callable[[str, int, int], None] | None = None,
) -> Rankings:
    """Run `agents` on `dataset` under every setting of the grid.

    Parameters
    ----------
    agents : sequence of str
        Names or ``FILE.py:CLASS``; at least one.
    split : str
        ``validation`` by default: whoever looks at this table to choose an agent or a rule must not choose
        on the test split.
    axes : mapping, optional
        Values of some axes in place of `DEFAULTS`; the first value of each is the base setting.
    config : RunConfig, optional
        Everything else: parameters of the agents, fees, limits, seed.
    tick : callable, optional
        Called as ``tick(label, done, total)`` before each episode.

    Raises
    ------
    MmsimError
        For unknown names or values before anything is run, and when an agent fails.
    """
    base = (config or RunConfig()).model_dump()
    data = load(dataset, data_home=data_home)
    found = grid(data.level, axes)
    settings = found.settings()
    sims = [sim_for(setting, SimConfig(**base["sim"])) for setting in settings]
    total = len(settings) * len(agents) * len(data.splits.get(split, ()))
    done = 0

    def count(label: str, _episode: int, _episodes: int) -> None:
        nonlocal done
        if tick is not None:
            tick(label, done, total)
        done += 1

    cells: list[Cell] = []
    title = currency = ""
    for setting, sim in zip(settings, sims, strict=True):
        values = {
            **base,
            "agents": tuple(agents),
            "datasets": (dataset,),
            "split": split,
            "sim": sim.model_dump(),
        }
        outcome = runner.run(
            build(RunConfig, values), data_home=data_home, checkpoints=checkpoints, tick=count
        )
        if outcome.failure is not None:
            raise outcome.failure
        if not cells:
            title, currency = market_title(outcome.results[0]), outcome.results[0].currency
        results = outcome.results
        profits = [[epnl(ep) for ep in r.episodes] for r in results]
        names, fills = [r.agent for r in results], [r.fills for r in results]
        digests = [r.fills_sha256 for r in results]
        cells.append(cell(setting, names, profits, fills, digests, cells[0] if cells else None))
    return Rankings(
        dataset=dataset,
        title=title,
        currency=currency,
        split=split,
        axes=found.axes,
        cells=tuple(cells),
        dropped=found.dropped,
        config={**base, "agents": list(agents), "datasets": [dataset], "split": split},
    )
