"""A run that is resumed starts from the settings it was made with, or says in one line why it cannot."""

import dataclasses
import json

import pytest

from jaxad.runs import cli
from jaxad.runs.folder import create_run


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inner:
    rate: float = 0.1
    sizes: tuple[int, ...] = (1,)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    name: str = "a"
    sets: tuple[str, ...] = ()
    inner: Inner = dataclasses.field(default_factory=Inner)
    budget: float | None = None
    resume: str | None = None


ASKED = Settings(name="b", sets=("x", "y"), inner=Inner(rate=0.5, sizes=(2, 3)), budget=7.0)


@pytest.fixture
def folder(tmp_path):
    with create_run(tmp_path / "run", ASKED, name="x") as run:
        return run.path


def parsed(*arguments):
    """The config that a command line gives, and the exit status."""
    config = None

    def function(given):
        nonlocal config
        config = given

    with pytest.raises(SystemExit) as end:
        cli.main(function, Settings, arguments=[str(argument) for argument in arguments])
    return config, end.value.code


def edit(folder, change):
    file = folder / "config.json"
    record = json.loads(file.read_text())
    change(record["config"])
    file.write_text(json.dumps(record))


def test_settings_are_those_of_the_run_and_flags_override_them(folder):
    resumed = dataclasses.replace(ASKED, resume=str(folder))
    assert parsed("--resume", folder) == (resumed, None)
    expected = dataclasses.replace(resumed, inner=Inner(rate=0.5, sizes=(9,)), name="c")
    assert parsed(f"--resume={folder}", "--inner.sizes", 9, "--name", "c") == (expected, None)


def test_a_run_of_an_earlier_version_cannot_be_resumed(folder, capsys):
    file = folder / "config.json"
    file.write_text(file.read_text().replace("jaxad-run-2", "jaxad-run-1"))
    assert parsed("--resume", folder) == (None, 2)
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith(f"error: {folder} was begun by jaxad 0.1.0")


def test_settings_that_the_run_did_not_know_have_their_defaults(folder):
    edit(folder, lambda config: config.update(gone=config.pop("name")))
    assert parsed("--resume", folder) == (dataclasses.replace(ASKED, name="a", resume=str(folder)), None)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": 3}, "name is 3; give a value of type str; start a new run"),
        ({"inner": {"rate": 0.5, "pace": 1}}, "inner has fields ['pace', 'rate']; give exactly rate, sizes"),
        ({"inner": {"rate": None, "sizes": []}}, "inner.rate is None"),
    ],
)
def test_settings_that_do_not_fit_are_named_in_one_line(folder, changes, message, capsys):
    edit(folder, lambda config: config.update(changes))
    assert parsed("--resume", folder) == (None, 2)
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith(f"error: cannot resume {folder}: ")
    assert message in said
