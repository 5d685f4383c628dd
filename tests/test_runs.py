"""A run folder keeps what was written, refuses what would harm it, and says what to do."""

import dataclasses
import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from jaxad._utils.files import to_json
from jaxad.runs import folder as runs
from jaxad.runs.folder import append_trial, create_run, environment, open_run, read_trials, sync, truncate_trials
from jaxad.runs.runner import is_finished


@dataclasses.dataclass(frozen=True, kw_only=True)
class Optimizer:
    rate: float = 0.1
    betas: tuple[float, float] = (0.9, 0.999)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    dataset: str = "digits"
    seed: int = 0
    optimizer: Optimizer = Optimizer()
    data_dir: Path | None = Path("data")
    time_budget: float | None = None
    limit: float = float("inf")


def trial(number: int) -> dict:
    return {
        "trial": number,
        "tokens": np.array([1, 2, number], np.int32),
        "architecture": {"layers": [{"kernel": 3}], "distance": "l1"},
        "reward": np.float32("nan") if number == 1 else 0.5 + number,
        "status": "failed" if number == 1 else "ok",
        "reason": "loss was NaN at step 3\nof 20" if number == 1 else None,
        "loss": jnp.float32(0.25),
        "params": 10,
        "flops": 10**12,
        "seconds": 0.1,
        "elapsed": 1.5,
    }


def one_line(error) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


def test_a_new_run_can_be_reopened_with_its_config(tmp_path):
    with create_run(tmp_path / "a" / "run", Config(), name="search") as run:
        assert run.config["optimizer"] == {"rate": 0.1, "betas": [0.9, 0.999]}
        assert run.config["data_dir"] == "data"
        assert run.config["limit"] is None
        run.checkpoints.save(1, {"n": 1})
    with open_run(tmp_path / "a" / "run", Config(time_budget=3.0)) as again:
        assert (again.name, again.config) == ("search", run.config)
        assert again.checkpoints.latest({"n": 0}).step == 1
    on_disk = json.loads((run.path / "config.json").read_text())
    assert on_disk["config"] == run.config


def test_default_names_never_collide(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(runs.time, "strftime", lambda *_: "20260101-000000")
    names = []
    for _ in range(3):
        with create_run(None, {}, name="autoad") as run:
            names.append(str(run.path))
    assert names == [f"runs/autoad-20260101-000000{end}" for end in ("", "-2", "-3")]


def test_earlier_results_are_never_touched(tmp_path):
    create_run(tmp_path / "run", {"seed": 0}, name="x").close()
    before = (tmp_path / "run" / "config.json").read_bytes()
    with pytest.raises(ValueError, match=r"already holds a run; continue it with --resume .*run"):
        create_run(tmp_path / "run", {"seed": 1}, name="x")
    assert (tmp_path / "run" / "config.json").read_bytes() == before
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("years of work")
    with pytest.raises(ValueError, match=r"not empty \(it holds thesis.tex\)") as error:
        create_run(tmp_path / "other", {}, name="x")
    one_line(error)
    assert [p.name for p in (tmp_path / "other").iterdir()] == ["thesis.tex"]


def test_a_run_killed_before_its_config_can_be_started_again(tmp_path):
    (tmp_path / ".lock").write_text("process 1 on host\n")
    (tmp_path / ".config.json.1.tmp").write_text("{")
    with create_run(tmp_path, {}, name="x") as run:
        assert (run.path / "config.json").exists()


@pytest.mark.parametrize("where", ["file", "file/below", "/proc/none/run"])
def test_unwritable_output_is_refused(tmp_path, where):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ValueError, match=r"cannot use .* as output folder: .*; choose another --output") as error:
        create_run(tmp_path / where, {}, name="x")
    assert where in one_line(error)
    assert (tmp_path / "file").read_text() == "mine"


def test_read_only_folders_are_refused(tmp_path, monkeypatch):
    create_run(tmp_path / "run", {}, name="x").close()

    def refuse(*_):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    with monkeypatch.context() as patch:  # root may write anywhere, so the system call is made to refuse
        patch.setattr(runs.os, "open", refuse)
        with pytest.raises(ValueError, match=r"cannot use .*new.* Permission denied"):
            create_run(tmp_path / "new", {}, name="x")
        with pytest.raises(ValueError, match=r"cannot write to run .* Permission denied"):
            open_run(tmp_path / "run")
        open_run(tmp_path / "run", write=False)


def test_what_is_not_a_run_is_refused(tmp_path):
    for content in (
        None,
        "{",
        "[]",
        "{}",
        '{"format": "jaxad-run-9", "name": "x", "config": {}}',
        "\x00" * 9,
    ):
        if content is not None:
            (tmp_path / "config.json").write_text(content)
        with pytest.raises(ValueError, match=r"is not a run folder|was not written by this version") as error:
            open_run(tmp_path)
        assert str(tmp_path) in one_line(error)
    with pytest.raises(ValueError, match="is not a run folder"):
        open_run(tmp_path / "nowhere")


def test_a_run_of_an_earlier_version_is_left_to_that(tmp_path):
    (tmp_path / "config.json").write_text('{"format": "jaxad-run-1", "name": "autoad", "config": {}}')
    for write in (True, False):
        with pytest.raises(
            ValueError, match=r"was begun by jaxad 0\.1\.0, and only that version can continue it"
        ) as error:
            open_run(tmp_path, write=write)
        assert str(tmp_path) in one_line(error)
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def test_a_run_with_damaged_results_is_not_called_finished(tmp_path):
    with create_run(tmp_path / "run", {}, name="autoad") as run:
        assert not is_finished(run)
        (run.path / "results.json").write_text("{}")
        assert is_finished(run)
        (run.path / "results.json").write_text('{"test": ')
        with pytest.raises(ValueError, match=r"cannot read .*results.json: .* Remove that file, and the run goes on"):
            is_finished(run)


def test_a_changed_config_is_refused_and_named(tmp_path):
    create_run(tmp_path / "run", Config(), name="x").close()
    changed = Config(seed=1, optimizer=Optimizer(rate=0.2), time_budget=9.0)
    with pytest.raises(ValueError, match="cannot resume") as error:
        open_run(tmp_path / "run", changed)
    text = one_line(error)
    assert "seed is 0 in the run but 1 was asked for" in text
    assert "optimizer.rate is 0.1 in the run but 0.2 was asked for" in text
    assert "time_budget" not in text
    open_run(tmp_path / "run", changed, may_differ={"seed", "optimizer", "time_budget"}).close()
    with pytest.raises(ValueError, match="extra is absent in the run but true was asked for"):
        open_run(tmp_path / "run", dataclasses.asdict(Config()) | {"extra": True})
    create_run(tmp_path / "b", {k: [] for k in "abcd"}, name="x").close()
    with pytest.raises(ValueError, match=r"is \[\] in the run .* and 1 more"):
        open_run(tmp_path / "b", {k: {} for k in "abcd"})
    open_run(tmp_path / "b", {k: [] for k in "abcd"}).close()  # a refusal leaves no lock behind


def test_only_one_process_writes_a_run(tmp_path):
    with create_run(tmp_path / "run", {}, name="x") as run:
        with pytest.raises(ValueError, match=rf"being written by another process \(process {os.getpid()} on"):
            open_run(run.path)
        assert read_trials(open_run(run.path, write=False)) == []
    open_run(run.path).close()


def test_sessions_that_share_a_run_write_it_together(tmp_path):
    with create_run(tmp_path / "run", {}, name="x") as run:
        with pytest.raises(ValueError, match="being written by another process"):
            open_run(run.path, shared=True)
        run.share()
        with open_run(run.path, shared=True), pytest.raises(ValueError, match="being written by another process"):
            open_run(run.path)
    open_run(run.path).close()


def test_a_killed_process_leaves_no_lock(tmp_path):
    child = (
        "import sys, time\n"
        "from jaxad.runs.folder import create_run, append_trial\n"
        "run = create_run(sys.argv[1], {}, name='x')\n"
        "append_trial(run, {'trial': 0})\n"
        "print('ready', flush=True)\n"
        "time.sleep(60)\n"
    )
    path = tmp_path / "run"
    with subprocess.Popen([sys.executable, "-c", child, str(path)], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout.readline() == b"ready\n"
            with pytest.raises(ValueError, match=f"process {process.pid} on"):
                open_run(path)
        finally:
            process.send_signal(signal.SIGKILL)
    with open_run(path) as run:
        assert read_trials(run) == [{"trial": 0}]  # written to the system, though never synced


def test_trials_come_back_as_written(tmp_path):
    with create_run(tmp_path / "run", {}, name="x") as run:
        assert read_trials(run) == []
        for number in range(3):
            append_trial(run, trial(number))
        sync(run)
        records = read_trials(run)
    assert records == read_trials(run.path)
    assert [r["trial"] for r in records] == [0, 1, 2]
    assert records[1] == trial(1) | {"tokens": [1, 2, 1], "reward": None, "loss": 0.25}
    assert run.trials.read_bytes().count(b"\n") == 3


def test_a_torn_last_line_is_dropped(tmp_path):
    with create_run(tmp_path / "run", {}, name="x") as run:
        for number in range(3):
            append_trial(run, trial(number))
    content = run.trials.read_bytes()
    second = content.index(b"\n", content.index(b"\n") + 1) + 1
    for size in range(second, len(content)):
        run.trials.write_bytes(content[:size])
        assert len(read_trials(run.path)) == 2
    run.trials.write_bytes(content[:second] + b"\0" * 200_000)  # what a power cut may leave
    with open_run(run.path) as run:
        append_trial(run, trial(9))
        assert [r["trial"] for r in read_trials(run)] == [0, 1, 9]
    run.trials.write_bytes(b"no newline at all")
    with open_run(run.path) as run:
        append_trial(run, trial(0))
    assert len(read_trials(run.path)) == 1


@pytest.mark.parametrize("bad", [b"{", b"", b"[1]", b"\xff\xfe", b'{"trial": 1} {"trial": 2}'])
def test_corruption_before_the_end_is_named(tmp_path, bad):
    create_run(tmp_path / "run", {}, name="x").close()
    (tmp_path / "run" / "trials.jsonl").write_bytes(b'{"trial": 0}\n' + bad + b'\n{"trial": 2}\n')
    with pytest.raises(ValueError, match=r"trials.jsonl line 2 is not a trial") as error:
        read_trials(tmp_path / "run")
    one_line(error)


def test_truncating_keeps_the_first_and_goes_on(tmp_path):
    with create_run(tmp_path / "run", {}, name="x") as run:
        truncate_trials(run, 0)
        for number in range(4):
            append_trial(run, trial(number))
        truncate_trials(run, 2)
        append_trial(run, trial(7))
        assert [r["trial"] for r in read_trials(run)] == [0, 1, 7]
        with pytest.raises(ValueError, match="holds 3 trials, fewer than the 4"):
            truncate_trials(run, 4)
        truncate_trials(run, 0)
        assert read_trials(run) == []
    with pytest.raises(ValueError, match="open for reading only"):
        truncate_trials(run, 0)
    with pytest.raises(ValueError, match="open for reading only"):
        append_trial(open_run(run.path, write=False), trial(0))


def test_a_full_disk_leaves_no_partial_line(tmp_path, monkeypatch):
    real = os.write

    def full(descriptor, data):
        if len(data) > 10:
            return real(descriptor, data[:10])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with create_run(tmp_path / "run", {}, name="x") as run:
        append_trial(run, trial(0))
        with monkeypatch.context() as patch:
            patch.setattr(runs.os, "write", full)
            with pytest.raises(ValueError, match=r"cannot write .*no space left.*free disk space.*--resume") as error:
                append_trial(run, trial(1))
        one_line(error)
        append_trial(run, trial(2))
        assert [r["trial"] for r in read_trials(run)] == [0, 2]


def test_environment_says_what_was_used(monkeypatch):
    found = environment()
    assert found["versions"]["numpy"] == np.__version__
    assert {"python", "jaxad", "jax", "jaxlib", "flax", "optax"} <= set(found["versions"])
    assert found["device"]["count"] >= 1
    assert to_json(found) == found
    monkeypatch.setenv("PATH", "")  # no git
    assert environment()["commit"] is None
