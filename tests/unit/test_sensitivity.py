"""`mmsim sensitivity`: the grid, ranks against hand-made ones, and the command from end to end on a small market."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from matplotlib.image import imread

from mmsim import runner, sensitivity
from mmsim.cli.main import main
from mmsim.config import LatencyConfig, RunConfig, SimConfig
from mmsim.errors import AgentError, ConfigError
from mmsim.report.ranking_table import render, verdict
from mmsim.sensitivity import grid, sim_for
from mmsim.statistics.ranking import Cell, Rankings, Score
from mmsim.testing import tiny_market
from mmsim.types import MarketData

AGENTS = """
from mmsim.agent import Quotes, Strategy, within_limits

class Touch(Strategy):
    inside: int = 0
    def reset(self, ctx):
        self._ctx = ctx
    def quote(self, obs):
        step = self.inside if obs.ask_px - obs.bid_px > 2 else 0
        return within_limits(obs.bid_px + step, obs.ask_px - step, self._ctx.unit, obs, self._ctx)

class Inside(Touch):
    inside: int = 1

class Idle(Strategy):
    def quote(self, obs):
        return Quotes.none()

class Broken(Strategy):
    def quote(self, obs):
        raise RuntimeError("no")
"""


@pytest.fixture
def agents(tmp_path: Path) -> str:
    path = tmp_path / "agents.py"
    path.write_text(AGENTS, encoding="utf-8")
    return str(path)


@pytest.fixture(scope="module")
def market() -> MarketData:
    return tiny_market(3, level="snapshot", seconds=40, spread_ticks=5)


@pytest.fixture
def served(market: MarketData, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (runner, sensitivity):
        monkeypatch.setattr(module, "load", lambda name, **_: market)


# ---- the grid --------------------------------------------------------------------------------------
def test_axes_that_cannot_matter_are_left_out_and_named() -> None:
    assert list(grid("snapshot").axes) == ["inside", "impact", "wire", "queue"]
    assert list(grid("L2").axes) == ["impact", "wire", "queue"]
    assert list(grid("L3").axes) == ["impact", "wire"]
    assert [text.split(":")[0] for text in grid("L3", {"queue": ("log",)}).dropped] == ["inside", "queue"]
    assert grid("snapshot").dropped == ()


def test_the_first_setting_is_the_base_and_all_combinations_are_run() -> None:
    found = grid("L2", {"queue": ("log", "power(3)"), "wire": ("5", "7", "5"), "impact": ("consume",)})
    base = {"impact": "consume", "wire": "5", "queue": "log"}
    assert found.settings() == [
        {**base, "wire": a, "queue": q} for a in ("5", "7") for q in ("log", "power(3)")
    ]


def test_the_default_base_is_what_a_run_takes_by_default() -> None:
    for level in ("L3", "L2", "snapshot"):
        base = sim_for(grid(level).settings()[0], SimConfig())
        assert base == SimConfig()


def test_settings_become_physics() -> None:
    sim = sim_for(
        {"queue": "power(3)", "wire": "250", "impact": "consume", "inside": "any"},
        SimConfig(seed=4, latency=LatencyConfig(decision=8, cancel=9, sigma=0.5)),
    )
    assert (sim.queue_model, sim.queue_power, sim.impact, sim.inside, sim.seed) == (
        "power",
        3.0,
        "consume",
        "any",
        4,
    )
    assert sim.latency == LatencyConfig(decision=8, feed=250, order=250, ack=250, sigma=0.5)


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ({"wire": ("1ms",)}, "whole numbers of ns"),
        ({"ques": ("log",)}, "did you mean 'queue'"),
        ({"queue": ()}, "at least one value"),
    ],
)
def test_wrong_axes_are_named(axes: dict[str, tuple[str, ...]], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        grid("L2", axes)


def test_wrong_values_end_the_run_before_anything_is_run(served: None) -> None:
    with pytest.raises(ConfigError, match="inside"):
        sensitivity.run(["none-such"], "tiny", axes={"inside": ("outside",)})


# ---- ranks -----------------------------------------------------------------------------------------
def made(*rows: tuple[float, ...]) -> Rankings:
    """Cells of the agents a, b, c with these EPnL; ranks, tau and lead are given by hand below."""
    cells = []
    for k, values in enumerate(rows):
        order = sorted(values, reverse=True)
        scores = tuple(
            Score(name, x, x - 1, x + 1, order.index(x) + 1, 1, f"{name}{x}")
            for name, x in zip("abc", values, strict=True)
        )
        tau = {0: 1.0, 1: 1 / 3, 2: -1.0}[k]
        cells.append(Cell({"wire": str(k)}, scores, tau, tau, order[0] - order[1], 2.0 - k, 9.0))
    return Rankings("x", "x (real data)", "CNY", "validation", {"wire": ("0", "1", "2")}, tuple(cells))


def test_summary_counts_what_changed() -> None:
    found = made((3.0, 2.0, 1.0), (3.0, 1.0, 2.0), (1.0, 2.0, 3.0))
    assert found.ranks.tolist() == [[1, 1, 3], [2, 3, 2], [3, 2, 1]]
    s = found.summary
    assert (s["cells"], s["winner_stays"], s["same_order"], s["least_tau"]) == (2, 0.5, 0.0, -1.0)
    assert s["mean_tau"] == pytest.approx(-1 / 3)
    assert (s["clear_lead"], s["clear_other_winner"]) == (0.5, 0.0)
    assert s["by_axis"]["wire"]["2"]["winner_stays"] == 0.0
    assert "a, best in the base setting, stays best in 50% of 2 other settings" in verdict(found)
    assert found.idle == ()


def test_agents_that_are_level_share_the_place() -> None:
    found = made((2.0, 2.0, 1.0), (1.0, 2.0, 2.0))
    assert found.base.winners == ("a", "b")
    assert found.winner_stays(found.cells[1])
    assert not found.same_order(found.cells[1])


# ---- from end to end -------------------------------------------------------------------------------
def command(*argv: object) -> int:
    with pytest.raises(SystemExit) as stop:
        main([str(a) for a in argv])
    return int(stop.value.code or 0)


@pytest.mark.usefixtures("served")
def test_command_prints_and_writes_every_cell(
    agents: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ",".join(f"{agents}:{name}" for name in ("Inside", "Touch", "Idle"))
    axes = ("--wire", "0,1", "--queue", "proportional,risk_averse", "--impact", "none,consume")
    out = tmp_path / "out"
    assert command("sensitivity", "-a", names, "-d", "tiny", "-o", out, *axes) == 0
    printed, _ = capsys.readouterr()
    assert "validation: 1 episode" in printed
    assert "wire 1 ns: the same fills as 0 everywhere" in printed  # snapshots come every half second
    document = json.loads((out / "sensitivity.json").read_text(encoding="utf-8"))
    cells = document["cells"]
    assert len(cells) == document["summary"]["cells"] + 1 == 3 * 2 * 2 * 2
    assert [c["base"] for c in cells].count(True) == 1
    assert cells[0]["kendall_tau"] == 1.0
    for c in cells:
        epnls = [s["epnl"] for s in c["scores"]]
        assert [s["rank"] for s in c["scores"]] == [1 + sum(y > x for y in epnls) for x in epnls]
        assert epnls[2] == 0
    with (out / "sensitivity.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [float(r["epnl"]) for r in rows] == [s["epnl"] for c in cells for s in c["scores"]]
    assert imread(out / "sensitivity.png").std() > 0.01


@pytest.mark.usefixtures("served")
def test_a_cell_is_what_a_run_with_that_setting_gives(agents: str) -> None:
    names = [f"{agents}:Inside", f"{agents}:Touch"]
    axes = {"wire": ("0",), "queue": ("log",), "impact": ("consume",)}
    steps: list[tuple[int, int]] = []
    found = sensitivity.run(names, "tiny", axes=axes, tick=lambda _, done, total: steps.append((done, total)))
    assert steps == [(k, 6) for k in range(6)]
    for c in found.cells:
        sim = SimConfig(queue_model="log", impact="consume", inside=c.setting["inside"])  # type: ignore[arg-type]
        config = RunConfig(agents=tuple(names), datasets=("tiny",), split="validation", sim=sim)
        alone = runner.run(config).results
        assert [s.fills_sha256 for s in c.scores] == [r.fills_sha256 for r in alone]
        assert [s.epnl for s in c.scores] == [r.metrics["epnl"]["mean"] for r in alone]
    by_rule = {c.setting["inside"]: c.scores[0].fills for c in found.cells}
    assert by_rule["any"] > by_rule["through"] >= by_rule["strict"]


@pytest.mark.usefixtures("served")
def test_one_setting_alone_has_nothing_to_compare(agents: str, capsys: pytest.CaptureFixture[str]) -> None:
    one = {"wire": ("0",), "queue": ("log",), "impact": ("none",), "inside": ("any",)}
    render(sensitivity.run([f"{agents}:Touch"], "tiny", axes=one))
    assert "nothing to compare" in capsys.readouterr().out


@pytest.mark.usefixtures("served")
def test_an_agent_that_fails_ends_the_run(agents: str, tmp_path: Path) -> None:
    with pytest.raises(AgentError, match="RuntimeError"):
        sensitivity.run([f"{agents}:Broken"], "tiny")
    assert command("sensitivity", "-a", f"{agents}:Broken", "-d", "tiny", "-o", tmp_path / "out") == 2
    assert not (tmp_path / "out").exists()
