"""`mmsim bench`: figures, verdicts, table, JSON, the peer's interpreter, and the command."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from mmsim.bench import checkout, measure, table
from mmsim.bench.cases import CASES, Case, Peer, Sample, Work
from mmsim.bench.checkout import peer_module
from mmsim.bench.inputs import Inputs
from mmsim.bench.measure import Missing, Outcome
from mmsim.cli.main import build_app
from mmsim.errors import BenchError, ConfigError, DataError

NAMES = (
    "l2_noop", "l2_maker", "l3_noop", "l3_maker", "match_bulk", "match_call", "match_256", "python_agent",
    "first_result_s", "bytes_per_row",
)  # fmt: skip


def rate(at_least: float | None = None, times: float | None = None, aim: float | None = None) -> Case:
    return Case("some", "work", "rows", lambda _: Work(1000, lambda: Sample(1.0, 1.0)), times, at_least, aim)


def outcome(case: Case, seconds: tuple[float, ...], peer: tuple[float, ...] = ()) -> Outcome:
    theirs = tuple(Sample(s, s) for s in peer)
    return Outcome(case, 1000, tuple(Sample(s, s / 2) for s in seconds), "other 1.0" if peer else "", theirs)


def test_rates_are_medians_and_the_ratio_is_of_times() -> None:
    o = outcome(rate(times=3), (0.25, 0.5, 0.125), (2.0, 1.0, 4.0))
    assert (o.per_s, o.peer_per_s, o.ratio, o.at_least) == (4000, 500, 8, 1500)
    assert o.verdict == "pass"
    assert o.as_json() == {
        "name": "some", "unit": "rows", "n": 1000, "per_s": 4000, "min": 2000, "max": 8000, "peer": "other 1.0",
        "peer_per_s": 500, "ratio": 8, "at_least": 1500, "aim": None, "verdict": "pass", "runs": 3, "check": {},
        "cpu_per_s": 8000, "peer_min": 250, "peer_max": 1000, "peer_check": {}, "peer_cpu_per_s": 500, "cpu_ratio": 16,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("case", "seconds", "peer", "verdict"),
    [
        (rate(at_least=1000, aim=2000), 0.5, (), "aim"),
        (rate(at_least=1000, aim=2000), 1.0, (), "pass"),
        (rate(at_least=1000, aim=2000), 1.1, (), "fail"),
        (rate(times=3, aim=9000), 0.5, (), "-"),  # without a peer nothing can be said below the aim
        (rate(times=3, aim=9000), 0.5, (1.4,), "fail"),
        (rate(), 1.0, (), "-"),
    ],
)
def test_verdicts(case: Case, seconds: float, peer: tuple[float, ...], verdict: str) -> None:
    assert outcome(case, (seconds,), peer).verdict == verdict


def test_direct_figures_are_better_when_smaller() -> None:
    case = Case("first", "start", "s", rate().prepare, None, 1.2, 0.6, direct=True)
    slow, good, best = (outcome(case, (s,), (4.0,)) for s in (1.3, 1.2, 0.5))
    assert [o.verdict for o in (slow, good, best)] == ["fail", "pass", "aim"]
    assert (best.per_s, best.peer_per_s, best.ratio) == (0.5, 4.0, 8.0)
    assert "cpu_per_s" not in best.as_json()


def test_runs_are_interleaved_after_a_warm_up() -> None:
    log: list[str] = []

    def ours() -> Sample:
        log.append("ours")
        return Sample(len(log), 0.5)

    def theirs(_: Peer) -> Sample:
        log.append("theirs")
        return Sample(1.0, 0.5)

    class Stub:
        name = "stub"

    case = Case("some", "work", "rows", lambda _: Work(10, ours, theirs))
    o = measure.measure(case, None, Stub(), 3, lambda *_: None)  # type: ignore[arg-type]
    assert isinstance(o, Outcome)
    assert log == ["ours", "theirs"] * 4
    assert [s.value for s in o.runs] == [3, 5, 7]
    assert o.peer == "stub"


def test_a_case_without_its_data_is_named_with_the_reason(tmp_path: Path) -> None:
    def prepare(_: Inputs) -> Work:
        raise DataError("no files", source="amzn")

    case = Case("l3_noop@amzn", "work", "rows", prepare)
    o = measure.measure(case, None, None, 1, lambda *_: None)  # type: ignore[arg-type]
    assert o == Missing(case, "amzn: no files")
    measure.write(tmp_path / "out.json", [o])
    written = json.loads((tmp_path / "out.json").read_text())
    assert written["missing"] == [{"name": "l3_noop@amzn", "reason": "amzn: no files"}]
    assert written["machine"]["cores"] >= 1


def test_case_names_are_as_promised() -> None:
    listed = [case.name for case in measure.select(())]
    assert tuple(n for n in listed if "@" not in n) == NAMES
    assert {"match_256@100", "l3_noop@amzn", "l3_maker@amzn", "l2_noop@btcusdt", "l2_maker@btcusdt"} <= set(
        listed
    )
    assert "stream" not in listed
    assert [c.name for c in measure.select(("stream", "l2_noop"))] == ["stream", "l2_noop"]
    assert len({c.name for c in CASES}) == len(CASES)
    with pytest.raises(ConfigError, match=r"no case 'l2_nop' \(did you mean 'l2_noop'\?\)"):
        measure.select(("l2_nop",))


def test_the_table_shows_targets_figures_and_how_to_get_a_peer() -> None:
    console = Console(width=200, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    alone = outcome(rate(times=3, aim=65e6), (0.25,))
    both = outcome(rate(times=3, aim=65e6), (0.25,), (1.0,))
    table.render([alone, both, Missing(rate(), "no [files]")], measure.machine(), "", console)
    text = console.export_text()
    assert "3 x peer " in text
    assert "3 x peer = 3.00 k" in text
    assert "fail" not in text
    assert "work: not measured, see below" in text
    assert f"{rate().name}: no [files]" in text
    assert "No peer was measured;" in text
    assert "pip install hftbacktest==2.4.4" in text


def test_an_interpreter_that_is_not_there_or_lacks_the_peer_is_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    peer = peer_module()
    with pytest.raises(ConfigError, match="--peer-python: expected a Python interpreter, was no-such"):
        peer.find_python(Path("no-such"))
    monkeypatch.setenv("MMSIM_PEER_PYTHON", "/no/such")
    with pytest.raises(ConfigError, match="MMSIM_PEER_PYTHON: expected"):
        peer.find_python()
    monkeypatch.setenv("MMSIM_PEER_PYTHON", sys.executable)
    assert peer.find_python() == Path(sys.executable)
    if importlib.util.find_spec("hftbacktest") is None:
        with pytest.raises(
            BenchError, match=r"ended: ModuleNotFoundError: No module named 'hftbacktest'; make bench"
        ):
            peer.Peer(Path(sys.executable))


def test_without_a_checkout_the_peer_is_an_error_that_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(checkout, "package_root", lambda: Path("/no/such/mmsim"))
    with pytest.raises(
        BenchError, match=r"expected a checkout of mmsim .* clone the repository and run make bench"
    ):
        peer_module()
    argv = ["bench", "--peer-python", sys.executable, "--case", "match_call"]
    with pytest.raises(BenchError, match="--no-peer"):
        CliRunner().invoke(build_app(), argv, catch_exceptions=False)


def test_inputs_cover_the_same_stretch_for_both_engines(isolated_cache: Path) -> None:
    import numpy as np

    inputs = Inputs(20_000)
    for level in ("L2", "L3"):
        source = inputs.get(level)  # type: ignore[arg-type]
        asked = peer_module().request(source)
        rows = np.load(asked["events"], mmap_mode="r")[: asked.get("rows")]
        recv = np.load(asked["recv"], mmap_mode="r")[: asked.get("rows")]
        assert 20_000 <= source.n == len(rows) < 20_100
        assert rows["ts"][-1] == source.data.events["ts"][-1]
        assert recv[-1] == source.data.recv_ts[-1]
        assert source is inputs.get(level)  # type: ignore[arg-type]
    with pytest.raises(BenchError, match="at least 10000 rows"):
        Inputs(100)


@pytest.mark.parametrize(
    "name", ["l2_noop", "l2_maker", "l3_noop", "l3_maker", "python_agent", "match_bulk", "match_256"]
)
def test_cases_do_their_work(name: str, isolated_cache: Path) -> None:
    (case,) = measure.select((name,))
    work = case.prepare(Inputs(20_000))
    first, second = work.ours(), work.ours()
    assert first.check == second.check
    assert first.value > 0
    assert work.n >= 20_000


def test_the_command_prints_and_writes(isolated_cache: Path, tmp_path: Path) -> None:
    out = tmp_path / "bench.json"
    argv = ["bench", "--case", "match_call,bytes_per_row", "--rows", "30000", "--repeat", "1", "--no-peer"]
    done = CliRunner().invoke(build_app(), [*argv, "--json", str(out)], catch_exceptions=False)
    assert done.exit_code == 0
    assert "match_call" in done.stdout
    assert "resident bytes per row" in done.stdout
    written = json.loads(out.read_text())
    call, memory = written["cases"]
    assert (call["name"], call["unit"], call["n"], call["peer"]) == ("match_call", "requests", 30_000, None)
    assert call["min"] <= call["per_s"] <= call["max"]
    assert (memory["name"], memory["unit"], memory["n"]) == ("bytes_per_row", "bytes", 30_000)


def test_the_stream_case_replays_a_file_and_deletes_it(empty_cache: Path) -> None:
    (case,) = measure.select(("stream",))
    o = measure.measure(case, Inputs(10_000, long_rows=40_000), None, 7, lambda *_: None)
    assert isinstance(o, Outcome)
    assert (o.n, len(o.runs)) == (40_000, 1)
    assert 2**20 < o.runs[0].check["peak"] < 2**31
    assert o.verdict == ("pass" if o.runs[0].check["peak"] <= 2**30 else "fail")
    assert not list((empty_cache / "bench").glob("long-*"))


def test_figures_are_kept_when_a_later_case_fails(
    isolated_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: Inputs) -> Work:
        raise BenchError("expected 3 fills, was 2")

    cases = (rate(), Case("broken", "work", "rows", broken), rate())
    monkeypatch.setattr(measure, "select", lambda _: cases)
    out = tmp_path / "bench.json"
    with pytest.raises(BenchError, match=r"expected 3 fills, was 2 \(measured before that: 1 of 3 cases\)"):
        CliRunner().invoke(build_app(), ["bench", "--no-peer", "--json", str(out)], catch_exceptions=False)
    assert [c["name"] for c in json.loads(out.read_text())["cases"]] == ["some"]


def test_wrong_options_are_one_line() -> None:
    for argv, words in ((["--case", ","], "--case: expected names"), (["--case", "x"], "no case 'x'")):
        with pytest.raises(ConfigError, match=words):
            CliRunner().invoke(build_app(), ["bench", *argv], catch_exceptions=False)
