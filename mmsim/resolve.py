"""From what a configuration names to what a session runs on: fitted models, users' functions, reactive markets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import cfunc

from mmsim import _jit
from mmsim.calibration_store import fitted_queue_power
from mmsim.config import SimConfig
from mmsim.errors import ConfigError
from mmsim.flow.reactive import ReactiveMarket
from mmsim.registry import load_object
from mmsim.sim.physics import Physics
from mmsim.sim.session import Session
from mmsim.types import MarketData


def physics_of(sim: SimConfig, dataset: str) -> Physics:
    """Return the physics of `sim` on market `dataset`, with everything that it names looked up.

    A user's own queue model is ``FILE.py:NAME`` or ``package.module:NAME``: a function of three ints, the lots
    ahead of us, behind us, and cancelled, that returns how many of the cancelled lots stood ahead. It must be
    something numba compiles.

    Raises
    ------
    ConfigError
        If there is no such function, numba cannot compile it, or no fitted model exists.
    """
    function, address = _queue_function(sim.queue_model) if ":" in sim.queue_model else (None, 0)
    return Physics.of(
        sim,
        power=fitted_queue_power(dataset) if sim.queue_model == "fitted" else None,
        address=address,
        function=function,
        live=ReactiveMarket if sim.impact == "reactive" else None,
    )


def session_for(data: MarketData, sim: SimConfig | None = None, **options: Any) -> Session:
    """Return a session on `data` under `sim`, whatever it names; `options` as of `Session`."""
    return Session(data, physics_of(sim or SimConfig(), data.name), **options)


def _queue_function(spec: str) -> tuple[Any, int]:
    function: Callable[[int, int, int], int] = load_object(spec)
    function = getattr(function, "py_func", function)
    if not callable(function):
        raise ConfigError(
            f"sim.queue_model {spec!r}: expected a function of (ahead, behind, gone), was {function!r}"
        )
    if _jit.NO_JIT:
        _jit.FUNCTIONS[id(function)] = function
        return function, id(function)
    try:
        made = cfunc("int64(int64, int64, int64)")(function)
    except Exception as err:  # numba has many error classes, and the user's function may raise any
        first = str(err).strip().splitlines()[0] if str(err).strip() else type(err).__name__
        raise ConfigError(f"sim.queue_model {spec!r}: numba cannot compile it: {first}") from err
    return made, int(made.address)
