"""Golden runs: integers and the sha256 of the fills, changed only with a reason (`make golden`)."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

from mmsim.calibration_store import lookup
from mmsim.config import SimConfig
from mmsim.data import load
from mmsim.registry import make_agent
from mmsim.sim.session import Session

FILE = Path(__file__).with_name("sessions.json")
SIM = {"latency": {"order": 1_000_000, "ack": 1_000_000}}
CASES = [
    (dataset, agent, sim)
    for dataset in ("sim-rb", "sim-cu", "if", "moutai", "amzn", "btcusdt", "rb-sample")
    for agent, sim in (("foic", {}), ("liic", SIM))
]


def measured(dataset: str, agent: str, sim: dict[str, Any]) -> dict[str, Any]:
    data = load(dataset, progress=False)
    session = Session(data, SimConfig(**sim), calibration=lookup(dataset))
    digest = hashlib.sha256()
    fills = traded = cash = 0
    episodes = data.splits["test"]
    for index, episode in enumerate(episodes[:2]):
        result = session.run(make_agent(agent), episode, index)
        digest.update(result.fills.tobytes())
        fills += len(result.fills)
        traded += int(result.fills["qty"].sum())
        cash += session.cash
    return {"fills": fills, "traded_lots": traded, "cash_tick_lots": cash, "sha256": digest.hexdigest()}


@pytest.mark.parametrize(("dataset", "agent", "sim"), CASES, ids=[f"{d}-{a}" for d, a, _ in CASES])
def test_run_is_the_golden_one(
    dataset: str, agent: str, sim: dict[str, Any], request: pytest.FixtureRequest
) -> None:
    if not dataset.startswith("sim-"):
        request.getfixturevalue("real_data_home")
    found = measured(dataset, agent, sim)
    golden = json.loads(FILE.read_text(encoding="utf-8")) if FILE.is_file() else {}
    key = f"{dataset}-{agent}"
    if os.environ.get("MMSIM_UPDATE_GOLDEN") == "1":
        golden[key] = found
        FILE.write_text(json.dumps(golden, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    assert found == golden[key]
