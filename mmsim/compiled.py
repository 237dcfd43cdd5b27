"""Strategies whose decision is compiled: the same interface, no Python per decision.

A `CompiledStrategy` writes `decide` in the Python that numba compiles. A session runs it in the kernel,
some ten times faster than a Python `quote`; everywhere else (the Gym environment, `check_agent`, an
ensemble) it is an ordinary agent, because its `quote` calls the same function.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt

from mmsim._jit import FUNCTIONS, NO_JIT, checked_kernel, inline_kernel, records
from mmsim.agent import Observation, Quotes, SessionContext, Strategy
from mmsim.errors import ConfigError
from mmsim.records import MAX_LEVELS, OBSERVATION, QUOTES
from mmsim.user_call import ask

MEMORY = 64  # float64 cells that a compiled strategy keeps between decisions


@inline_kernel
def set_quotes(want: Any, bid_px: int, bid_qty: int, ask_px: int, ask_qty: int) -> None:
    """Ask for one bid and one ask (ticks, lots); a quantity of 0 leaves that side out."""
    want.n_bids = 0
    want.n_asks = 0
    if bid_qty > 0:
        want.n_bids = 1
        want.bids[0].px = bid_px
        want.bids[0].qty = bid_qty
    if ask_qty > 0:
        want.n_asks = 1
        want.asks[0].px = ask_px
        want.asks[0].qty = ask_qty


def quotes_in(want: Any) -> Quotes:
    """Return what a compiled strategy wrote, a `QUOTES` record, as `Quotes`.

    Raises
    ------
    ValueError
        If it wrote a number of levels that there is no room for.
    """
    n, m, post_only, take = (int(want[name]) for name in ("n_bids", "n_asks", "post_only", "take_qty"))
    if not (0 <= n <= MAX_LEVELS and 0 <= m <= MAX_LEVELS):
        raise ValueError(f"expected 0 to {MAX_LEVELS} levels per side, was {n} bids and {m} asks")
    flag: Any = post_only == 1 if post_only in (0, 1) else post_only
    return Quotes(tuple(want["bids"][:n].tolist()), tuple(want["asks"][:m].tolist()), flag, take)


class CompiledStrategy(Strategy):
    """A strategy whose `decide` is compiled.

    Subclasses define ``decide(obs, want, params, memory)`` as a static method:

    * ``obs``: what is known now, a record of `mmsim.records.OBSERVATION`: ``obs.bid_px``, ``obs.inventory``,
      ``obs.bid_qtys[2]`` ...; its own copy, so what it writes there changes nothing;
    * ``want``: to be written, a record of `mmsim.records.QUOTES`: with `set_quotes`, or by hand: ``want.n_bids``,
      ``want.bids[0].px`` ... It comes as "no quotes, post-only";
    * ``params``: the class's annotated parameters by name, ``params.size`` (numbers and booleans only);
    * ``memory``: ``(MEMORY,)`` float64, zero at the start of an episode.

    An index outside an array raises, as in Python (compiled helpers that it calls have their own rules).

    Examples
    --------
    >>> class Touch(CompiledStrategy):
    ...     size: int = 1
    ...     @staticmethod
    ...     def decide(obs, want, params, memory):
    ...         set_quotes(want, obs.bid_px, params.size, obs.ask_px, params.size)
    >>> Touch(size=2)
    Touch(size=2)
    """

    @staticmethod
    @abstractmethod
    def decide(obs: Any, want: Any, params: Any, memory: Any) -> None:
        """Write the desired quotes for what is known now to `want`."""

    def reset(self, ctx: SessionContext) -> None:  # noqa: ARG002
        """Take the parameters, clear the memory, compile `decide` if that was not done yet."""
        self._params = self._record()
        self._memory = np.zeros(MEMORY)
        self._want = np.zeros(1, QUOTES)
        seen = np.zeros(1, OBSERVATION)
        self._seen, self._bytes = records(seen), seen.view(np.uint8)
        self._address = _compiled(type(self).decide, self._params.dtype)
        self._params_at = self._params.ctypes.data
        if NO_JIT:
            self._want = records(self._want)
            named = SimpleNamespace(
                **{name: self._params[name][0] for name in self._params.dtype.names or ()}
            )
            self._params_at = id(named)
            FUNCTIONS[id(named)] = named  # type: ignore[assignment]

    def _record(self) -> npt.NDArray[np.void]:
        fields = [("nothing", "<i8")]  # never empty
        values: list[float] = [0]
        for name, (kind, _) in self.parameters().items():
            value = getattr(self, name)
            if not isinstance(value, int | float):
                raise ConfigError(
                    f"{type(self).__name__}.{name}: expected a number (it goes to compiled code), was {value!r}"
                )
            whole = isinstance(value, int) and kind is not float
            if whole and not -(2**63) <= value < 2**63:
                raise ConfigError(
                    f"{type(self).__name__}.{name}: expected a 64-bit number (it goes to compiled code), was {value}"
                )
            fields.append((name, ("?" if isinstance(value, bool) else "<i8") if whole else "<f8"))
            values.append(value)
        return np.array([tuple(values)], fields)

    def quote(self, obs: Observation) -> Quotes:
        """Ask `decide`, from Python."""
        want = self._want
        for name, value in (("n_bids", 0), ("n_asks", 0), ("post_only", 1), ("take_qty", 0)):
            want[name] = value
        self._bytes[:] = obs.record.view(np.uint8)  # (numpy copies records field by field, ten times as long)
        ask(self._address, self._seen, want, self._params_at, self._memory)
        return quotes_in(want[0])

    def machine(self) -> tuple[int, int, npt.NDArray[np.float64]]:
        """Return addresses of the compiled function and of the parameters, and the memory, for the kernel."""
        return self._address, self._params_at, self._memory


_MADE: dict[tuple[Any, Any], tuple[Any, int]] = {}


def _compiled(decide: Callable[..., None], params: np.dtype[np.void]) -> int:
    key = (decide, params)
    if key not in _MADE:
        if NO_JIT:
            FUNCTIONS[id(decide)] = decide
            _MADE[key] = (decide, id(decide))
        else:
            _MADE[key] = _machine_code(decide, params)
    return _MADE[key][1]


def _machine_code(decide: Any, params: np.dtype[np.void]) -> tuple[Any, int]:
    # Compiled for the kernel's records, and kept on disk where the function stands in a file. It writes where the
    # engine's own state stands beside: indices are checked.
    from numba import float64, from_dtype

    kinds = (*map(from_dtype, (OBSERVATION, QUOTES, params)), float64[::1])
    try:
        fast: Any = checked_kernel(decide)
        fast.compile(kinds)
    except Exception as err:  # numba has many error classes
        lines = [
            line for line in str(err).splitlines() if line.strip() and "nopython mode pipeline" not in line
        ]
        first = lines[0] if lines else type(err).__name__
        raise ConfigError(f"{decide.__qualname__}: numba cannot compile it: {first}") from err
    made = fast.overloads[kinds]
    return fast, int(made.library.get_pointer_to_function(made.fndesc.llvm_func_name))
