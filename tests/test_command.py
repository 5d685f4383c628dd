"""The installed command: what it lists, how fast, what it hands on, and what the doctor finds."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from jaxad._utils import compile as backend
from jaxad._utils.version import VERSION
from jaxad.runs import cli, command
from jaxad.runs.programs import detect, doctor, export, search, train

ROOT = Path(__file__).parents[1]


def run(*arguments):
    """The exit status of the command."""
    with pytest.raises(SystemExit) as end:
        command.main([str(argument) for argument in arguments])
    return end.value.code or 0


def test_it_is_installed():
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts == {"jaxad": f"{command.__name__}:{command.main.__name__}"}


def test_it_is_a_module_where_no_path_leads_to_it():
    done = subprocess.run(
        [sys.executable, "-m", "jaxad", "--version"], capture_output=True, text=True, timeout=60, cwd=ROOT
    )
    assert done.stdout == f"jaxad {VERSION}\n", done.stderr


def test_help_lists_every_command_with_a_sentence(capsys):
    for arguments in ((), ("--help",), ("-h",)):
        assert run(*arguments) == 0
        said = capsys.readouterr().out
        for name, sentence in command.COMMANDS.items():
            assert re.search(rf"^  {name} +{re.escape(sentence)}$", said, re.M)
            assert sentence.endswith(".")
    assert run("--version") == 0
    assert capsys.readouterr().out == f"jaxad {VERSION}\n"


def test_help_imports_nothing_of_the_library_and_little_else():
    """So that it is there as soon as Python is."""
    program = (
        "import sys; before = set(sys.modules); from jaxad.runs import command\n"
        "try: command.main(['--help'])\n"
        "except SystemExit: print('modules', len(set(sys.modules) - before), 'numpy' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-S", "-c", program], capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert done.stdout.splitlines()[0].startswith("usage: jaxad"), done.stderr
    count, numpy = done.stdout.splitlines()[-1].split()[1:]
    assert int(count) < 60
    assert numpy == "False"


def test_a_name_that_is_none_ends_in_one_line(capsys):
    assert run("serach", "--preset", "smoke") == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert said == "error: there is no command 'serach'; give one of search, train, detect, export, doctor"


@pytest.mark.parametrize("program", [search, train, detect, export, doctor])
def test_a_command_is_the_program_with_its_flags(program, monkeypatch):
    """The same function, settings and presets that the script of a checkout calls."""
    told = {}
    monkeypatch.setattr(cli, "main", lambda function, kind, **options: told.update(f=function, kind=kind, **options))
    monkeypatch.setattr(sys, "argv", ["pytest"])
    command.main([program.__name__.rpartition(".")[2], "--quiet"])
    assert sys.argv == [f"jaxad {program.__name__.rpartition('.')[2]}", "--quiet"]
    assert told["kind"] is program.Config
    assert told["f"].__module__ == program.__name__
    assert told.get("presets") is getattr(program, "PRESETS", None)


def test_usage_and_errors_are_those_of_the_command(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["pytest"])
    assert run("train", "--help") == 0
    said = capsys.readouterr().out
    assert "usage: jaxad train" in said
    assert "jaxad train --list" in said
    assert run("train", "--steps", 0) == 2
    assert "--steps is 0; the least is 1" in capsys.readouterr().err


# ---- the doctor --------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def programs(monkeypatch, tmp_path):
    """Programs stay where this process keeps them."""
    monkeypatch.setattr(backend, "enable_compilation_cache", lambda folder: tmp_path)
    monkeypatch.setattr(doctor, "STEPS", 2)


def test_the_doctor_says_what_there_is_and_what_to_do(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("JAXAD_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "none"))
    monkeypatch.setattr(doctor, "PACKAGES", ("jax", "numpy", "no-such-package"))
    rows = {row.what: row for row in doctor.examined(doctor.Config())}
    assert rows["jaxad"].found == VERSION
    assert rows["jax"] == ("jax", __import__("jax").__version__, "")
    assert rows["no-such-package"][1:] == ("missing", "pip install no-such-package")
    assert rows["weights of efficientnet_lite0"].found == "missing"
    assert "set or unset it" in rows["weights of efficientnet_lite0"].remedy
    assert "TFDS_DATA_DIR names no folder" in rows["prepared image sets"].remedy
    assert re.match(r"8 x cpu", rows["devices"].found)
    assert re.fullmatch(r"\S+ ms, 32 images of 32x32; the first \S+ s", rows["training step"].found)
    assert all(row.remedy for row in rows.values() if "missing" in row.found)


def test_the_doctor_outlives_what_it_finds(monkeypatch, capsys):
    def broken(config):
        raise RuntimeError("no driver\nat all")

    monkeypatch.setattr(doctor, "training_step", broken)
    monkeypatch.setattr(sys, "argv", ["pytest"])
    assert run("doctor") == 0
    said = capsys.readouterr().out
    row = r"^training step +failed: RuntimeError: no driver at all +install jax and jaxad again$"
    assert re.search(row, said, re.M)
    assert said.startswith("jaxad doctor\nwhat ")


def test_folders_are_measured(tmp_path):
    assert doctor._folder(tmp_path / "none").endswith("none: empty")
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "a").write_bytes(bytes(1500))
    (tmp_path / "b").write_bytes(bytes(500))
    assert doctor._folder(tmp_path) == f"{tmp_path}: 2 kB in 2 files"
