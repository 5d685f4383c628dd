"""The tables command as a user meets it: cells that run, cells whose images are missing, and a second call."""

import importlib
import json
import sys

import pytest
from scripts import EXPERIMENTS, call, one_line, run

sys.path.append(str(EXPERIMENTS))
tables = importlib.import_module("tables")

METHOD = """
import argparse, json, pathlib, sys

parser = argparse.ArgumentParser()
for name in ("--seed", "--output", "--dataset", "--width"):
    parser.add_argument(name)
parser.add_argument("--quiet", action="store_true")
args = parser.parse_args()
if args.dataset != "digits":
    sys.exit(f"error: there is no {args.dataset}; put it there")
folder = pathlib.Path(args.output)
folder.mkdir()
(folder / "results.json").write_text(json.dumps({"test": {"auroc": {"value": 0.5 + 0.1 * int(args.seed)}}}))
"""
TABLE = """
title = "Small"
protocol = "Ours alone."
seeds = { smoke = 2, laptop = 1, paper = 1 }
script = "method.py"

[budgets]
smoke = ["--width", "1"]
laptop = []
paper = []

[columns]
AUROC = "test.auroc"

[[methods]]
name = "mine"

[[tasks]]
name = "digits"
flags = ["--dataset", "digits"]

[[tasks]]
name = "elsewhere"
flags = ["--dataset", "folder:no/such/place"]

[paper.mine]
digits = { AUROC = 0.987 }
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tables")
    (folder / "method.py").write_text(METHOD)
    (folder / "small.toml").write_text(TABLE)
    return folder


def test_what_can_run_runs_once_and_what_cannot_says_why(folder):
    flags = ("--tables", folder / "small.toml", "--output", folder / "out")
    status, out, err = run("tables.py", *flags, cache=folder / "cache")
    assert status == 1, err  # a cell is missing
    rows = {row["task"]: row for row in json.loads((folder / "out" / "tables.json").read_text())["rows"]}
    assert rows["digits"]["values"] == [0.5, 0.6]
    assert rows["digits"]["paper"] == 0.987
    assert rows["elsewhere"]["mean"] is None
    assert "no/such/place" in rows["elsewhere"]["missing"]
    for name in ("tables.md", "tables.html"):
        text = (folder / "out" / name).read_text()
        assert "0.987" in text
        assert "no/such/place" in text
    assert "Small" in out

    finished = {path: path.stat().st_mtime_ns for path in (folder / "out").glob("method-*/results.json")}
    assert len(finished) == 2
    assert call(tables.run, *flags, "--quiet")[0] == 1
    assert {path: path.stat().st_mtime_ns for path in finished} == finished


def test_without_a_table_all_are_listed(folder):
    status, out, err = call(tables.run)
    assert status == 0, err
    for name in ("autoad-2", "ama-1"):
        assert name in out


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--tables", "ama-9"), "ama-9"),
        (("--tables", "ama-1", "--num-seeds", "0"), "--num-seeds is 0"),
        (("--tables", "ama-1", "--methods", "nobody"), "--methods nobody"),
    ],
)
def test_nonsense_ends_at_once_in_one_line(flags, message, folder):
    status, _, err = call(tables.run, *flags, "--output", folder / "none")
    assert one_line(status, err, message)
    assert not (folder / "none").exists()
