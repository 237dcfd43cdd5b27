"""What an installation contains: the list of packages, the wheel, the quick start of the command."""

import configparser
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = {"mmsim": "mmsim", "agents": "mmsim_agents", "strategies": "mmsim_strategies"}


@pytest.fixture(scope="module")
def config() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser


def _packages_on_disk() -> set[str]:
    found = set()
    for folder, name in FOLDERS.items():
        for init in (ROOT / folder).rglob("__init__.py"):
            parts = init.parent.relative_to(ROOT / folder).parts
            found.add(".".join((name, *parts)))
    return found


def test_setup_cfg_lists_exactly_the_packages_on_disk(config: configparser.ConfigParser) -> None:
    listed = config["options"]["packages"].split()
    assert len(listed) == len(set(listed))
    assert set(listed) == _packages_on_disk()


def test_every_folder_with_modules_is_a_package() -> None:
    for folder in FOLDERS:
        for path in (ROOT / folder).rglob("*.py"):
            assert (path.parent / "__init__.py").is_file(), (
                f"{path.parent.relative_to(ROOT)} lacks __init__.py"
            )


def test_no_stray_top_level_names(config: configparser.ConfigParser) -> None:
    top = {name.split(".")[0] for name in config["options"]["packages"].split()}
    assert top == {"mmsim", "mmsim_agents", "mmsim_strategies"}
    assert not (ROOT / "datasets" / "__init__.py").exists()
    assert not (ROOT / "tests" / "__init__.py").exists()


def test_agents_under_the_folders_own_name_are_refused() -> None:
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import agents"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "expected the package to be imported as 'mmsim_agents', was 'agents'" in done.stderr


def test_help_is_quick_and_imports_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from mmsim.cli.main import main\n"
        "try:\n    main(['--help'])\n"
        "except SystemExit as stop:\n    code = stop.code\n"
        "heavy = {'numba', 'torch', 'numpy', 'pandas', 'scipy', 'matplotlib', 'transformers', 'pydantic'}\n"
        "print('HEAVY', sorted(heavy & set(sys.modules)), code)\n"
    )
    walls = []
    for _ in range(3):  # the best of three: the machine may be busy
        start = time.perf_counter()
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        walls.append(time.perf_counter() - start)
        if walls[-1] < 0.5:
            break
    assert "HEAVY [] 0" in done.stdout
    assert "market makers" in done.stdout
    assert min(walls) < 2.0, walls  # 0.15 to 0.35 s on an idle machine; the bound leaves room for a busy one


@pytest.mark.parametrize("argv", [["--no-such-option"], ["no-such-command"]])
def test_wrong_usage_exits_with_2(argv: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mmsim.cli", *argv], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "No such" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_wheel_holds_packages_checkpoints_and_datasets(tmp_path: Path) -> None:
    source = tmp_path / "source"
    files = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.split("\0")  # fmt: skip
    for name in filter(None, files):  # a clean copy: no stale build folder can leak in
        target = source / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_file():
            target.write_bytes((ROOT / name).read_bytes())
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", tmp_path, source],
        check=True, capture_output=True,
    )  # fmt: skip
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())

    top = {n.split("/")[0] for n in names if ".dist-info/" not in n and ".data/" not in n}
    assert top == {"mmsim", "mmsim_agents", "mmsim_strategies"}
    for folder, package in FOLDERS.items():
        for path in (source / folder).rglob("*.py"):
            assert f"{package}/{path.relative_to(source / folder).as_posix()}" in names
    for path in (source / "agents" / "checkpoints").glob("*/*.*"):
        if path.suffix in {".safetensors", ".json"}:
            assert f"mmsim_agents/checkpoints/{path.parent.name}/{path.name}" in names
    data = {n.split(".data/data/share/mmsim/")[1] for n in names if ".data/data/share/mmsim/" in n}
    shipped = {p.relative_to(source).as_posix() for p in (source / "datasets").rglob("*.toml")}
    assert shipped <= data, sorted(shipped - data)
    assert (
        "mmsim = mmsim.cli.main:main"
        in zipfile.ZipFile(wheel).read(next(n for n in names if n.endswith("entry_points.txt"))).decode()
    )
