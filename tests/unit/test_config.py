import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmsim.config import LatencyConfig, RunConfig, SimConfig, build, merge, parse_overrides, read_toml
from mmsim.errors import ConfigError


def test_defaults_are_valid_and_frozen():
    config = RunConfig()
    assert config.sim == SimConfig()
    with pytest.raises(ValueError, match="frozen"):
        config.sim.seed = 1


def test_text_values_are_converted():
    config = build(RunConfig, {"sim": parse_overrides(["sim.latency.order=500000", "sim.seed=7"])["sim"]})
    assert config.sim.latency.order == 500_000
    assert config.sim.seed == 7


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"sim": {"latency": {"ordr": 1}}},
            r"config: unknown key 'sim.latency.ordr' \(did you mean 'sim.latency.order'\?\)",
        ),
        ({"datset": ["if"]}, r"unknown key 'datset' \(did you mean 'datasets'\?\)"),
        ({"sim": {"seed": -1}}, "sim.seed: expected at least 0, was -1"),
        (
            {"sim": {"latency": {"decision": "sometimes"}}},
            "config: sim.latency.decision: expected 0 to 3600000000000 ns, or 'profile', was 'sometimes'",
        ),
        (
            {"sim": {"latency": "profile"}},
            r"config: sim.latency: expected a table of decision, feed, .*'sim.latency.decision'\), was 'profile'",
        ),
        ({"sim": {"queue_model": "auto"}}, r"sim.queue_model: .* \('auto' is 'proportional'\), was 'auto'"),
        ({"sim": {"max_levels": "many"}}, "sim.max_levels: .*was 'many'"),
    ],
)
def test_errors_name_the_key_and_the_nearest_one(values, message):
    with pytest.raises(ConfigError, match=message):
        build(RunConfig, values)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("decision_latency_ns", "decision"),
        ("feed_latency_ns", "feed"),
        ("order_latency_ns", "order"),
        ("cancel_latency_ns", "cancel"),
        ("reduce_latency_ns", "reduce"),
        ("market_latency_ns", "market"),
        ("ack_latency_ns", "ack"),
        ("wire_sigma", "sigma"),
        ("wire_file", "file"),
    ],
)
def test_an_old_key_is_an_error_that_names_the_new_one(old, new):
    message = f"unknown key 'sim.{old}' \\(it is 'sim.latency.{new}' now\\)"
    with pytest.raises(ConfigError, match=f"config: {message}"):
        build(RunConfig, {"sim": {old: 1}})
    with pytest.raises(ValueError, match=message):
        SimConfig(**{old: 1})


@pytest.mark.parametrize("decision", [0, 5, "5", "profile"])
def test_a_decision_takes_ns_or_a_profile(decision):
    found = build(RunConfig, {"sim": {"latency": {"decision": decision}}}).sim.latency.decision
    assert found == ("profile" if decision == "profile" else int(decision))


def test_a_request_without_a_latency_of_its_own_takes_as_long_as_an_order():
    assert LatencyConfig(order=5, reduce=0, market=7).requests == (5, 5, 0, 7)


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        (["sim.seed"], "expects KEY=VALUE, was 'sim.seed'"),
        (["=3"], "expects KEY=VALUE"),
        (["sim=1", "sim.seed=2"], "'sim' is already a value"),
    ],
)
def test_malformed_overrides(pairs, message):
    with pytest.raises(ConfigError, match=message):
        parse_overrides(pairs)


def test_later_overrides_win_and_values_keep_equal_signs():
    assert parse_overrides(["a.b=1", "a.b=2", "c=x=y"]) == {"a": {"b": "2"}, "c": "x=y"}


KEYS = st.sampled_from("abc")
TREES = st.recursive(st.integers(0, 9), lambda inner: st.dictionaries(KEYS, inner, max_size=3), max_leaves=6)


def leaves(tree, path=()):
    if not isinstance(tree, dict):
        return {path: tree}
    return {p: v for key, value in tree.items() for p, v in leaves(value, (*path, key)).items()}


@given(st.dictionaries(KEYS, TREES), st.dictionaries(KEYS, TREES))
def test_merge_takes_every_leaf_of_over_and_keeps_the_rest(base, over):
    merged = leaves(merge(base, over))
    wanted = leaves(over)
    assert merged.items() >= wanted.items()
    for path, value in merged.items():
        if path not in wanted:
            assert leaves(base)[path] == value


def test_merge_leaves_its_arguments_alone():
    base = {"sim": {"seed": 1}}
    assert merge(base, {"sim": {"seed": 2}}) == {"sim": {"seed": 2}}
    assert base == {"sim": {"seed": 1}}


def test_toml_file(tmp_path):
    path = tmp_path / "x.toml"
    path.write_text('agents = ["glft"]\n[sim]\nseed = 3\n', encoding="utf-8")
    assert build(RunConfig, read_toml(path)).sim.seed == 3
    path.write_text("agents = [", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"x\.toml: not valid TOML"):
        read_toml(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="not valid TOML"):
        read_toml(path)
    with pytest.raises(ConfigError, match=r"none\.toml: No such file"):
        read_toml(tmp_path / "none.toml")
