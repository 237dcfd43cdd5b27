"""Every registered agent and every file in strategies/ keeps the contract."""

from pathlib import Path

import pytest

from mmsim import registry
from mmsim.agent import Agent
from mmsim.errors import ConfigError
from mmsim.testing import check_agent

ROOT = Path(__file__).resolve().parents[2]
DATASET = "sim-rb"  # trained agents are checked with the checkpoint of this market
TRAINED = ("cmm", "student", "teacher", "ppo")
STRATEGY_FILES = sorted(path for path in (ROOT / "strategies").glob("*.py") if not path.name.startswith("_"))


@pytest.mark.parametrize("name", [name for name in registry.names() if name not in TRAINED])
def test_rule_agents(name):
    check_agent(registry.resolve(name)).raise_if_failed()


@pytest.mark.parametrize("name", TRAINED)
def test_trained_agents(name):
    try:
        cls = registry.resolve(name)
    except ConfigError as err:
        pytest.skip(f"agent {name} cannot be imported: {err}")
    checkpoints = ROOT / "agents" / "checkpoints" / DATASET
    if name != "teacher" and not list(checkpoints.glob(f"{name}*.safetensors")):
        pytest.skip(f"no checkpoint of {name} for {DATASET} in agents/checkpoints")
    if name == "teacher":
        pytest.skip("the teacher takes a second a decision; its own tests cover it")
    check_agent(cls, dataset=DATASET).raise_if_failed()


@pytest.mark.parametrize("path", STRATEGY_FILES, ids=lambda path: path.stem)
def test_every_file_in_strategies_holds_one_agent_that_keeps_the_contract(path):
    cls = registry.resolve(str(path))
    assert issubclass(cls, Agent)
    report = check_agent(cls)
    report.raise_if_failed()
    assert report.agent == cls.__name__


def test_there_is_a_file_for_every_rule_and_a_template():
    assert {path.stem for path in STRATEGY_FILES} >= {
        "foic",
        "liic",
        "glft",
        "avellaneda_stoikov",
        "template",
    }
