"""Every queue model of level feeds on one hand-computed case: 10 lots ahead, 20 behind, 9 are cancelled."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmsim.errors import ConfigError
from mmsim.testing.scripted import ASK, BID, bid, l2, play
from mmsim.types import EventKind

K = EventKind
ROWS = l2((0.7, K.LEVEL, BID, 100, 30), (1, K.LEVEL, BID, 100, 21))


def ahead(rows: list[tuple[int, int, int, int, int, int, int]] = ROWS, **sim: object) -> int:
    _, agent = play(rows, bid(100), level="L2", end=2, **sim)
    ((_, lots),) = [agent.seen[-1]]
    return lots[0]


@pytest.mark.parametrize(
    ("model", "left"),
    [
        ("proportional", 7),  # 9 * 10 / 30 = 3 of the cancelled stood ahead
        ("risk_averse", 10),  # all 9 leave from behind us
        ("log", 6),  # 9 * log 11 / (log 11 + log 21) = 3.96
    ],
)
def test_named_models(model: str, left: int) -> None:
    assert ahead(queue_model=model) == left


@pytest.mark.parametrize(("n", "left"), [(1.0, 7), (2.0, 8), (3.0, 9), (0.5, 6)])
def test_power_model(n: float, left: int) -> None:
    # shares ahead: 1/3, 100/500 (1.8 lots), 1000/9000 (1 lot), sqrt 10 / (sqrt 10 + sqrt 20) (3.73 lots)
    assert ahead(queue_model="power", queue_power=n) == left


def test_half_lots_count_as_ahead_of_us() -> None:
    # 10 ahead, 30 behind, 2 cancelled: half a lot ahead
    rows = l2((0.7, K.LEVEL, BID, 100, 40), (1, K.LEVEL, BID, 100, 38))
    assert ahead(rows) == 9


def test_risk_averse_takes_from_ahead_only_what_does_not_fit_behind() -> None:
    rows = l2((0.7, K.LEVEL, BID, 100, 13), (1, K.LEVEL, BID, 100, 6))
    assert ahead(rows, queue_model="risk_averse") == 6  # 3 behind, 7 cancelled


def test_all_models_agree_when_nobody_stands_behind() -> None:
    rows = l2((1, K.LEVEL, BID, 100, 4))
    for model in ("proportional", "risk_averse", "power", "log"):
        assert ahead(rows, queue_model=model) == 4


@pytest.mark.parametrize(
    ("body", "left"),
    [
        ("gone // 9", 9),
        ("ahead", 1),  # no more than were cancelled
        ("-5", 10),  # none
    ],
)
def test_a_users_own_model_answers_in_lots_and_is_bounded(tmp_path: Path, body: str, left: int) -> None:
    path = tmp_path / "mine.py"
    path.write_text(f"def share(ahead, behind, gone):\n    return {body}\n", encoding="utf-8")
    assert ahead(queue_model=f"{path}:share") == left


def test_fitted_is_the_power_that_the_calibration_stored(empty_cache: Path) -> None:
    folder = empty_cache / "calibration"
    folder.mkdir(parents=True)
    (folder / "all.queue.toml").write_text("power = 1.0\n", encoding="utf-8")
    assert ahead(queue_model="fitted") == 7
    (folder / "hand-made.queue.toml").write_text("power = 3.0\n", encoding="utf-8")
    assert ahead(queue_model="fitted") == 9  # the market's own goes first
    (folder / "hand-made.queue.toml").write_text('power = "much"\n', encoding="utf-8")
    with pytest.raises(ConfigError, match="expected a positive number"):
        ahead(queue_model="fitted")


def test_only_what_trades_do_not_explain_is_cancelled() -> None:
    # 4 of the 10 ahead trade; the level falls by 10: 6 were cancelled, of 6 ahead and 20 behind
    rows = l2((0.7, K.LEVEL, BID, 100, 30), (1, K.TRADE, ASK, 100, 4), (1, K.LEVEL, BID, 100, 20))
    assert ahead(rows) == 5
    # it falls by 2: two came, behind us
    rows = l2((0.7, K.LEVEL, BID, 100, 30), (1, K.TRADE, ASK, 100, 4), (1, K.LEVEL, BID, 100, 28))
    assert ahead(rows) == 6


def test_nobody_is_ahead_of_us_beyond_what_the_level_holds() -> None:
    rows = l2((0.7, K.LEVEL, BID, 100, 30), (1, K.LEVEL, BID, 100, 3))
    assert ahead(rows, queue_model="risk_averse") == 3


def test_nobody_stands_ahead_of_us_beyond_the_level_when_the_model_spares_them() -> None:
    # 10 ahead, 13 behind, 18 cancelled; the tenth power takes 1 or 2 of the 10, but 5 lots are left in all
    rows = l2((0.7, K.LEVEL, BID, 100, 23), (1, K.LEVEL, BID, 100, 5))
    assert ahead(rows, queue_model="power", queue_power=10.0) == 5


def test_something_that_is_no_function_is_a_config_error(tmp_path: Path) -> None:
    file = tmp_path / "q.py"
    file.write_text("share = 3\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="expected a function of"):
        ahead(queue_model=f"{file}:share")
