"""The queue model that a configuration asks for, as the kernel's columns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import cfunc

from mmsim import _jit
from mmsim.config import SimConfig
from mmsim.errors import ConfigError
from mmsim.sim import layout as L

_CODES = {
    "auto": L.Q_PROPORTIONAL,
    "proportional": L.Q_PROPORTIONAL,
    "risk_averse": L.Q_RISK_AVERSE,
    "power": L.Q_POWER,
    "log": L.Q_LOG,
    "fitted": L.Q_POWER,
}


class QueueRule:
    """Code, exponent and function address of `sim`'s queue model for level feeds.

    A user's own model is ``FILE.py:NAME`` or ``package.module:NAME``: a function of three ints, the lots
    ahead of us, behind us, and cancelled, that returns how many of the cancelled lots stood ahead. It must be
    something numba compiles.

    Raises
    ------
    ConfigError
        If there is no such function, numba cannot compile it, or no fitted model exists.
    """

    def __init__(self, sim: SimConfig, dataset: str) -> None:
        model, power = sim.queue_model, sim.queue_power
        self._function: Any = None  # keeps the machine code alive
        address = 0
        if model == "fitted":
            from mmsim.calibration_store import fitted_queue_power

            power = fitted_queue_power(dataset)
        if ":" in model:
            self._function, address = _compiled(model)
        self.columns = (_CODES.get(model, L.Q_CUSTOM), round(power * 1_000_000), address)


def _compiled(spec: str) -> tuple[Any, int]:
    from mmsim.registry import load_object

    function: Callable[[int, int, int], int] = load_object(spec)
    function = getattr(function, "py_func", function)
    if not callable(function):
        raise ConfigError(
            f"sim.queue_model {spec!r}: expected a function of (ahead, behind, gone), was {function!r}"
        )
    if _jit.NO_JIT:
        _jit.FUNCTIONS[id(function)] = function
        return function, id(function)
    return _machine_code(spec, function)  # pragma: no cover (JIT)


def _machine_code(spec: str, function: Any) -> tuple[Any, int]:  # pragma: no cover (with the JIT only)
    try:
        made = cfunc("int64(int64, int64, int64)")(function)
    except Exception as err:  # numba has many error classes, and the user's function may raise any
        first = str(err).strip().splitlines()[0] if str(err).strip() else type(err).__name__
        raise ConfigError(f"sim.queue_model {spec!r}: numba cannot compile it: {first}") from err
    return made, int(made.address)
