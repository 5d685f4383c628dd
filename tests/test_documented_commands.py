"""Every command that README, docs and the scripts themselves show is one that the scripts take."""

import re
import runpy
import shlex
from pathlib import Path

import pytest

from jaxad.runs import cli

ROOT = Path(__file__).parents[1]
SOURCES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "experiments").glob("*.py"))]


def commands():
    """Of all lines that are a command, without its comment."""
    for source in SOURCES:
        for line in re.findall(r"^ *python (experiments/.*)$", source.read_text(), re.M):
            words = shlex.split(line, comments=True)
            yield pytest.param(words[0], words[1:], id=f"{source.stem}: {' '.join(words)}")


@pytest.fixture(scope="module")
def parsers():
    """What a script hands to `cli.main`, by its path."""
    found = {}

    def keep(path):
        if path not in found:
            with pytest.MonkeyPatch.context() as patch:
                told = {}
                patch.setattr(cli, "main", lambda function, kind, **options: told.update(kind=kind, options=options))
                runpy.run_path(str(ROOT / path), run_name="__main__")
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
    if "--resume" in flags:  # of a run that is not here
        assert end.value.code == 2
        assert "is not a run folder" in capsys.readouterr().err
    else:
        assert end.value.code is None
