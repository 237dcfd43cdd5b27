"""The market as text: a versioned, compact prompt of digits, and the parser of JSON answers.

Template ``digits-1``. Everything is an integer with few digits, because the models at hand make one
token of every digit; prices are ticks from the best quote, sizes are half-log2 buckets of units,
moves are signed half-ticks, the newest value comes last, and the text ends with a cue word whose
hidden state is read. No instruction text: it would cost tokens at every decision. Public market
state only, so that answers can be cached per market; the own inventory enters in the order rule.

>>> render(example_rows(), "rb")
'rb spread1,8 bid9,1:11,2:12 ask7,1:10,2:12 buys3,6 sells0,4 moves0,0,0,0,0,0,0,-2 next'

reads: spread now and summed over the last 8 decisions (ticks); three levels per side as
``offset:size`` (the best without its offset 0); volume bought and sold by aggressors since the last
decision and over the window; the last 8 moves of twice the mid-price.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import re

import numpy as np
import numpy.typing as npt

from mmsim.errors import ConfigError
from mmsim.records import OBSERVATION

TEMPLATE = "digits-1"
SHOWN = 10  # decisions that a prompt is made of
LEVELS = 3
MOVES = 8
CAP = 99  # largest offset, move and spread written

JSON_CUE = (
    '\nForecast of the next 10 steps as JSON with keys mid (ticks), spread (ticks), volume (units):\n{"mid":'
)


def size_bucket(qty: int, unit: int) -> int:
    """Return ``round(2 log2(1 + qty / unit))``: steps of a factor 1.41, one digit up to 25 units.

    >>> [size_bucket(q, 1) for q in (0, 1, 2, 10, 26, 300)]
    [0, 2, 3, 7, 10, 16]
    """
    return round(2.0 * math.log2(1.0 + max(qty, 0) / unit))


def render(rows: npt.NDArray[np.void], instrument: str, unit: int = 1) -> str:
    """Write the last decisions of one episode as a prompt (template `TEMPLATE`).

    Parameters
    ----------
    rows : (w,) OBSERVATION
        Observations of the last decisions, oldest first, newest last; w >= 1. Only the last
        `SHOWN` are read; where an episode is younger, missing moves count as 0 and the missing
        spreads as the oldest known.
    instrument : str
        Name written first; a prefix ``sim-`` is left out.
    unit : int
        Lots per unit, ``Instrument.unit_lots``.

    Returns
    -------
    str
        At most about 60 tokens with SmolLM2.

    Raises
    ------
    ConfigError
        If `rows` is empty or holds something other than observations.
    """
    if rows.ndim != 1 or rows.dtype != OBSERVATION or len(rows) < 1:
        raise ConfigError(f"prompt rows: expected observations (w >= 1,), was {rows.shape} of {rows.dtype}")
    if unit < 1:
        raise ConfigError(f"prompt unit: expected at least 1 lot, was {unit}")
    rows = rows[-SHOWN:]
    now = rows[-1]
    bids: list[int] = rows["bid_px"].tolist()
    asks: list[int] = rows["ask_px"].tolist()
    spreads = [a - b for b, a in zip(bids, asks, strict=True)]
    spreads = [spreads[0]] * (MOVES - len(spreads)) + spreads[-MOVES:]
    mids = [a + b for b, a in zip(bids, asks, strict=True)]
    moves = [b - a for a, b in itertools.pairwise(mids)]
    moves = [0] * (MOVES - len(moves)) + moves[-MOVES:]
    buys, sells = rows["buy_qty"], rows["sell_qty"]
    bid, ask = _side(now, "bid", -1, unit), _side(now, "ask", 1, unit)
    return (
        f"{instrument.removeprefix('sim-')} spread{min(spreads[-1], CAP)},{min(sum(spreads), MOVES * CAP)}"
        f" bid{bid} ask{ask}"
        f" buys{size_bucket(int(buys[-1]), unit)},{size_bucket(int(buys.sum()), unit)}"
        f" sells{size_bucket(int(sells[-1]), unit)},{size_bucket(int(sells.sum()), unit)}"
        f" moves{','.join(str(max(-CAP, min(CAP, m))) for m in moves)} next"
    )


def _side(now: np.void, side: str, sign: int, unit: int) -> str:
    best, n = int(now[f"{side}_px"]), int(now[f"n_{side}"])
    pxs, qtys = now[f"{side}_pxs"].tolist(), now[f"{side}_qtys"].tolist()
    parts = [str(size_bucket(int(now[f"{side}_qty"]), unit))]
    parts += [
        f"{min(sign * (pxs[i] - best), CAP)}:{size_bucket(qtys[i], unit)}" for i in range(1, min(n, LEVELS))
    ]
    return ",".join(parts)


def render_many(
    raw: npt.NDArray[np.void], index: npt.NDArray[np.int64], instrument: str, unit: int = 1
) -> list[str]:
    """Render the prompts at rows `index` of ONE episode's observations ``(n,)``."""
    return [render(raw[max(0, i + 1 - SHOWN) : i + 1], instrument, unit) for i in index.tolist()]


def prompt_key(model_id: str, template: str, text: str) -> str:
    """Return the sha256 (hex) under which an answer to `text` is cached."""
    return hashlib.sha256(f"{model_id}\0{template}\0{text}".encode()).hexdigest()


def json_prompt(text: str) -> str:
    """Return the prompt of the ``generate`` mode: the state and the start of a JSON object."""
    return text.removesuffix(" next") + JSON_CUE


def parse_answer(continuation: str) -> tuple[float, float, float] | None:
    """Parse what the model wrote after `json_prompt` into (dm, s, v), or None if it is no answer.

    v is ``log1p`` of the units the model names. An answer counts only if it is a JSON object (that
    may go on after the three keys) with three finite numbers, spread positive, volume not negative.

    >>> parse_answer('-1.5, "spread": 2, "volume": 0}')
    (-1.5, 2.0, 0.0)
    >>> parse_answer(' up a little') is None
    True
    """
    body = re.match(r"[^{}]*", continuation)
    if body is None:
        return None
    text = body.group(0)
    if not continuation[len(text) :].startswith("}"):
        text = text.rpartition(",")[0]  # cut off in the middle: what stands before the last comma counts
    try:
        answer = json.loads(f'{{"mid":{text}}}')
        mid, spread, volume = (float(answer[key]) for key in ("mid", "spread", "volume"))
    except (ValueError, KeyError, TypeError):
        return None
    if not (math.isfinite(mid) and math.isfinite(spread) and math.isfinite(volume)):
        return None
    if spread <= 0 or volume < 0:
        return None
    return mid, spread, math.log1p(volume)


def example_rows() -> npt.NDArray[np.void]:
    """Return three observations for doctests and documentation."""
    rows = np.zeros(3, OBSERVATION)
    shift = np.array([[0], [0], [-1]])
    rows["n_bid"] = rows["n_ask"] = 3
    rows["bid_pxs"][:, :3] = 3500 + shift - np.arange(3)
    rows["ask_pxs"][:, :3] = 3501 + shift + np.arange(3)
    rows["bid_qtys"][:, :3] = (20, 50, 60)
    rows["ask_qtys"][:, :3] = (11, 30, 70)
    for side in ("bid", "ask"):
        rows[f"{side}_px"], rows[f"{side}_qty"] = rows[f"{side}_pxs"][:, 0], rows[f"{side}_qtys"][:, 0]
    rows["buy_qty"], rows["sell_qty"] = 2, (3, 0, 0)
    return rows
