"""The PPO agent (no torch) and its training on a tiny market."""

import dataclasses
import itertools
import json
import subprocess
import sys

import numpy as np
import pytest

from mmsim.config import SimConfig
from mmsim.errors import ConfigError
from mmsim.quoting import N_ACTIONS, N_STATE, QuoterSpec
from mmsim.sim.session import Session
from mmsim.testing.markets import tiny_market
from mmsim_agents.common import checkpoint
from mmsim_agents.common.resume import WorkFolder
from mmsim_agents.rl import policy as p
from mmsim_agents.rl.agent import PPO


def network(seed=0, gain=1.0):
    rng = np.random.default_rng(seed)
    sizes = [N_STATE, 64, 64, N_ACTIONS]
    return p.Network(
        [
            (rng.normal(0, gain / np.sqrt(a), (b, a)).astype(np.float32), rng.normal(0, 0.1, b).astype("f4"))
            for a, b in itertools.pairwise(sizes)
        ]
    )


def read(folder):
    return checkpoint.read(folder, "ppo", p.Policy.parse)


@pytest.fixture(scope="module")
def market():
    return tiny_market(4)


@pytest.fixture(scope="module")
def shelf(tmp_path_factory, market):
    """A folder of checkpoints with an untrained policy for the market."""
    root = tmp_path_factory.mktemp("checkpoints")
    p.Policy(network(), QuoterSpec(), {"dataset": market.name}).write(root / market.name)
    return root


def test_runs_without_torch_and_gymnasium():
    code = (
        "import sys, mmsim_agents.rl.agent\n"
        "heavy = {'torch', 'gymnasium', 'stable_baselines3', 'pandas'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_network_is_tanh_layers_cut_to_the_box():
    net = network(gain=3.0)
    x = np.random.default_rng(1).normal(size=(50, N_STATE)).astype(np.float32)
    h = x.astype(float)
    for w, b in net.layers[:-1]:
        h = np.tanh(h @ w.astype(float).T + b)
    w, b = net.layers[-1]
    expected = np.clip(h @ w.astype(float).T + b, -1, 1)
    got = np.array([net(row) for row in x])
    np.testing.assert_allclose(got, expected, atol=1e-5)
    assert (np.abs(got) == 1).any() and got.dtype == np.float32
    again = p.Network.from_arrays(net.arrays())
    assert all((again(row) == net(row)).all() for row in x)


def test_network_of_the_wrong_shape_is_refused():
    with pytest.raises(ConfigError, match="weight of shape"):
        p.Network([(np.zeros((2, N_STATE + 1), np.float32), np.zeros(2, np.float32))])
    with pytest.raises(ConfigError, match="outputs"):
        p.Network([(np.zeros((3, N_STATE), np.float32), np.zeros(3, np.float32))])


def test_missing_and_broken_checkpoints_say_what_to_do(market, tmp_path, shelf):
    session = Session(market, checkpoints=tmp_path)
    with pytest.raises(ConfigError, match="mmsim train ppo --dataset tiny"):
        session.run(PPO(), market.splits["test"][0])
    folder = tmp_path / market.name
    read(shelf / market.name).write(folder)
    weights = folder / "ppo.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(ConfigError, match=r"cannot be read.*--fresh"):
        read(folder)
    card = json.loads((folder / "ppo.json").read_text())
    card["quoter"]["state"].pop()
    (folder / "ppo.json").write_text(json.dumps(card))
    read(shelf / market.name).write(tmp_path / "other")
    weights.write_bytes((tmp_path / "other" / "ppo.safetensors").read_bytes())
    with pytest.raises(ConfigError, match="other features"):
        read(folder)


@pytest.mark.parametrize("level", ["L3", "L2", "snapshot"])
def test_environment_and_session_give_the_same_fills(level, shelf):
    env_module = pytest.importorskip("mmsim.env", exc_type=ImportError)
    data = tiny_market(6, level=level)
    sim = SimConfig(latency={"decision": 700_000_000, "order": 10_000_000})
    policy = read(shelf / data.name)
    env = env_module.MarketMakingEnv(data, split="test", sim=sim, quoter=policy.quoter)
    state, _ = env.reset(options={"episode": 0})
    done = False
    while not done:
        state, _, done, _, _ = env.step(policy.network(state))
    agent = PPO()
    session = Session(data, sim, checkpoints=shelf)
    twice = [session.run(agent, data.splits["test"][0]) for _ in range(2)]
    assert len(env.result().fills) > 3
    for run in twice:  # an agent's second episode forgets the first
        assert run.fills.tobytes() == env.result().fills.tobytes()


def test_size_is_a_parameter(market, shelf):
    session = Session(market, checkpoints=shelf)
    result = session.run(PPO(size_units=2), market.splits["test"][0])
    assert result.steps["own_bid_qty"].max() == 2
    with pytest.raises(ConfigError, match="at least 1"):
        session.run(PPO(size_units=0), market.splits["test"][0])


# ---- training --------------------------------------------------------------------------------------
QUICK = {
    "n_envs": 2, "rollout": 64, "batch": 32, "epochs": 2, "block": 40, "hidden": (16, 16), "validate_every": 128,
}  # fmt: skip


@pytest.fixture(scope="module")
def trainer():
    pytest.importorskip("stable_baselines3")
    from mmsim_agents.rl import train

    return train


@pytest.fixture
def cache(monkeypatch, tmp_path):
    # The compiled kernels stay where they are: only the resumable state moves.
    monkeypatch.setattr("mmsim_agents.rl.train.cache_home", lambda: tmp_path / "cache")
    return tmp_path / "cache"


def run(trainer, market, out, steps=384, **options):
    config = trainer.TrainConfig(**QUICK)
    folder = trainer.train(market, out=out, steps=steps, config=config, **options)
    return folder, json.loads((folder / "ppo.json").read_text())


def test_training_writes_a_card_and_repeats_itself(trainer, market, tmp_path, cache):
    folder, card = run(trainer, market, tmp_path / "a", seed=3, command="mmsim train ppo")
    assert folder == tmp_path / "a" / "tiny"
    assert sorted(f.name for f in folder.iterdir()) == ["ppo.json", "ppo.safetensors"]
    assert [row["step"] for row in card["validation"]] == [0, 128, 256, 384]
    assert card["chosen"]["reward"] == max(row["reward"] for row in card["validation"])
    assert (card["seed"], card["steps"], card["command"]) == (3, 384, "mmsim train ppo")
    assert set(card["references"]) == {"0", "1", "2"} and card["versions"]["torch"]
    assert 50 < len(card["latency_ns"]) <= 512 and min(card["latency_ns"]) > 0
    assert not list(cache.rglob("*.safetensors")), "the resumable state is gone at the end"
    _, twin = run(trainer, market, tmp_path / "b", seed=3)
    assert twin["validation"] == card["validation"]
    one, two = (read(tmp_path / x / "tiny").network for x in "ab")
    assert all((one.arrays()[k] == two.arrays()[k]).all() for k in one.arrays())
    run(trainer, market, tmp_path / "c", steps=128, seed=4)
    other = read(tmp_path / "c" / "tiny").network
    assert (other.arrays()["0.weight"] != one.arrays()["0.weight"]).any()
    # The validation row is what the agent then earns in a session of its own.
    session = Session(market, checkpoints=tmp_path / "a")
    result = session.run(PPO(), market.splits["validation"][0])
    from mmsim.metrics import epnl

    assert epnl(result) == pytest.approx(card["chosen"]["epnl"], abs=1e-9)


def test_a_training_interrupted_after_every_update_ends_as_an_uninterrupted_one(
    trainer, market, tmp_path, cache, monkeypatch
):
    import torch

    config = trainer.TrainConfig(**QUICK, lr=0.02)  # large, so that validation sees a change
    save = WorkFolder.save
    states, stop = {}, False

    def watched(self, step, note, arrays):
        save(self, step, note, arrays)
        (file,) = self.path.glob("*.safetensors")
        states.setdefault(step, []).append(file.read_bytes())
        if stop:
            raise KeyboardInterrupt

    def train(out):
        folder = trainer.train(market, out=out, seed=1, steps=640, config=config)
        return folder / "ppo.safetensors", json.loads((folder / "ppo.json").read_text())

    monkeypatch.setattr(WorkFolder, "save", watched)
    straight, card = train(tmp_path / "straight")
    stop = True
    for n in range(4):
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / "resumed")
        assert not (tmp_path / "resumed").exists(), "a checkpoint is written when the training is done"
        torch.manual_seed(n)  # what another process would find there
        np.random.seed(n)  # noqa: NPY002
    resumed, again = train(tmp_path / "resumed")
    assert list(states) == [128, 256, 384, 512], "each time in the middle of the environments' episodes of 40"
    for step, (one, other) in states.items():
        assert one == other, step
    assert len({row["reward"] for row in card["validation"]}) >= 4, "the policy moved"
    assert resumed.read_bytes() == straight.read_bytes()
    for timed in ("seconds", "latency_us", "latency_ns"):
        del card[timed], again[timed]
    assert again == card


def test_a_damaged_state_is_said_and_fresh_starts_anew(trainer, market, tmp_path, cache, monkeypatch):

    save = WorkFolder.save

    def interrupted(*args):
        save(*args)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(WorkFolder, "save", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(trainer, market, tmp_path / "out")
    (arrays,) = cache.rglob("*.safetensors")
    whole = arrays.read_bytes()
    arrays.write_bytes(whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:])
    with pytest.raises(ConfigError, match=r"expected what was saved.*--fresh"):
        run(trainer, market, tmp_path / "out")
    run(trainer, market, tmp_path / "out", fresh=True)


def test_a_state_belongs_to_one_market_and_one_set_of_constants(trainer, market):
    config = trainer.TrainConfig(**QUICK)
    folder = trainer.work_folder(market, config)
    assert folder == trainer.work_folder(tiny_market(4), config)
    (episode,) = market.splits["train"]
    shorter = {**market.splits, "train": (dataclasses.replace(episode, end_ts=episode.end_ts - 1),)}
    larger = dataclasses.replace(market.instrument, unit_lots=7)
    others = [
        trainer.work_folder(dataclasses.replace(market, splits=shorter), config),
        trainer.work_folder(dataclasses.replace(market, instrument=larger), config),
        trainer.work_folder(market, dataclasses.replace(config, seed=1)),
    ]
    assert folder not in others


def test_exported_network_is_the_policy_of_torch(trainer, market, tmp_path):
    import stable_baselines3 as sb3
    import torch

    from mmsim.env import MarketMakingEnv
    from mmsim_agents.rl.learner import export

    model = sb3.PPO("MlpPolicy", MarketMakingEnv(market), policy_kwargs={"net_arch": [64, 64]}, device="cpu")
    with torch.no_grad():  # larger than at the start, so that the cut to [-1, 1] matters
        model.policy.action_net.weight *= 100.0
    net = export(model)
    states = np.random.default_rng(0).normal(size=(200, N_STATE)).astype(np.float32)
    expected = model.predict(states, deterministic=True)[0]
    got = np.array([net(s) for s in states])
    assert (np.abs(got) == 1).any()
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_what_cannot_be_trained_is_refused(trainer, market, tmp_path):
    with pytest.raises(ConfigError, match="at least one rollout, 128, was 100"):
        run(trainer, market, tmp_path, steps=100)
    with pytest.raises(ConfigError, match="no validation episodes"):
        run(trainer, dataclasses.replace(market, splits={"train": market.splits["train"]}), tmp_path)


def test_reach_follows_the_spread(trainer, market):
    narrow, wide = (trainer.fit_quoter(tiny_market(0, spread_ticks=n, seconds=30)) for n in (1, 8))
    assert 3.0 <= narrow.max_offset_ticks <= 4.0
    assert wide.max_offset_ticks == wide.max_skew_ticks == round(2 * wide.mean[0]) > 10
