"""The tables command as a user meets it: cells that run, cells whose images are missing, and a second call."""

import errno
import importlib
import json
import subprocess
import sys
import types
from concurrent import futures

import numpy as np
import pytest
from scripts import EXPERIMENTS, call, one_line, run

from jaxad.runs import table_runs
from jaxad.runs.grid import call_on

sys.path.append(str(EXPERIMENTS))
tables = importlib.import_module("tables")
train_detector = importlib.import_module("train_detector")

METHOD = """
import argparse, json, pathlib, sys

parser = argparse.ArgumentParser()
for name in ("--seed", "--output", "--dataset", "--width"):
    parser.add_argument(name)
parser.add_argument("--quiet", action="store_true")
args = parser.parse_args()
if args.dataset != "digits":
    sys.exit(f"error: there is no {args.dataset}; put it there")
with open(pathlib.Path(__file__).with_name("calls.txt"), "a") as file:
    print(args.output, file=file)
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


class Threads(futures.ThreadPoolExecutor):
    """In place of a cluster."""

    def __init__(self, scheduler):
        super().__init__(2)
        self.scheduler = scheduler

    def count(self):
        return 2


@pytest.mark.parametrize("several", [{"jobs": 2}, {"scheduler": "tcp://somewhere:8786"}, {"clients": 2}], ids=str)
def test_cells_run_at_the_same_time_each_once(folder, several, monkeypatch):
    """In processes of one client, on a cluster, or by two clients of one folder."""
    monkeypatch.setattr(tables, "DaskPool", Threads)
    (name,) = several
    output, clients = str(folder / name), several.pop("clients", 1)
    config = tables.Config(tables=(str(folder / "small.toml"),), output=output, quiet=True, **several)
    with futures.ThreadPoolExecutor(clients) as threads:
        calls = [threads.submit(tables.run, config) for _ in range(clients)]
        assert [call.result(60) for call in calls] == [1] * clients  # a cell is missing
    rows = {row["task"]: row for row in json.loads((folder / name / "tables.json").read_text())["rows"]}
    assert rows["digits"]["values"] == [0.5, 0.6]
    assert "no/such/place" in rows["elsewhere"]["missing"]
    called = [line for line in (folder / "calls.txt").read_text().splitlines() if line.startswith(output)]
    assert len(called) == len(set(called)) == 2


def test_a_cell_whose_worker_was_lost_goes_on_where_it_was(tmp_path, monkeypatch):
    """By whoever gets it next: the first has begun the run, the second resumes it."""
    told, commands = table_runs.Told("s.py", ("--seed", "0"), "cell", None, str(tmp_path)), []

    def lost(command, **options):
        commands.append(command[2:])
        (tmp_path / "cell").mkdir(exist_ok=True)
        (tmp_path / "cell" / "config.json").write_text("{}")
        if len(commands) == 1:
            raise futures.BrokenExecutor("the worker is gone")  # as its pool says
        return subprocess.CompletedProcess(command, 0, stderr="")

    class Pool(futures.Executor):
        def submit(self, function, *arguments):
            future = futures.Future()
            done, value = function(*arguments)
            future.set_result((done, value)) if done else future.set_exception(value)
            return future

    others = {"PIPE": subprocess.PIPE, "DEVNULL": subprocess.DEVNULL}
    monkeypatch.setattr(table_runs, "subprocess", types.SimpleNamespace(run=lost, **others))
    call_on(Pool(), table_runs.run_script, told)
    assert commands == [["--seed", "0", "--output", "cell", "--quiet"], ["--resume", "cell", "--quiet"]]


@pytest.fixture
def photos(tmp_path):
    """A table of one cell whose images are in an archive."""
    images = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 1), np.uint8)
    np.savez(tmp_path / "x.npz", images=images, labels=np.arange(40) // 30)
    text = TABLE.replace("method.py", "train_detector.py").replace('"--width", "1"', '"--detector", "pca"')
    flags = f'["--dataset", "npz:{tmp_path / "x.npz"}", "--normal-classes", "0", "--batch-size", "8"]'
    text = text.replace('["--dataset", "digits"]', flags).replace("smoke = 2", "smoke = 1")
    (tmp_path / "small.toml").write_text(text.partition('[[tasks]]\nname = "elsewhere"')[0])
    return images, ("--tables", tmp_path / "small.toml", "--output", tmp_path / "out", "--quiet")


def rows(folder):
    return json.loads((folder / "out" / "tables.json").read_text())["rows"]


def test_a_figure_of_other_data_is_not_shown(photos, tmp_path, monkeypatch):
    images, flags = photos
    started = []

    def in_this_process(command, **options):
        started.append(command[2:])
        status, _, err = call(train_detector.run, *command[2:])
        return subprocess.CompletedProcess(command, status, stderr=err)

    others = {"PIPE": subprocess.PIPE, "DEVNULL": subprocess.DEVNULL}
    monkeypatch.setattr(table_runs, "subprocess", types.SimpleNamespace(run=in_this_process, **others))
    assert call(tables.run, *flags)[0] == 0
    (first,) = rows(tmp_path)
    assert len(started) == 1
    assert call(tables.run, *flags)[0] == 0
    assert len(started) == 1  # nobody touched the archive
    archive = tmp_path / "x.npz"
    content = archive.read_bytes()
    archive.write_bytes(content)
    assert call(tables.run, *flags)[0] == 0
    assert [command[0] for command in started[1:]] == ["--resume"]  # touched: the run is asked, and says yes
    assert call(tables.run, *flags)[0] == 0
    assert len(started) == 2
    np.savez(archive, images=255 - images, labels=np.arange(40) // 30)
    assert call(tables.run, *flags)[0] == 1
    (row,) = rows(tmp_path)
    assert (row["values"], row["mean"]) == ([], None)
    assert "its data are others than when it was begun: 40 images have other pixels" in row["missing"]
    archive.write_bytes(content)
    assert call(tables.run, *flags)[0] == 0
    assert rows(tmp_path) == [first]
    for name, damage in (("files.jsonl", ""), ("files.jsonl", "x")):  # lost or torn: asked again
        (tmp_path / "out" / name).write_text(damage)
        assert call(tables.run, *flags)[0] == 0
    (result,) = (tmp_path / "out").glob("*/results.json")
    whole = result.read_bytes()
    for torn in (whole[:100], b"", b"[]"):
        result.write_bytes(torn)
        assert call(tables.run, *flags)[0] == 1
        assert str(result) in rows(tmp_path)[0]["missing"]
    result.unlink()
    assert call(tables.run, *flags)[0] == 0
    assert rows(tmp_path)[0]["values"] == first["values"]


def test_of_scripts_that_know_no_data_changed_files_count(folder, tmp_path):
    archive = tmp_path / "x.npz"
    archive.write_bytes(b"one")
    (tmp_path / "method.py").write_text(METHOD.replace('"digits"', repr(f"npz:{archive}")))
    text = TABLE.replace('["--dataset", "digits"]', f'["--dataset", "npz:{archive}"]').replace("smoke = 2", "smoke = 1")
    (tmp_path / "small.toml").write_text(text.partition('[[tasks]]\nname = "elsewhere"')[0])
    flags = ("--tables", tmp_path / "small.toml", "--output", tmp_path / "out", "--quiet")
    assert call(tables.run, *flags)[0] == 0
    archive.write_bytes(b"two")
    assert call(tables.run, *flags)[0] == 1
    assert "files that its command line names have changed. Remove" in rows(tmp_path)[0]["missing"]
    (tmp_path / "out" / "files.jsonl").unlink()
    status, _, err = call(tables.run, *flags)
    assert status == 0
    assert "1 finished run does not know" in err


def test_an_output_that_is_no_folder_ends_in_one_line(folder, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("mine")
    for where in (tmp_path / "file", tmp_path / "file" / "below", "/proc/none"):
        status, _, err = call(tables.run, "--tables", folder / "small.toml", "--output", where)
        assert one_line(status, err, f"cannot use {where} as output folder")

    def refuse(dir):  # as a file system that is read-only does, whoever asks
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(table_runs.tempfile, "TemporaryFile", refuse)
    status, _, err = call(tables.run, "--tables", folder / "small.toml", "--output", tmp_path)
    assert one_line(status, err, f"cannot use {tmp_path} as output folder: Read-only file system")


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
