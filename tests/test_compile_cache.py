"""Compiled programs are found again wherever their folder is, and what a kill has torn is compiled and kept anew."""

import os
import shutil
import subprocess
import sys
import zlib

import jax
import jax.numpy as jnp
import pytest

from jaxad._utils import compile as backend
from jaxad._utils.compile import drop_torn_programs, forget_programs

PROGRAM = """
import sys, warnings
import jax
from jaxad._utils.compile import enable_compilation_cache

found = []
jax.monitoring.register_event_listener(lambda event, **_: found.append(event))
warnings.simplefilter("error")
enable_compilation_cache()
jax.jit(lambda x: x * 3 + 1)(2.0)
print(sum(event.endswith("cache_hits") for event in found), sum(event.endswith("cache_misses") for event in found))
"""


def compiled(folder):
    """Programs that a fresh process has (found, not found) in a folder."""
    environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(folder)}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return tuple(map(int, done.stdout.split()))


def test_a_folder_may_move_and_a_torn_program_is_replaced(tmp_path):
    found, missed = compiled(tmp_path / "one")
    assert found == 0
    assert missed > 0
    shutil.move(tmp_path / "one", tmp_path / "elsewhere" / "two")
    assert compiled(tmp_path / "elsewhere" / "two") == (missed, 0)
    for entry in (tmp_path / "elsewhere" / "two").glob("*-cache"):
        entry.write_bytes(entry.read_bytes()[:-9])
    assert compiled(tmp_path / "elsewhere" / "two") == (0, missed)  # without a warning
    assert compiled(tmp_path / "elsewhere" / "two") == (missed, 0)


@pytest.fixture
def folder(tmp_path):
    for i in range(6):
        write(tmp_path / f"jit_f{i}-cache", zlib.compress(os.urandom(200)), i)
    (tmp_path / "notes.txt").write_text("not a program")
    return tmp_path


def write(path, content, second):
    path.write_bytes(content)
    os.utime(path, (1000 + second, 1000 + second))


def names(folder):
    return {path.name for path in folder.iterdir() if not path.name.startswith(".")}


@pytest.mark.parametrize("damage", [b"", b"x", zlib.compress(os.urandom(200))[:-1], bytes(50)])
def test_torn_programs_are_dropped_and_others_kept(folder, damage):
    before = names(folder)
    write(folder / "jit_f2-cache", damage, 9)
    assert drop_torn_programs(folder) == ["jit_f2-cache"]
    assert names(folder) == before - {"jit_f2-cache"}
    assert drop_torn_programs(folder) == []
    write(folder / "jit_f4-cache", damage, 10)
    write(folder / "jit_f0-cache", damage, 11)
    assert set(drop_torn_programs(folder)) == {"jit_f4-cache", "jit_f0-cache"}


def test_every_program_is_read_once_the_youngest_first(folder, monkeypatch):
    read = []

    def is_whole(content):
        read.append(next(path.name for path in folder.glob("jit*") if path.read_bytes() == content))
        return True

    monkeypatch.setattr(backend, "_is_whole", is_whole)
    for _ in range(3):  # no time: one more each time
        drop_torn_programs(folder, seconds=-1)
    assert {name[5] for name in read} == set("543")
    drop_torn_programs(folder)
    assert {name[5] for name in read} == set("012345")
    read.clear()
    drop_torn_programs(folder)
    assert [name[5] for name in read] == ["5"]
    write(folder / "jit_f7-cache", b"7", 20)
    read.clear()
    drop_torn_programs(folder)
    assert [name[5] for name in read] == ["7", "5"]


def test_other_compressions_and_folders_that_are_not_there(tmp_path):
    assert drop_torn_programs(tmp_path / "none") == []
    zstandard = pytest.importorskip("zstandard")
    whole = zstandard.ZstdCompressor().compress(os.urandom(500))
    write(tmp_path / "a-cache", whole, 0)
    write(tmp_path / "b-cache", whole[:-1], 0)
    assert drop_torn_programs(tmp_path) == ["b-cache"]


def test_forgotten_programs_are_traced_again():
    traced = []

    @jax.jit
    def counted(x):
        traced.append(1)
        return x + 1

    for _ in range(2):
        counted(jnp.float32(1))
    assert len(traced) == 1
    forget_programs()
    assert counted(jnp.float32(1)) == 2
    assert len(traced) == 2
