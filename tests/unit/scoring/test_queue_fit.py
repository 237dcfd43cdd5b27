"""Choosing the power, keeping it, and the page of the documentation that shows one's own model."""

import json
import re
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from mmsim.calibration_store import fitted_queue_power
from mmsim.config import SimConfig
from mmsim.data.views import level_view, snapshot_view
from mmsim.errors import ConfigError
from mmsim.scoring.probes import NS, Plan, compare
from mmsim.scoring.queue import (
    RULES,
    SIMPLE,
    fit_queue,
    inside_plan,
    models,
    pooled,
    power_name,
    save,
    score_inside,
    steps,
)
from mmsim.scoring.scores import score
from mmsim.testing import tiny_market

ROOT = Path(__file__).resolve().parents[3]
PLAN = Plan.living(8)
POWERS = (0.5, 1.0, 3.0)


@pytest.fixture(scope="module")
def market():
    return tiny_market(11, seconds=240, events_per_second=30, unit_lots=3, name="tiny")


@pytest.fixture(scope="module")
def fit(market):
    calls = []
    found = fit_queue(
        market, report_split="validation", plan=PLAN, powers=POWERS, tick=lambda: calls.append(1)
    )
    assert len(calls) == steps(market, PLAN, POWERS)
    return found


def test_the_power_with_the_least_error_is_chosen_on_its_split_alone(fit, market):
    view = level_view(market)
    found = compare(market, view, "train", PLAN, models(POWERS))
    again = {s.name: s for s in score(*found, PLAN.lives_ns, PLAN.horizons_s, reference="proportional")}
    assert {s.name: s.error for s in fit.fit} == {name: s.error for name, s in again.items()}
    assert fit.power == min(POWERS, key=lambda n: again[power_name(n)].error.value)
    assert fit.low <= fit.power <= fit.high
    assert [s.name for s in fit.report] == [*SIMPLE, power_name(fit.power)]
    assert (fit.split, fit.report_split) == ("train", "validation")
    assert fit.report[0].true_rate != fit.fit[0].true_rate


def test_power_one_is_proportional(fit):
    by_name = {s.name: s for s in fit.fit}
    one, proportional = by_name["power 1"].to_dict(), by_name["proportional"].to_dict()
    one.pop("name"), proportional.pop("name")
    assert one == proportional


def test_several_markets_count_the_same(fit):
    assert pooled([fit], POWERS) == fit.power
    assert pooled([fit, fit], POWERS) == fit.power


def test_what_is_saved_is_what_a_run_uses(fit, tmp_path, monkeypatch):
    monkeypatch.setenv("MMSIM_CACHE_HOME", str(tmp_path))
    folder = tmp_path / "calibration"
    path = save([fit], fit.power, folder)
    assert path == folder / "tiny.queue.toml"
    assert fitted_queue_power("tiny") == fit.power
    stored = tomllib.loads(path.read_text(encoding="utf-8"))
    assert stored["split"] == "train"
    assert stored["power_range"] == [fit.low, fit.high]
    assert set(stored["scores"]["tiny"]) == {"train", "validation"}
    best = stored["scores"]["tiny"]["train"][power_name(fit.power)]
    assert best == [round(x, 4) for x in next(s.error for s in fit.fit if s.name == power_name(fit.power))]
    twin = replace(fit, dataset="twin")
    assert save([fit, twin], 3.0, folder).name == "all.queue.toml"
    assert fitted_queue_power("another-market") == 3.0
    assert sorted(p.name for p in folder.iterdir()) == ["all.queue.toml", "tiny.queue.toml"]


def test_scores_on_snapshots_are_of_the_same_orders(fit, market):
    view = snapshot_view(market, NS // 5, 5)
    other = fit_queue(market, report_split="validation", plan=PLAN, powers=(1.0,), view=view)
    assert other.fit[0].n == fit.fit[0].n
    assert other.fit[0].true_rate == fit.fit[0].true_rate
    assert other.fit[0].error.value > fit.fit[0].error.value, "snapshots show less"


def test_the_rules_for_quotes_inside_the_spread_are_ordered():
    market = tiny_market(11, seconds=240, events_per_second=30, spread_ticks=6)
    through, anything, strict = score_inside(market, NS // 5, 5, split="train", plan=inside_plan(8))
    assert (through.name, anything.name, strict.name) == RULES
    for k in range(len(through.horizons_s)):
        assert strict.predicted_rate[k] <= through.predicted_rate[k] <= anything.predicted_rate[k]
    assert through.versus == (0.0, 0.0, 0.0)
    with pytest.raises(ConfigError, match="an interval that divides"):
        score_inside(market, NS, 5, split="train", plan=inside_plan(8))


def test_nothing_to_try_is_refused(market):
    with pytest.raises(ConfigError, match="at least one power"):
        fit_queue(market, plan=PLAN, powers=())


def test_a_fit_is_plain_data(fit):
    text = json.dumps([s.to_dict() for s in fit.fit], allow_nan=False)
    assert json.loads(text)[0]["name"] == "risk_averse"


def test_the_example_of_the_documentation_runs(market, tmp_path):
    page = (ROOT / "docs" / "queue_models.md").read_text(encoding="utf-8")
    example = re.search(r"```python\n(# my_queue\.py\n.*?)```", page, re.DOTALL)
    assert example is not None
    assert len(example.group(1).splitlines()) == 6
    file = tmp_path / "my_queue.py"
    file.write_text(example.group(1), encoding="utf-8")
    own = [
        ("mine", SimConfig(queue_model=f"{file}:mine")),
        ("risk_averse", SimConfig(queue_model="risk_averse")),
        ("proportional", SimConfig(queue_model="proportional")),
    ]
    found = compare(market, level_view(market), "train", PLAN, own)
    mine, careful, middle = score(*found, PLAN.lives_ns, PLAN.horizons_s, reference="mine")
    assert careful.predicted_rate[-1] <= mine.predicted_rate[-1] <= middle.predicted_rate[-1]
    assert mine.error != careful.error


@pytest.mark.parametrize("name", ["amzn", "moutai", "all"])
def test_shipped_fits_are_found(name, tmp_path, monkeypatch):
    monkeypatch.setenv("MMSIM_CACHE_HOME", str(tmp_path))
    power = fitted_queue_power(name if name != "all" else "no-such-market")
    stored = tomllib.loads(
        (ROOT / "datasets" / "calibration" / f"{name}.queue.toml").read_text(encoding="utf-8")
    )
    assert stored["power"] == power
    for scores in stored["scores"].values():
        assert min(scores["train"][power_name(n)][0] for n in (0.5, 1.0, power)) > 0
        assert {"train", "test"} == set(scores)
