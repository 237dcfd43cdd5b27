"""What the tests of the formats share: a naive book in plain Python, and the story that events tell."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from mmsim.cli.main import main
from mmsim.data.conversion import Conversion
from mmsim.types import EventFlag, EventKind

Message = tuple[int, Any, tuple[tuple[int, int, int], ...]]  # ts, book, trades (aggressor, px, qty)


def tell(events: np.ndarray) -> list[Message]:
    """Replay events naively; after every message: time, the whole book, what was traded.

    The book of L3 events is ``{(side, px): [quantities in order of priority]}``, of level events the totals.
    """
    orders: dict[int, list[int]] = {}  # slot -> [side, px, qty], in order of arrival
    levels: dict[tuple[int, int], int] = {}
    out: list[Message] = []
    trades: list[tuple[int, int, int]] = []
    for e in events:
        kind, side, px, qty, oid = (int(e[n]) for n in ("kind", "side", "px", "qty", "oid"))
        if kind == EventKind.ADD:
            assert oid not in orders
            orders[oid] = [side, px, qty]
        elif kind in {EventKind.REDUCE, EventKind.DELETE, EventKind.EXECUTE}:
            order = orders[oid]
            assert order[:2] == [side, px]
            assert 0 < qty <= order[2]
            assert kind != EventKind.DELETE or qty == order[2]
            order[2] -= qty
            if kind == EventKind.EXECUTE:
                trades.append((-side, px, qty))
            if order[2] == 0:
                del orders[oid]
        elif kind == EventKind.TRADE:
            trades.append((side, px, qty))
        elif kind == EventKind.CLEAR:
            orders.clear()
            levels.clear()
        elif qty > 0 and kind == EventKind.LEVEL:
            levels[side, px] = qty
        else:
            levels.pop((side, px), None)
        if e["flags"] & EventFlag.LAST:
            book: dict[tuple[int, int], Any] = dict(levels)
            for s, p, q in orders.values():
                book.setdefault((s, p), []).append(q)
            out.append((int(e["ts"]), book, tuple(trades)))
            trades.clear()
    assert not trades
    return out


@pytest.fixture(scope="session")
def balance() -> Callable[[Conversion], tuple[tuple[int, int], tuple[int, int], dict[str, tuple[int, int]]]]:
    """Return trades and lots of the raw files, of the import, and the difference by reason."""

    def of(done: Conversion) -> Any:
        assert done.tape is not None
        report = done.tape.report(done.events)
        raw, got = ((report[k]["trades"], report[k]["lots"]) for k in ("raw", "imported"))
        return raw, got, {k: (v["trades"], v["lots"]) for k, v in report["missing"].items()}

    return of


@pytest.fixture(scope="session")
def story() -> Callable[[np.ndarray], list[Message]]:
    """Return `tell`."""
    return tell


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run ``mmsim data ...`` and return (exit code, standard output, standard error)."""

    def run(*argv: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as caught:
            main(["data", *argv])
        out, err = capsys.readouterr()
        return int(caught.value.code or 0), out, err

    return run
