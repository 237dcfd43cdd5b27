import json

import numpy as np
import pandas as pd
import pytest

from mmsim.errors import ConfigError
from mmsim_agents.teacher import causal, probing
from mmsim_agents.teacher import model as tm
from mmsim_agents.teacher.nfp import Probed, fluoresce


@pytest.fixture(scope="module")
def report(tiny_folder, toy_raw, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MMSIM_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        return probing.probe_market(
            "sim-toy", [toy_raw(300)], [toy_raw(200, 1)],
            model=tm.load_teacher(str(tiny_folder), dtype="float32"), samples=240, causal_samples=6,
        )  # fmt: skip


def test_report_has_teacher_control_causal_reading_and_tests(report):
    assert report.teacher.nfp.shape == report.control.nfp.shape == (3, 3, 3)
    assert report.control_id != report.model_id
    assert report.teacher.counts.sum() == 60
    np.testing.assert_allclose(report.causal.sum(1), 1.0)
    assert (report.change >= 0).all() and (report.change[:, 1:] > 0).any(1).all()
    assert (report.change[:, 0] == 0).all()  # the cue word's embedding knows nothing
    assert len(report.tests) == 15
    for t in report.tests:
        assert 0 < t.p <= t.adjusted <= 1
    assert report.settings["samples_train"] == 240


def test_files_hold_what_the_report_says(report, tmp_path):
    parquet, js, png = probing.write_report(report, tmp_path / "out")
    table = pd.read_parquet(parquet)
    assert len(table) == 2 * 3 * 3 * 3
    sums = table.groupby(["model", "task", "regime"])["nfp"].sum()
    np.testing.assert_allclose(sums, 1.0)
    said = json.loads(js.read_text())
    assert said["verdict"] == report.verdict and set(said["causal"]) == set(causal.FIELD_GROUPS)
    assert png.read_bytes()[:4] == b"\x89PNG" and png.stat().st_size > 20_000


def planted(n, seed, strength):
    rng = np.random.default_rng(seed)
    y = rng.standard_normal((n, 3))
    h = rng.standard_normal((n, 6, 10))
    for c, layer in enumerate((1, 3, 5)):
        h[:, layer, c] += strength * y[:, c]
    return Probed(h, y, rng.integers(0, 3, n).astype(np.int8))


@pytest.mark.parametrize("strength", [3.0, 0.0])
def test_verdict_is_honest(strength):
    teacher = fluoresce(*(planted(n, s, strength) for n, s in ((400, 0), (100, 1), (400, 2))))
    control = fluoresce(*(planted(n, s, 0.0) for n, s in ((400, 5), (100, 6), (400, 7))))
    tests = probing._tests(teacher, control)
    verdict = probing._verdict(control, tests)
    carried = [line for line in verdict if "control carry the same" in line or "carries more" in line]
    if strength:
        assert carried == ["The teacher carries more than its random-weight control: mid, spread, volume."]
        assert not verdict[0].startswith("FAILED")
    else:
        assert carried == ["FAILED: teacher and random-weight control carry the same: mid, spread, volume."]
    assert "No control was run" in probing._verdict(None, probing._tests(teacher, None))[-1]


@pytest.mark.parametrize("group", causal.FIELD_GROUPS)
def test_perturbation_moves_its_fields_only_and_keeps_the_book_sound(toy_raw, group):
    raw = toy_raw(500)
    scale = causal.field_scales([raw])
    rows = raw[100:110]
    before = rows.copy()
    got = causal.perturb(rows, group, scale, np.random.default_rng(0))
    assert np.array_equal(rows, before)
    fields = {
        "prices": ["bid_px", "ask_px", "bid_pxs", "ask_pxs"],
        "sizes": ["bid_qty", "ask_qty", "bid_qtys", "ask_qtys"],
        "trades": ["buy_qty", "sell_qty"],
    }
    for name, columns in fields.items():
        assert np.array_equal(got[columns], rows[columns]) == (name != group)
    rest = [name for name in got.dtype.names if not any(name in columns for columns in fields.values())]
    assert np.array_equal(got[rest], rows[rest])
    assert (got["ask_px"] > got["bid_px"]).all()
    assert (got["bid_pxs"][:, 0] == got["bid_px"]).all() and (got["ask_qtys"][:, 0] == got["ask_qty"]).all()
    assert (got["buy_qty"] >= 0).all() and (got["sell_qty"] >= 0).all()


def test_unknown_field_group_is_refused(toy_raw):
    with pytest.raises(ConfigError, match="field group"):
        causal.perturb(toy_raw(5), "weather", {}, np.random.default_rng(0))


def test_command_prints_a_table_and_writes_the_files(tiny_folder, tmp_path, monkeypatch, capsys):
    import mmsim.data
    from mmsim.cli.main import main
    from mmsim.testing.markets import tiny_market

    market = tiny_market(seconds=100, name="tiny")
    monkeypatch.setattr(mmsim.data, "load", lambda *_, **__: market)
    argv = ["probe", "--dataset", "tiny", "--model", str(tiny_folder), "--samples", "120"]
    with pytest.raises(SystemExit) as stopped:
        main([*argv, "--out", str(tmp_path / "out")])
    assert stopped.value.code == 0
    shown = capsys.readouterr().out
    assert "control" in shown and "layer groups: shallow 0-0, middle 1-1, deep 2-2" in shown
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["nfp.parquet", "nfp.png", "probe.json"]
    with pytest.raises(SystemExit) as stopped:
        main([*argv, "--pool", "max"])
    assert stopped.value.code == 2
    assert "--pool: expected 'last' or 'mean'" in capsys.readouterr().err
