"""The Gymnasium environment against the ledger of the same episode."""

import dataclasses
import warnings
from decimal import Decimal

import numpy as np
import pytest

gymnasium = pytest.importorskip("gymnasium")

from gymnasium.utils.env_checker import check_env  # noqa: E402

from mmsim.config import SimConfig  # noqa: E402
from mmsim.env import ENV_ID, MarketMakingEnv, RewardSpec  # noqa: E402
from mmsim.errors import AgentError, ConfigError, DataError  # noqa: E402
from mmsim.metrics import epnl, ledger, map_, traded_value  # noqa: E402
from mmsim.quoting import QuoterSpec  # noqa: E402
from mmsim.testing.markets import tiny_market  # noqa: E402
from mmsim.types import FeeSchedule, FillReason  # noqa: E402


@pytest.fixture(scope="module")
def markets():
    return {
        "L3": tiny_market(1),
        "L2": tiny_market(2, level="L2", unit_lots=100, spread_ticks=4),
        "snapshot": tiny_market(3, level="snapshot"),
    }


def episode(env, seed=0, **options):
    """Random actions; returns the rewards and the steps' infos."""
    rng = np.random.default_rng(seed)
    env.reset(seed=seed, options=options)
    rewards, infos, done = [], [], False
    while not done:
        state, reward, done, truncated, info = env.step(rng.uniform(-1, 0.4, 2).astype(np.float32))
        assert not truncated
        assert env.observation_space.contains(state)
        rewards.append(reward)
        infos.append(info)
    return rewards, infos


def total(infos, name):
    return sum(info[name] for info in infos)


@pytest.mark.parametrize("level", ["L3", "L2", "snapshot"])
def test_passes_the_checker_of_gymnasium(markets, level):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(MarketMakingEnv(markets[level]), skip_render_check=True)


def test_is_registered(markets):
    env = gymnasium.make(f"mmsim.env:{ENV_ID}", dataset=markets["L3"], quoter=QuoterSpec())
    assert isinstance(env.unwrapped, MarketMakingEnv)
    state, info = env.reset(seed=1)
    assert state in env.observation_space and info["inventory"] == 0


@pytest.mark.parametrize("level", ["L3", "L2", "snapshot"])
@pytest.mark.parametrize("latency", [0, 1_300_000_000])
def test_rewards_sum_to_the_ledger_exactly(markets, level, latency):
    sim = SimConfig(latency={"decision": latency, "order": latency // 100})
    env = MarketMakingEnv(markets[level], sim=sim, scale="half_ticks", quoter=QuoterSpec())
    rewards, infos = episode(env, seed=5)
    result = env.result()
    assert len(result.fills) > 3 and (result.fills["reason"] == FillReason.CLOSE).any()
    assert all(type(info["pnl_half_ticks"]) is int for info in infos)
    assert sum(rewards) == total(infos, "pnl_half_ticks") == ledger.pnl_half_ticks(result)
    assert ledger.pnl_half_ticks(result) == 2 * ledger.cash(result) == 2 * env.session.cash
    assert total(infos, "spread_capture") == ledger.spread_capture(result)
    assert total(infos, "inventory_revaluation") == ledger.inventory_revaluation(result)
    unit_value = result.instrument.tick_value
    assert total(infos, "traded_ticks") * unit_value == pytest.approx(traded_value(result), rel=1e-12)
    steps = result.steps
    gaps = np.diff(steps["ts"], append=result.end_ts)
    assert total(infos, "inventory_sq_ns") == int(np.dot(steps["inventory"] ** 2, gaps))
    assert (len(steps) > len(infos)) == (latency > 0), "a slow maker misses decisions"
    assert infos[-1]["inventory"] == 0 and infos[-1]["ts"] == result.end_ts


@pytest.mark.parametrize("level", ["L3", "L2"])
def test_gains_are_the_positive_revaluations_of_the_steps(markets, level):
    env = MarketMakingEnv(markets[level], quoter=QuoterSpec())
    _, infos = episode(env, seed=2)
    result = env.result()
    # The inventory's path, event by event: a fill's mid and each decision's mid.
    marks = [(int(s["ts"]), 1, int(s["mid2"]), 0) for s in result.steps]
    marks += [(int(f["ts"]), 0, int(f["mid2"]), int(f["side"]) * int(f["qty"])) for f in result.fills]
    marks.sort(key=lambda row: row[:2])
    held, last, moved = 0, marks[0][2], [0]
    for ts, is_step, mid2, change in marks:
        moved[-1] += held * (mid2 - last)
        held, last = held + change, mid2
        if is_step and ts > result.steps["ts"][0]:
            moved.append(0)
    assert [info["inventory_revaluation"] for info in infos] == moved
    assert [info["inventory_gain"] for info in infos] == [max(x, 0) for x in moved]


def test_each_reward_is_its_formula(markets):
    data = markets["L2"]  # 100 lots a unit
    weights = {"eta": 0.7, "phi": 0.02, "beta": 1e-4, "excess": 0.3, "threshold_units": 1.5}

    def play(name, scale):
        env = MarketMakingEnv(data, reward=RewardSpec(name, scale, **weights), quoter=QuoterSpec())
        rewards, infos = episode(env, seed=4)
        return np.array(rewards), infos, env.result()

    pnl, infos, result = play("pnl", "ticks")
    tick_value = data.instrument.tick_value
    column = {name: np.array([info[name] for info in infos], float) for name in infos[0]}
    assert pnl.sum() * 100 * tick_value == pytest.approx(epnl(result))
    np.testing.assert_allclose(play("pnl", "currency")[0], pnl * 100 * tick_value)
    np.testing.assert_allclose(play("pnl", "half_ticks")[0], column["pnl_half_ticks"], rtol=0)
    np.testing.assert_allclose(
        play("asymmetric", "ticks")[0], pnl - 0.7 * np.maximum(column["inventory_revaluation"], 0) / 200
    )
    np.testing.assert_allclose(
        play("inventory", "ticks")[0], pnl - 0.02 * column["inventory_sq_ns"] / 1e9 / 100**2
    )
    after = column["inventory"]
    assert (np.abs(after) > 150).any(), "the threshold is passed"
    excess = np.where(np.abs(after) > 150, np.abs(after), 0) / 100
    np.testing.assert_allclose(
        play("imm", "currency")[0],
        (pnl + 1e-4 * column["traded_ticks"] / 100 - 0.3 * excess) * 100 * tick_value,
        atol=1e-9,
    )


def test_fees_are_paid_in_the_reward(markets):
    fees = FeeSchedule("dear", maker_rate=Decimal("0.0001"), taker_per_lot=Decimal("0.03"))
    data = dataclasses.replace(markets["L3"], fees={"dear": fees})
    env = MarketMakingEnv(data, sim=SimConfig(fees="dear"), scale="currency", quoter=QuoterSpec())
    rewards, infos = episode(env, seed=1)
    result = env.result()
    assert total(infos, "fees_micro") == ledger.fees_paid(result) > 0
    assert sum(rewards) == pytest.approx(epnl(result), abs=1e-9)


def test_same_seed_same_episode(markets):
    data = markets["L3"]
    whole = data.splits["train"][0]
    split = tuple(
        dataclasses.replace(whole, start_ts=whole.start_ts + i * 10**9, end_ts=whole.end_ts) for i in range(5)
    )
    data = dataclasses.replace(data, splits={**data.splits, "train": split})
    one, two = (MarketMakingEnv(data, quoter=QuoterSpec(), block_s=20.0) for _ in range(2))
    played = [one.reset(seed=s)[1] | {"start": one.episode.start_ts} for s in range(12)]
    assert played == [two.reset(seed=s)[1] | {"start": two.episode.start_ts} for s in range(12)]
    assert len({p["episode_index"] for p in played}) > 1 and len({p["start"] for p in played}) > 5
    assert episode(one, seed=3) == episode(two, seed=3)
    assert one.result().fills.tobytes() == two.result().fills.tobytes()


def test_blocks_lie_on_the_episodes_grid(markets):
    env = MarketMakingEnv(markets["L3"], quoter=QuoterSpec(), block_s=10.0)
    whole = env.episodes[0]
    for seed in range(20):
        env.reset(seed=seed)
        block = env.episode
        assert block.end_ts - block.start_ts == 10 * 10**9
        assert whole.start_ts <= block.start_ts and block.end_ts <= whole.end_ts
        assert (block.start_ts - whole.start_ts) % env.session.decision_ns == 0
    longer = MarketMakingEnv(markets["L3"], quoter=QuoterSpec(), block_s=1e6)
    longer.reset(seed=0)
    assert longer.episode == whole, "a block longer than the episode is the episode"


def test_option_chooses_the_episode(markets):
    env = MarketMakingEnv(markets["L3"], split="validation", quoter=QuoterSpec())
    assert env.reset(options={"episode": 0})[1]["episode_index"] == 0
    assert env.episode == markets["L3"].splits["validation"][0]
    for wrong in ({"episode": 1}, {"episode": -1}, {"episode": "0"}):
        with pytest.raises(ConfigError, match="expected an episode from 0 to 0"):
            env.reset(options=wrong)
    with pytest.raises(ConfigError, match="unknown option 'epsiode'"):
        env.reset(options={"epsiode": 0})


def test_misuse_is_refused(markets):
    env = MarketMakingEnv(markets["L3"], quoter=QuoterSpec())
    with pytest.raises(ConfigError, match="call reset"):
        env.step(np.zeros(2, np.float32))
    env.reset(seed=0)
    with pytest.raises(ConfigError, match="not over"):
        env.result()
    with pytest.raises(AgentError, match=r"decision 0 .*finite"):
        env.step(np.array([np.nan, 0], np.float32))
    with pytest.raises(ConfigError, match="did you mean 'asymmetric'"):
        MarketMakingEnv(markets["L3"], reward="assymetric")
    with pytest.raises(ConfigError, match="scale"):
        MarketMakingEnv(markets["L3"], scale="euro")
    with pytest.raises(ConfigError, match="finite weights"):
        RewardSpec(eta=-1)
    with pytest.raises(ConfigError, match="block_s"):
        MarketMakingEnv(markets["L3"], block_s=0)
    with pytest.raises(DataError, match="no nothing split to play"):
        MarketMakingEnv(markets["L3"], split="nothing")


def test_an_episode_without_decisions_is_an_error(markets):
    data = markets["L3"]
    whole = data.splits["train"][0]
    nothing = dataclasses.replace(whole, end_ts=whole.start_ts)
    env = MarketMakingEnv(
        dataclasses.replace(data, splits={**data.splits, "train": (nothing,)}), quoter=QuoterSpec()
    )
    with pytest.raises(ConfigError, match="no decision in episode 0"):
        env.reset(seed=0)


def test_measured_scaling_keeps_features_moderate(markets):
    env = MarketMakingEnv(markets["L3"])
    state, _ = env.reset(seed=0)
    states, done = [state], False
    while not done:
        state, _, done, _, _ = env.step(np.zeros(2, np.float32))
        states.append(state)
    market = np.array(states)[:, :20]
    assert np.abs(market.mean(0)).max() < 0.5 and market.std(0).max() < 1.5
    assert map_(env.result()) > 0
