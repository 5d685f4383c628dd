"""Pieces of work in processes: each once, each alone, and an error keeps what was done."""

import os

import pytest

from jaxad.runs.processes import in_processes


def write(path, number):
    path.write_text(f"{number} {os.getpid()}")


def write_or_fail(path, number):
    if number == 2:
        raise ValueError("two is too many")
    write(path, number)


def pieces(folder, count):
    return {folder / str(number): (number,) for number in range(count)}


def test_each_piece_has_a_process_of_its_own_and_is_done_once(tmp_path):
    (tmp_path / "1").write_text("here already")
    in_processes(write, pieces(tmp_path, 4), jobs=2, quiet=True)
    assert (tmp_path / "1").read_text() == "here already"
    written = [(tmp_path / str(number)).read_text().split() for number in (0, 2, 3)]
    assert [number for number, _ in written] == ["0", "2", "3"]
    assert len({process for _, process in written} | {str(os.getpid())}) == 4


def test_an_error_keeps_what_was_done(tmp_path):
    with pytest.raises(ValueError, match="two is too many"):
        in_processes(write_or_fail, pieces(tmp_path, 4), quiet=True)
    assert sorted(path.name for path in tmp_path.iterdir()) in (["0", "1"], ["0", "1", "3"])
    in_processes(write, pieces(tmp_path, 4), quiet=True)
    assert len(list(tmp_path.iterdir())) == 4
