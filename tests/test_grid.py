"""Cells of a grid: each once, whatever was torn; in one process, in several, in groups; and an error keeps the rest."""

import functools
import os
import subprocess
import sys
import threading
import time
from concurrent import futures

import pytest

from jaxad.runs import grid
from jaxad.runs.claims import Claims
from jaxad.runs.grid import Records, fill, fill_groups, together

CELLS = {name: number for number, name in enumerate("abcd")}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "cells.jsonl"


@pytest.fixture
def shown(monkeypatch):
    """What the progress is told: (done, note)."""
    told = []

    class Told(grid.Progress):
        def update(self, done, *, note=""):
            told.append((done, note))

    monkeypatch.setattr(grid, "Progress", Told)
    return told


def square(number, fails=None):
    """Work of a module, so that processes find it."""
    if number == fails:
        raise ValueError(f"{number} is too many")
    return {"square": number**2, "process": os.getpid()}


# ---- records ---------------------------------------------------------------------------------------------------


def test_records_are_lines_that_survive(path):
    records = Records(path)
    records["a"] = {"values": (0.1, float("nan"))}
    records["b"] = {"values": []}
    assert records["a"] == Records(path)["a"] == {"values": [0.1, None]}
    assert list(Records(path)) == ["a", "b"]


def test_a_torn_line_is_as_if_it_had_not_been_written(path):
    records = Records(path)
    records["a"], records["b"] = {"n": 1}, {"n": 2}
    path.write_bytes(path.read_bytes()[:-3])
    again = Records(path)
    assert set(again) == {"a"}
    again["b"] = {"n": 3}
    assert dict(Records(path)) == {"a": {"n": 1}, "b": {"n": 3}}


def test_of_a_name_the_last_record_counts_and_other_lines_are_passed_over(path):
    path.write_text('[1]\n{"no": "cell"}\n{"cell": "a", "n": 1}\n{"cell": "a", "n": 2}\n')
    assert dict(Records(path)) == {"a": {"n": 2}}


def test_a_record_that_is_deleted_is_worked_on_again(path, shown):
    records = Records(path)
    records["a"], records["b"] = {"square": 7}, {"square": 8}
    del records["a"]
    fill({"a": 0, "b": 1}, records, square)
    assert {name: record["square"] for name, record in Records(path).items()} == {"a": 0, "b": 8}


@pytest.mark.parametrize("sync", [True, False])
def test_records_are_on_disk_before_what_follows(path, monkeypatch, sync):
    synced = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(path.read_bytes()))
    Records(path, sync=sync)["a"] = {"n": 1}
    assert synced == ([b'{"cell":"a","n":1}\n'] if sync else [])


def test_records_that_no_line_can_hold_are_refused(path):
    for record, words in (({"cell": 1}, "has a field 'cell'"), ({"f": square}, "JSON cannot hold")):
        with pytest.raises(ValueError, match=words):
            Records(path)["a"] = record
    assert not path.exists()


# ---- one after another -----------------------------------------------------------------------------------------


def test_every_cell_is_worked_on_once(path, shown):
    done = []

    def work(number):
        done.append(number)
        return square(number)

    records = Records(path)
    records["b"] = {"square": 1}
    fill(CELLS, records, work, outcome=lambda record: f"{record['square']}")
    assert done == [0, 2, 3]
    assert [records[name]["square"] for name in CELLS] == [0, 1, 4, 9]
    fill(CELLS, Records(path), work)
    assert done == [0, 2, 3]
    # Before a cell is worked on its name is shown, then what came of it.
    assert shown == [(1, "a"), (2, "a: 0"), (2, "c"), (3, "c: 4"), (3, "d"), (4, "d: 9")]


def test_a_cell_may_tell_how_far_it_has_come(path, shown):
    def work(number, tell):
        tell(f"half of {number}")
        return square(number)

    fill({"a": 2, "b": 3}, Records(path), work, tells=True)
    assert shown == [(0, "a"), (0, "a: half of 2"), (1, "a"), (1, "b"), (1, "b: half of 3"), (2, "b")]
    with pytest.raises(ValueError, match="give tells or jobs"):
        fill({"c": 4}, Records(path), work, tells=True, jobs=2)


def test_an_error_keeps_what_was_done(path):
    with pytest.raises(ValueError, match="2 is too many"):
        fill(CELLS, Records(path), functools.partial(square, fails=2), quiet=True)
    assert list(Records(path)) == ["a", "b"]
    fill(CELLS, Records(path), square, quiet=True)
    assert set(Records(path)) == set(CELLS)


def test_others_go_on_where_an_error_is_told(path, shown):
    told = {}
    fill(CELLS, Records(path), functools.partial(square, fails=1), on_error=told.__setitem__)
    assert set(Records(path)) == {"a", "c", "d"}
    assert {name: str(error) for name, error in told.items()} == {"b": "1 is too many"}
    assert (2, "b: 1 is too many") in shown
    assert shown[-1][0] == 4


def test_each_cell_has_a_process_of_its_own(path, shown):
    records, told, work = Records(path), {}, functools.partial(square, fails=3)
    records["a"] = {"process": 0}
    fill(CELLS, records, work, jobs=2, on_error=told.__setitem__)
    found = Records(path)
    assert [found[name]["square"] for name in "bc"] == [1, 4]
    assert len({record["process"] for record in found.values()} | {os.getpid()}) == 4
    assert {name: str(error) for name, error in told.items()} == {"d": "3 is too many"}
    assert shown[0] == (1, "b")
    assert shown[-1][0] == 4
    with pytest.raises(ValueError, match="3 is too many"):
        fill(CELLS, records, work, jobs=1, quiet=True)


class Losing(futures.Executor):
    """A pool that loses so many of its workers."""

    def __init__(self, losses):
        self.losses, self.called = losses, 0

    def submit(self, function, *arguments):
        self.called += 1
        future = futures.Future()
        if self.called <= self.losses:
            future.set_exception(ConnectionError("worker 7 is gone"))
        else:
            future.set_result(function(*arguments))
        return future


def test_cells_of_lost_workers_are_given_to_others(path):
    records, told = Records(path), {}
    fill(CELLS, records, functools.partial(square, fails=2), jobs=1, pool=Losing(2), on_error=told.__setitem__)
    assert {name: record["square"] for name, record in records.items()} == {"a": 0, "b": 1, "d": 9}
    assert {name: str(error) for name, error in told.items()} == {"c": "2 is too many"}
    told.clear()
    fill({"e": 4, "f": 5}, records, square, jobs=1, pool=Losing(3), on_error=told.__setitem__)
    assert {name: str(error) for name, error in told.items()} == {
        "e": "given to workers 3 times, and lost: ConnectionError: worker 7 is gone"
    }
    assert records["f"]["square"] == 25
    gone = futures.ThreadPoolExecutor(1)
    gone.shutdown()
    with pytest.raises(ValueError, match="there are no workers any more"):
        fill({"g": 6}, records, square, jobs=1, pool=gone)


# ---- several clients -------------------------------------------------------------------------------------------


def test_clients_of_one_folder_share_its_cells(path, monkeypatch):
    """Two at once: every cell is worked on once, and each client ends with all records."""
    monkeypatch.setattr(grid, "WAITS", 0.02)
    done, together = [], threading.Barrier(2)

    def client():
        records = Records(path)
        claims = Claims(path.parent / "claims", lambda name: records.refresh())
        together.wait(10)

        def work(number):
            done.append(number)
            time.sleep(0.05)
            return {"square": number**2}

        fill(CELLS, records, work, claims=claims, quiet=True)
        return dict(records)

    with futures.ThreadPoolExecutor(2) as clients:
        first, second = (call.result(30) for call in [clients.submit(client), clients.submit(client)])
    assert sorted(done) == [0, 1, 2, 3]
    assert first == second == dict(Records(path))
    assert len(path.read_text().splitlines()) == 4


def test_who_is_dead_holds_no_cell(tmp_path):
    """While another process has a claim nobody else gets it; once it is killed, anybody does."""
    program = (
        "import sys, time\n"
        "from jaxad.runs.claims import Claims\n"
        "with Claims(sys.argv[1]).claim('a/b c') as mine:\n"
        "    print(mine, flush=True)\n"
        "    time.sleep(100)\n"
    )
    other = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    claims, refreshed = Claims(tmp_path, lambda name: refreshed.append(name)), []
    assert other.stdout.readline().strip() == "True"
    with claims.claim("a/b c") as mine:
        assert not mine
    with claims.claim("another") as mine:
        assert mine
    other.kill()
    other.communicate()
    with claims.claim("a/b c") as mine:
        assert mine
    assert refreshed == ["another", "a/b c"]


def test_any_mapping_can_hold_the_records():
    records = {"a": {"square": 0}}
    fill(CELLS, records, square, quiet=True)
    assert set(records) == set(CELLS)


# ---- groups ----------------------------------------------------------------------------------------------------


def test_groups_train_together_and_only_what_is_missing_is_finished(path, shown):
    records = Records(path)
    records["b"], records["e"], records["elsewhere"] = {"n": 0}, {"n": 0}, {"n": 0}
    made, finished = [], []

    def groups():
        for names in ("abc", "d", "e"):
            made.append(names)
            yield tuple(names), names.upper()

    def train(group, on_steps):
        assert made[-1] == group.lower()  # a group is made when its turn comes
        on_steps(10 * len(group))
        return 7

    def finish(group, trained, index):
        finished.append(group[index])
        return {"n": trained + index}

    fill_groups(groups(), records, train, finish, names="abcde", steps=10)
    assert finished == ["A", "C", "D"]
    assert [Records(path)[name]["n"] for name in "abcde"] == [7, 0, 9, 7, 0]
    assert shown == [
        (20, "a and 2 more"), (40, "a and 2 more"), (40, "a and 2 more"), (40, "d"), (50, "d"), (50, "d"),
    ]  # fmt: skip


def test_neighbours_of_one_key_are_together():
    def items():
        for letter in "aaaab":
            made.append(letter)
            yield letter

    made = []
    found = together(items(), key=str, most=3)
    assert next(found) == ("a", "a", "a")
    assert len(made) <= 4
    assert list(found) == [("a",), ("b",)]
