"""Validated, frozen configuration and how it is put together: TOML file < ``--set`` < flags."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    field_validator,
    model_validator,
)

from mmsim.errors import ConfigError, did_you_mean, shown


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


MAX_LATENCY_NS = 3_600_000_000_000  # an hour
MAX_INTERVAL_NS = 86_400_000_000_000  # a day between decisions
MAX_UNITS = 10**9  # (lots are bounded as well, see `sim.limits`)
MAX_SEED = 2**63 - 1
Latency = Annotated[int, Field(ge=0, le=MAX_LATENCY_NS)]
QUEUE_MODELS = ("proportional", "risk_averse", "power", "log", "fitted")
_RENAMED = {  # old keys of [sim]: keys now
    **{
        f"{key}_latency_ns": f"latency.{key}"
        for key in ("decision", "feed", "order", "cancel", "reduce", "market", "ack")
    },
    "wire_sigma": "latency.sigma",
    "wire_file": "latency.file",
}


class LatencyConfig(_Frozen):
    """How long the agent thinks, and how long messages travel: from 0 to an hour, ns.

    Messages are constant unless ``sigma`` or ``file`` says otherwise (`mmsim.sim.latency.WireTable`).
    """

    decision: Latency | Literal["profile"] = 0  # "profile": drawn from the agent's recorded latencies
    feed: Latency = 0  # exchange -> agent, on top of recorded receive times
    order: Latency = 0  # agent -> exchange
    cancel: Latency | None = None  # the same for cancels; None: as orders
    reduce: Latency | None = None  # for reductions
    market: Latency | None = None  # for market orders
    ack: Latency = 0  # exchange -> agent, for fills, acks and rejects
    sigma: float = Field(default=0.0, ge=0, le=3)  # > 0: feed to ack are medians of log-normal latencies
    file: str | None = None  # recorded latencies (CSV) instead of feed to ack

    @field_validator("decision", mode="wrap")
    @classmethod
    def _ns_or_profile(cls, value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
        try:
            return handler(value)
        except ValidationError:  # one error for each member of the union
            raise ValueError(f"expected 0 to {MAX_LATENCY_NS} ns, or 'profile'") from None

    @property
    def requests(self) -> tuple[int, int, int, int]:
        """Latencies of new orders, cancels, reductions and market orders, ns."""
        cancel, reduce, market = (
            self.order if ns is None else ns for ns in (self.cancel, self.reduce, self.market)
        )
        return self.order, cancel, reduce, market


class SimConfig(_Frozen):
    """The physics of one run. Times in ns, quantities in units of ``Instrument.unit_lots``.

    Decisions are from a microsecond to a day apart; what the engine cannot hold together (a latency of thousands
    of intervals, say) a session refuses when it is made (`sim.limits`).

    ``queue_model`` matters on level feeds only; on L3 positions are exact. ``fitted`` is the power that
    ``mmsim calibrate queue`` found. docs/fills.md specifies what each rule does.
    """

    latency: LatencyConfig = LatencyConfig()
    decision_interval_ns: int | None = Field(
        default=None, ge=1_000, le=MAX_INTERVAL_NS
    )  # None: the market's own
    queue_model: str = "proportional"  # on level feeds: see QUEUE_MODELS; or a numba function, FILE.py:NAME
    queue_power: float = Field(default=2.0, ge=1e-6, le=20)  # n of "power", kept in millionths
    impact: Literal["none", "consume", "reactive"] = "none"  # what own orders change: see docs/impact.md
    inside: Literal["through", "any", "strict"] = "through"  # quotes inside a snapshot's spread
    replace: Literal["diff", "always"] = "diff"  # "always" cancels and resends unchanged quotes too
    fees: str = "zero"  # a named schedule of the market's manifest
    max_inventory_units: int | None = Field(default=None, ge=1, le=MAX_UNITS)  # None: the manifest's
    max_order_units: int = Field(default=10, ge=1, le=MAX_UNITS)
    max_levels: int = Field(default=5, ge=1, le=16)
    seed: int = Field(default=0, ge=0, le=MAX_SEED)

    @model_validator(mode="before")
    @classmethod
    def _no_old_keys(cls, values: Any) -> Any:
        given = values if isinstance(values, Mapping) else {}
        if old := next((key for key in _RENAMED if key in given), None):
            raise ConfigError(f"unknown key 'sim.{old}' (it is 'sim.{_RENAMED[old]}' now)")
        return values

    @field_validator("latency", mode="before")
    @classmethod
    def _a_table(cls, value: Any) -> Any:
        if isinstance(value, Mapping | LatencyConfig):
            return value
        raise ValueError(
            f"expected a table of {', '.join(LatencyConfig.model_fields)} (the agent's own is 'sim.latency.decision')"
        )

    @field_validator("queue_model")
    @classmethod
    def _known_queue_model(cls, value: str) -> str:
        if value in QUEUE_MODELS or ":" in value:
            return value
        hint = " ('auto' is 'proportional')" if value == "auto" else did_you_mean(value, QUEUE_MODELS)
        raise ValueError(f"expected one of {', '.join(QUEUE_MODELS)} or FILE.py:FUNCTION{hint}")


def _each_once(names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        if not name.strip() or names.count(name) > 1:
            raise ValueError(f"expected names, each of them once (see {name!r})")
    return names


Names = Annotated[tuple[str, ...], Field(min_length=1), AfterValidator(_each_once)]


class RunConfig(_Frozen):
    """One `mmsim run`."""

    agents: Names = ("cmm",)
    datasets: Names = ("sim-fu", "sim-rb", "sim-cu", "sim-ag")
    split: Literal["train", "validation", "test"] = "test"
    out: str | None = None
    plots: bool = True
    decision_timeout_s: float | None = Field(
        default=None, ge=0.01, le=86_400
    )  # one call of an agent; None: any
    sim: SimConfig = SimConfig()
    agent: dict[str, Any] = Field(default_factory=dict)  # parameters for every agent that has them
    params: dict[str, dict[str, Any]] = Field(default_factory=dict)  # per agent name


def read_toml(path: str | Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises
    ------
    ConfigError
        If it is missing or not TOML.
    """
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as err:
        raise ConfigError(f"config {path}: {err.strerror or err}") from None
    except RecursionError:
        raise ConfigError(f"config {path}: not valid TOML: nested too deeply") from None
    except ValueError as err:  # no TOML, no UTF-8, a number of thousands of digits
        raise ConfigError(f"config {path}: not valid TOML: {err}") from None


_RUN_KEYS = ("agents", "datasets", "split", "out", "plots", "decision_timeout_s", "sim", "agent", "params")


def per_agent(values: Mapping[str, Any]) -> dict[str, Any]:
    """Move top-level tables that are named after an agent (``glft.gamma``) under ``params``.

    >>> per_agent({"sim": {"seed": "1"}, "glft": {"gamma": "0.2"}})
    {'sim': {'seed': '1'}, 'params': {'glft': {'gamma': '0.2'}}}
    """
    out = {k: v for k, v in values.items() if k in _RUN_KEYS or not isinstance(v, Mapping)}
    named = {k: v for k, v in values.items() if k not in out}
    if named:
        out["params"] = merge(out.get("params", {}), named)
    return out


def parse_overrides(pairs: Iterable[str]) -> dict[str, Any]:
    """Turn ``["sim.seed=1", "agent.gamma=0.2"]`` into nested dictionaries; values stay text.

    >>> parse_overrides(["sim.seed=1", "agent.gamma=0.2"])
    {'sim': {'seed': '1'}, 'agent': {'gamma': '0.2'}}
    """
    out: dict[str, Any] = {}
    for pair in pairs:
        key, eq, value = pair.partition("=")
        if not eq or not key:
            raise ConfigError(f"--set expects KEY=VALUE, was {pair!r}")
        node = out
        *parents, leaf = key.strip().split(".")
        for parent in parents:
            node = node.setdefault(parent, {})
            if not isinstance(node, dict):
                raise ConfigError(f"--set {pair!r}: {parent!r} is already a value")
        node[leaf] = value.strip()
    return out


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return `base` with `over` laid on top, dictionaries merged key by key."""
    out = dict(base)
    for key, value in over.items():
        both = isinstance(value, Mapping) and isinstance(out.get(key), Mapping)
        out[key] = merge(out[key], value) if both else value
    return out


_EXPECTED = {  # pydantic's error type -> our words
    "greater_than_equal": "expected at least {ge}",
    "less_than_equal": "expected at most {le}",
    "too_short": "expected at least {min_length}",
    "finite_number": "expected a finite number",
}


def build(model: type[BaseModel], values: Mapping[str, Any], where: str = "config") -> Any:
    """Validate `values` as `model`, with one-line errors that name the key and the nearest one.

    Raises
    ------
    ConfigError
        For an unknown key or a wrong value.
    """
    try:
        return model.model_validate(values)
    except ValidationError as err:
        first = err.errors()[0]
        if isinstance(own := first.get("ctx", {}).get("error"), ConfigError):  # names its key itself
            raise ConfigError(f"{where}: {own}") from None
        key = ".".join(str(p) for p in first["loc"])
        if first["type"] == "extra_forbidden":
            raise ConfigError(f"{where}: unknown key {key!r}{did_you_mean(key, _keys(model))}") from None
        expected = _EXPECTED.get(first["type"], "").format(**first.get("ctx", {})) or first[
            "msg"
        ].removeprefix("Value error, ")
        if not key:  # of several keys together: the message names them
            raise ConfigError(f"{where}: {expected}") from None
        raise ConfigError(f"{where}: {key}: {expected}, was {shown(first['input'])}") from None


def _keys(model: type[BaseModel], prefix: str = "") -> list[str]:
    out: list[str] = []
    for name, info in model.model_fields.items():
        out.append(prefix + name)
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            out += _keys(info.annotation, prefix + name + ".")
    return out
