import subprocess
import sys
from importlib.metadata import EntryPoint

import pytest

from mmsim import registry
from mmsim.agent import Agent, Quotes
from mmsim.errors import ConfigError, UnknownAgentError

RULES = ("foic", "liic", "avellaneda_stoikov", "glft")
GOOD = """
from mmsim import agent

class Maker(agent.Strategy):
    '''Makes markets.

    More.
    '''
    offset: int = 1
    def quote(self, obs):
        return agent.Quotes.none()
"""


@pytest.fixture
def user_file(tmp_path):
    def write(text, name="mine.py"):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.mark.parametrize("name", RULES)
def test_built_in_rules_are_made_by_name(name):
    made = registry.make_agent(name)
    assert isinstance(made, Agent)
    assert made.__class__.__module__ == f"mmsim_strategies.{name}"


def test_parameters_arrive_converted():
    assert repr(registry.make_agent("glft", {"gamma": "0.2"})) == "GLFT(gamma=0.2)"


def test_unknown_names_get_a_close_match():
    with pytest.raises(UnknownAgentError, match=r"no agent 'gltf' \(did you mean 'glft'\?\); known: cmm, "):
        registry.make_agent("gltf")
    with pytest.raises(ConfigError, match=r"GLFT has no parameter 'gama' \(did you mean 'gamma'\?\)"):
        registry.make_agent("glft", {"gama": 1})


def test_a_file_gives_one_class_however_often_it_is_read(user_file):
    path = user_file(GOOD)
    first = registry.resolve(f"{path}:Maker")
    assert registry.resolve(f"{path}:Maker") is first
    assert registry.resolve(str(path)) is first, "the file's only agent needs no name"
    assert repr(registry.make_agent(f"{path}:Maker", {"offset": "4"})) == "Maker(offset=4)"


def test_an_edited_file_gives_a_new_class(user_file):
    first = registry.resolve(f"{user_file(GOOD)}:Maker")
    second = registry.resolve(f"{user_file(GOOD.replace('= 1', '= 9'))}:Maker")
    assert (first().offset, second().offset) == (1, 9)


def test_a_file_may_import_its_neighbour_and_leaves_the_path_alone(user_file):
    user_file("OFFSET = 5\n", "neighbour_of_mine.py")
    path = user_file("from neighbour_of_mine import OFFSET\n" + GOOD.replace("= 1", "= OFFSET"))
    before = list(sys.path)
    assert registry.make_agent(f"{path}:Maker").offset == 5
    assert sys.path == before
    del sys.modules["neighbour_of_mine"]


@pytest.mark.parametrize(
    ("text", "cls", "message"),
    [
        (GOOD, "Makr", r"mine\.py has no class 'Makr' \(did you mean 'Maker'\?\)"),
        (GOOD, "Zzz", r"has no class 'Zzz' \(its agents: Maker\)"),
        ("class Maker:\n    pass\n", "Maker", r"Maker is not an Agent; expected a subclass"),
        ("Maker = 3\n", "Maker", "Maker is not an Agent"),
        (
            "x = 1\n\nimport no_such_thing\n",
            "Maker",
            r"mine\.py: line 3: ModuleNotFoundError: .*no_such_thing",
        ),
        ("x = 1\ny = 1 / 0\n", "Maker", r"mine\.py: line 2: ZeroDivisionError: division by zero"),
        ("def f():\n  return (\n", "Maker", r"mine\.py: line 2: SyntaxError"),
        (GOOD.replace("quote", "quot"), "Maker", r"Maker does not define quote\(self, obs\)"),
        (GOOD + GOOD.replace("Maker", "Other"), "", r"expected one Agent class, found Maker, Other"),
        ("x = 1\nraise SystemExit(0)\n", "Maker", r"mine\.py: line 2: called sys\.exit\(0\)"),
        ("x = 1\n\0", "Maker", "null bytes"),
        ("(" * 5000, "Maker", r"mine\.py: "),
    ],
)
def test_broken_files(user_file, text, cls, message):
    path = user_file(text)
    spec = f"{path}:{cls}" if cls else str(path)
    with pytest.raises(ConfigError, match=message):
        registry.resolve(spec)


def test_ctrl_c_while_a_file_is_imported_is_the_users(user_file):
    with pytest.raises(KeyboardInterrupt):
        registry.resolve(f"{user_file('raise KeyboardInterrupt')}:Maker")


@pytest.mark.parametrize("body", ["sys.exit(3)", "raise KeyError('x')", "raise SystemExit", "raise Silent"])
def test_a_constructor_that_fails_or_exits(user_file, body):
    text = (
        "import sys\nfrom mmsim.agent import Agent, Quotes\n"
        "class Silent(Exception):\n    def __str__(self):\n        raise OSError\n"
        f"class Maker(Agent):\n    def __init__(self):\n        {body}\n    def quote(self, obs):\n        return Quotes.none()\n"
    )
    with pytest.raises(
        ConfigError, match=r"its constructor failed: .*mine\.py, line 8: (called sys.exit|KeyError|Silent)"
    ):
        registry.make_agent(f"{user_file(text)}:Maker")


def test_a_file_that_may_not_be_read_or_named(tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match="File name too long"):
        registry.resolve(f"{tmp_path}/{'x' * 300}.py:Maker")
    path = tmp_path / "mine.py"
    path.write_text(GOOD)

    def refuse(self):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr("pathlib.Path.read_bytes", refuse)
    with pytest.raises(ConfigError, match=r"mine\.py'?: Permission denied"):
        registry.resolve(f"{path}:Maker")


def test_describe_goes_on_when_parameters_cannot_be_told(user_file):
    path = user_file(GOOD.replace("offset: int", "offset: 'Nope'"))
    assert "an annotation cannot be resolved" in registry.describe(f"{path}:Maker").problem


def test_a_missing_file_says_where_it_was_looked_for(tmp_path):
    with pytest.raises(ConfigError, match=r"no\.py: does not exist \(looked in .*\)"):
        registry.resolve(f"{tmp_path}/no.py:Maker")
    (tmp_path / "dir.py").mkdir()
    with pytest.raises(ConfigError, match="is a folder"):
        registry.resolve(f"{tmp_path}/dir.py:Maker")


def test_a_missing_optional_library_says_what_installs_it(user_file, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    path = user_file("import transformers\n")
    with pytest.raises(ConfigError, match=r"needs the library transformers, .*make teacher"):
        registry.resolve(f"{path}:Maker")
    error = ModuleNotFoundError("No module named 'torch'", name="torch.nn")
    assert "make setup" in registry.missing_library(error)


class Plain(Agent):
    """Not a Strategy."""

    def __init__(self, size: int, cap: float = 2.0) -> None:
        self.size, self.cap = size, cap

    def quote(self, obs):
        return Quotes.none()


def test_entry_points_add_agents_but_do_not_replace_ours(monkeypatch):
    points = [
        EntryPoint("plain", f"{__name__}:Plain", registry.GROUP),
        EntryPoint("glft", "x:Y", registry.GROUP),
    ]
    monkeypatch.setattr(registry, "entry_points", lambda group: points)
    monkeypatch.setitem(sys.modules, __name__, sys.modules[Plain.__module__])
    assert "plain" in registry.names()
    assert registry.targets()["glft"] == "mmsim_strategies.glft:GLFT"
    assert registry.make_agent("plain", {"size": 3}).size == 3
    with pytest.raises(ConfigError, match=r"Plain has no parameter 'sise' \(did you mean 'size'\?\)"):
        registry.make_agent("plain", {"sise": 3})
    with pytest.raises(ConfigError, match=r"agent plain: its constructor failed: .*missing 1 required"):
        registry.make_agent("plain")
    assert list(registry.parameters(Plain)) == ["size", "cap"]


def test_describe_reads_docstring_and_parameters(user_file):
    row = registry.describe(f"{user_file(GOOD)}:Maker")
    assert (row.name, row.summary, row.problem) == ("Maker", "Makes markets.", "")
    assert row.parameters == {"offset": ("int", 1)}


def test_describe_keeps_going_when_an_agent_cannot_be_imported(monkeypatch):
    monkeypatch.setattr(registry, "BUILTIN", {"broken": "mmsim_strategies.nowhere:X"})
    row = registry.describe("broken")
    assert row.parameters is None
    assert "cannot be imported" in row.problem


def test_listing_agents_imports_no_heavy_library():
    code = (
        "import sys; from mmsim import registry; [registry.describe(n) for n in registry.names()]; "
        "print(sorted({'torch', 'transformers', 'stable_baselines3'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
