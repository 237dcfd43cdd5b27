import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmsim.errors import ConfigError
from mmsim.records import OBSERVATION
from mmsim_agents.teacher import prompt


def test_text_shows_exactly_the_stated_fields():
    text = prompt.render(prompt.example_rows(), "sim-rb")
    assert text == "rb spread1,8 bid9,1:11,2:12 ask7,1:10,2:12 buys3,6 sells0,4 moves0,0,0,0,0,0,0,-2 next"


def test_only_the_window_matters(toy_raw):
    raw = toy_raw(60)
    assert prompt.render(raw, "x") == prompt.render(raw[-prompt.SHOWN :], "x")
    changed = raw.copy()
    changed[: -prompt.SHOWN].view(np.int64)[:] += 7
    assert prompt.render(changed, "x") == prompt.render(raw, "x")


def test_is_relative_to_the_touch_and_blind_to_private_state(toy_raw):
    raw = toy_raw(20)
    moved = raw.copy()
    for side in ("bid", "ask"):
        moved[f"{side}_pxs"][:, :5] += 123
        moved[f"{side}_px"] += 123
    for name in ("inventory", "cash", "n_orders", "time_left", "ts"):
        moved[name] += 9
    assert prompt.render(moved, "x") == prompt.render(raw, "x")


def test_mirrored_book_swaps_sides_and_moves(toy_raw):
    raw = toy_raw(15)
    mirror = raw.copy()
    for a, b in (("bid_px", "ask_px"), ("bid_pxs", "ask_pxs")):
        mirror[a], mirror[b] = -raw[b], -raw[a]
    for a, b in (("bid_qtys", "ask_qtys"), ("bid_qty", "ask_qty"), ("buy_qty", "sell_qty")):
        mirror[a], mirror[b] = raw[b], raw[a]

    def fields(text):
        return {w.rstrip("-0123456789,:"): w for w in text.split()}

    one, two = fields(prompt.render(raw, "x")), fields(prompt.render(mirror, "x"))
    assert one["bid"].removeprefix("bid") == two["ask"].removeprefix("ask")
    assert one["buys"].removeprefix("buys") == two["sells"].removeprefix("sells")
    moves = [int(m) for m in one["moves"].removeprefix("moves").split(",")]
    assert [-m for m in moves] == [int(m) for m in two["moves"].removeprefix("moves").split(",")]
    assert one["spread"] == two["spread"]


@pytest.mark.parametrize("n", [1, 2, 7, 8, 9, 10, 30])
def test_young_episode_is_padded_with_rest(toy_raw, n):
    raw = toy_raw(n)
    words = prompt.render(raw, "x").split()
    moves = [int(m) for m in words[-2].removeprefix("moves").split(",")]
    mid2 = raw["bid_px"] + raw["ask_px"]
    known = np.diff(mid2)[-prompt.MOVES :].tolist()
    assert moves == [0] * (prompt.MOVES - len(known)) + known


def test_render_many_is_render_of_each(toy_raw):
    raw = toy_raw(40)
    index = np.array([0, 3, 25, 39])
    texts = prompt.render_many(raw, index, "rb", 2)
    assert texts == [prompt.render(raw[: i + 1], "rb", 2) for i in index]


@given(st.integers(0, 10**9), st.integers(1, 1000))
def test_size_bucket_is_monotone_and_scale_free(qty, unit):
    a = prompt.size_bucket(qty, unit)
    assert a >= 0 and prompt.size_bucket(qty + unit, unit) >= a
    assert prompt.size_bucket(qty * 7, unit * 7) == a
    assert abs(a - 2 * np.log2(1 + qty / unit)) <= 0.5 + 1e-9


@pytest.mark.parametrize(
    "rows", [np.zeros(0, OBSERVATION), np.zeros((3, 5), np.int64), np.zeros((1, 3), OBSERVATION)]
)
def test_wrong_rows_are_refused(rows):
    with pytest.raises(ConfigError, match="prompt rows"):
        prompt.render(rows, "x")
    with pytest.raises(ConfigError, match="unit"):
        prompt.render(prompt.example_rows(), "x", 0)


def test_prompt_key_is_sha256_of_all_three():
    assert prompt.prompt_key("m", "t", "x") == hashlib.sha256(b"m\0t\0x").hexdigest()
    keys = {
        prompt.prompt_key(*k) for k in (("m", "t", "x"), ("n", "t", "x"), ("m", "u", "x"), ("m", "t", "y"))
    }
    assert len(keys) == 4


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('0.5, "spread": 1, "volume": 12}', (0.5, 1.0, np.log1p(12))),
        ('-1,"spread":2,"volume":0} and so on {', (-1.0, 2.0, 0.0)),
        ('1, "spread": 0, "volume": 1}', None),
        ('1, "spread": 1, "volume": -1}', None),
        ('1, "spread": 1}', None),
        ('NaN, "spread": 1, "volume": 1}', None),
        ('1, "spread": 1, "volume": [2]}', None),
        ('1.1, "spread":1.1, "volume":1.1, "units":10, "tic', (1.1, 1.1, np.log1p(1.1))),
        ('1.1, "spread":1.1, "vol', None),
        ("no idea", None),
        ("", None),
    ],
)
def test_parse_answer(text, expected):
    got = prompt.parse_answer(text)
    assert got == pytest.approx(expected) if expected else got is None


def test_json_prompt_replaces_the_cue_word():
    text = prompt.json_prompt(prompt.render(prompt.example_rows(), "rb"))
    assert " next" not in text.split("\n")[0] and text.endswith('{"mid":')
