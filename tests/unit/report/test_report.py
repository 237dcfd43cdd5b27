"""The printed table, the files and the pictures, from made-up episodes."""

import hashlib
import io
import json

import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imread
from rich.console import Console

from mmsim import metrics
from mmsim.metrics import MarketResult
from mmsim.report import plots, table
from mmsim.report.folder import RunFolder
from mmsim.report.titles import duration, market_title

AGENTS = {"cmm", "glft", "idle"}


def printed(results, width=80, terminal=False):
    out = io.StringIO()
    table.render(results, Console(file=out, width=width, force_terminal=terminal, color_system=None))
    return out.getvalue()


def test_table_has_a_row_an_agent_and_says_what_it_is(results):
    text = printed(results)
    lines = [line.rstrip() for line in text.splitlines()]
    assert "if (real data), test: 3 episodes of 10 min, fees: zero, amounts in CNY" in lines
    assert "sim-rb (SIMULATED market), test: 1 episode of 10 min, fees: zero, amounts in CNY" in lines
    rows = [line for line in lines if line.split("│")[1:2] and line.split("│")[1].strip() in AGENTS]
    assert len(rows) == 4
    glft = next(r for r in rows if "glft" in r)
    assert table.number(results[1].metrics["epnl"]["mean"]) in glft
    assert glft.rstrip("│").endswith(f" {results[1].missed:,}")
    idle = next(r for r in rows if "idle" in r)
    assert " 0 [0, 0] " in idle
    one = [r for r in rows if "[one episode]" in r]
    assert len(one) == 1


def test_piped_table_is_never_cut(results):
    wide, narrow = (printed(results, width=w).split("EPnL, MDD")[0] for w in (80, 40))
    assert wide == narrow
    assert "…" not in narrow
    assert max(len(line) for line in printed(results).splitlines()) > 80


def test_narrow_terminal_gets_two_parts(results):
    text = printed(results[:1], width=110, terminal=True)
    assert text.count("agent") == 2
    assert "…" not in text
    assert printed(results[:1], width=250, terminal=True).count("│ agent") <= 1


@pytest.mark.parametrize(
    ("value", "text"),
    [(float("nan"), "-"), (-1234.5, "-1,234"), (0.00001234, "1.23e-05"), (99.999, "100.00")],
)
def test_numbers(value, text):
    assert table.number(value) == text


def test_title_gives_the_range_of_lengths(make_result):
    mixed = MarketResult("a", "if", False, (*make_result(episodes=1).episodes, *make_result(n=300).episodes))
    assert "4 episodes of 2.5 min to 10 min" in market_title(mixed)
    assert duration(3600) == "1 h"


def write(path, results, **given):
    folder = RunFolder(path, **{"config": {}, **given})
    for result in results:
        folder.add(result)
    folder.finish("done")
    return path / "run.json"


def test_run_json_has_the_promised_schema(results, tmp_path):
    path = write(
        tmp_path / "runs" / "x", results, config={"sim": {"seed": 1}, "out": tmp_path}, extra={"seed": 1}
    )
    run = json.loads(path.read_text(), parse_constant=pytest.fail)
    assert run["schema"] == 1
    assert set(run) == {
        "schema", "run_id", "status", "files", "results", "config", "versions", "git", "seed",
    }  # fmt: skip
    assert (run["status"], run["files"]) == ("done", ["fills.parquet", "steps.parquet"])
    assert run["config"] == {"sim": {"seed": 1}, "out": str(tmp_path)}
    assert run["versions"]["numpy"] == np.__version__
    for got, result in zip(run["results"], results, strict=True):
        assert (got["agent"], got["dataset"], got["simulated"]) == (
            result.agent,
            result.dataset,
            result.simulated,
        )
        assert got["episodes"] == len(result.episodes)
        assert got["fills"] == sum(len(ep.fills) for ep in result.episodes)
        assert (
            got["fills_sha256"]
            == hashlib.sha256(b"".join(ep.fills.tobytes() for ep in result.episodes)).hexdigest()
        )
        epnls = [metrics.epnl(ep) for ep in result.episodes]
        assert got["metrics"]["epnl"]["mean"] == pytest.approx(np.mean(epnls))
        assert {"map_", "pnl_map", "sharpe"} <= set(got["metrics"])
        assert set(got["latency_us"]) == {"p50", "p90", "p99", "max"}
        assert got["decisions"] + got["decisions_missed"] == 1_200 * len(result.episodes)
    idle = run["results"][2]
    assert idle["metrics"]["epnl"] == {"mean": 0.0, "std": 0.0, "ci95": [0.0, 0.0], "n": 3}
    assert idle["metrics"]["pnl_map"]["mean"] is None


def test_parquet_files_hold_every_row(results, tmp_path):
    write(tmp_path, results)
    fills, steps = pd.read_parquet(tmp_path / "fills.parquet"), pd.read_parquet(tmp_path / "steps.parquet")
    assert len(fills) == sum(r.fills for r in results)
    assert len(steps) == sum(len(ep.steps) for r in results for ep in r.episodes)
    ep = results[1].episodes[2]
    mine = fills[(fills.agent == "glft") & (fills.dataset == "if") & (fills.episode == 2)]
    for column in ("ts", "px", "qty", "side", "mid2", "reason", "order_id", "maker", "decision"):
        assert mine[column].tolist() == ep.fills[column].tolist()
    assert "pad" not in steps
    cash = steps[(steps.agent == "glft") & (steps.episode == 2)]["cash"]
    assert cash.tolist() == ep.steps["cash"].tolist()


def test_pictures_are_written_for_every_agent_and_market(results, tmp_path):
    paths = plots.plot_all(results, tmp_path)
    assert {p.name for p in paths} == {
        "if-cmm.png", "if-glft.png", "if-idle.png", "sim-rb-cmm.png", "if-comparison.png", "sim-rb-comparison.png",
    }  # fmt: skip
    assert {p.name for p in tmp_path.iterdir()} == {p.name for p in paths}
    for path in paths:
        image = imread(path)
        assert image.shape[0] > 600 and image.shape[1] >= 1_200
        assert image[..., :3].std() > 0.02  # not a blank page


def test_thinning_keeps_extremes_and_bounds():
    y = np.random.default_rng(0).normal(size=50_000)
    rows = plots.thin(y, 500)
    assert len(rows) <= 502
    assert {0, len(y) - 1, int(y.argmin()), int(y.argmax())} <= set(rows.tolist())
    assert (np.diff(rows) > 0).all()


def test_file_names_are_safe():
    odd = MarketResult("../a b/c.py:My Maker", "if", False, ())
    assert "/" not in odd.slug and ":" not in odd.slug and not odd.slug.startswith(".")


def test_long_names_of_agents_fit_into_a_file_name():
    one, two = (MarketResult(f"{'x' * 300}/{k}.py:Maker", "if", False, ()).slug for k in (1, 2))
    assert one != two
    assert max(len(one), len(two)) < 140
