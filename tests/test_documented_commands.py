"""Every command that README, docs, programs and scripts show is one that is taken."""

import importlib
import re
import runpy
import shlex
from importlib.util import find_spec
from pathlib import Path

import pytest

from jaxad.runs import cli

ROOT = Path(__file__).parents[1]
PLACES = {"docs": "*.md", "experiments": "*.py", "jaxad/runs/programs": "*.py"}
SOURCES = [ROOT / "README.md", *(path for place, kind in PLACES.items() for path in sorted((ROOT / place).glob(kind)))]


def commands():
    """Of all lines that are a command, without its comment."""
    for source in SOURCES:
        for line in re.findall(r"^ *((?:python experiments/|jaxad \w).*)$", source.read_text(), re.M):
            words = shlex.split(line, comments=True)[1:]
            yield pytest.param(words[0], words[1:], id=f"{source.stem}: {' '.join(words)}")


@pytest.fixture(scope="module")
def parsers():
    """What a script hands to `cli.main`, by its path, and a command, by its name."""
    found = {}

    def keep(path):
        if path not in found:
            with pytest.MonkeyPatch.context() as patch:
                told = {}
                patch.setattr(cli, "main", lambda function, kind, **options: told.update(kind=kind, options=options))
                if path.endswith(".py"):
                    runpy.run_path(str(ROOT / path), run_name="__main__")
                else:
                    importlib.import_module(f"jaxad.runs.programs.{path}").main()
            found[path] = told
        return found[path]

    return keep


def check(config):
    """In place of the experiment."""
    getattr(config, "check", lambda: None)()


@pytest.mark.parametrize(("script", "flags"), list(commands()))
def test_flags_are_known_and_go_together(script, flags, parsers, capsys):
    told = parsers(script)
    with pytest.raises(SystemExit) as end:
        cli.main(check, told["kind"], arguments=flags, **told["options"])
    absent = {"--resume": "is not a run folder", "--architecture": "holds no detector"}  # of runs that are not here
    if find_spec("distributed") is None and end.value.code is not None:  # where a config looks for it, or a run does
        absent["--scheduler"] = "needs dask and distributed"
    if said := [message for flag, message in absent.items() if flag in flags]:
        assert end.value.code == 2
        assert said[0] in capsys.readouterr().err
    else:
        assert end.value.code is None
