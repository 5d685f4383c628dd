"""Checkpoints come back exactly or not at all, whatever happens while they are written."""

import errno
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from jaxad._utils import files
from jaxad.training.checkpoint import Checkpoints, DamagedCheckpoint, read_metadata, restore, save


class Moments(NamedTuple):
    mean: object
    count: object


def some_tree(rng: np.random.Generator) -> dict:
    """Every kind of leaf that a search state may hold."""
    return {
        "jax": [
            jnp.asarray(rng.normal(size=(3, 4)), dtype)
            for dtype in ("float32", "bfloat16", "float16", "int32", "uint32", "uint8", "int8", "bool")
        ],
        "numpy": Moments(rng.normal(size=(2, 5)), np.int64(7)),
        "big_endian": rng.normal(size=4).astype(">f4"),
        "complex": rng.normal(size=(2, 2)) + 1j,
        "float8": np.asarray(rng.normal(size=5), "float8_e4m3fn"),
        "strided": rng.normal(size=(6, 4))[::2, ::-1],
        "empty": (jnp.zeros((0, 3)), np.zeros((2, 0), bool), jnp.zeros((0,), jnp.bfloat16)),
        "special": np.array([np.nan, np.inf, -np.inf, -0.0, 5e-324]),
        "keys": {"one": jax.random.key(3), "many": jax.random.split(jax.random.key(4), (2, 3))},
        "rbg": jax.random.key(5, impl="rbg"),
        "scalars": [True, 3, -(2**80), 0.1, float("nan"), float("-inf"), "text “quoted”\n", ""],
        "nothing": None,
        "no_children": (),
        "weak": jnp.asarray(1.5),
    }


def blank(tree):
    """The same structure with other values, so that a value that survives came from the file."""

    def clear(leaf):
        if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            data = jax.random.key_data(leaf)
            return jax.random.wrap_key_data(jnp.zeros_like(data), impl=jax.random.key_impl(leaf))
        if isinstance(leaf, jax.Array):
            return jnp.zeros_like(leaf)
        if isinstance(leaf, np.generic):
            return leaf.dtype.type(0)
        return np.zeros_like(leaf) if isinstance(leaf, np.ndarray) else type(leaf)()

    return jax.tree.map(clear, tree)


def assert_same(actual, expected):
    """Equal structure, kinds, dtypes and bits."""
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for a, e in zip(jax.tree.leaves(actual), jax.tree.leaves(expected)):
        assert isinstance(a, jax.Array) == isinstance(e, jax.Array)
        if isinstance(e, jax.Array) and jnp.issubdtype(e.dtype, jax.dtypes.prng_key):
            assert a.dtype == e.dtype
            assert jax.random.key_impl(a) == jax.random.key_impl(e)
            a, e = jax.random.key_data(a), jax.random.key_data(e)
        if isinstance(e, jax.Array):
            assert a.aval == e.aval  # shape, dtype and weak type
            a, e = np.asarray(a), np.asarray(e)
        assert type(a) is type(e)
        if isinstance(e, np.ndarray | np.generic):
            assert (a.shape, a.dtype.name) == (e.shape, e.dtype.name)
            assert a.astype(e.dtype).tobytes() == e.tobytes()
        else:
            assert repr(a) == repr(e)


@pytest.fixture(scope="module")
def small_file(tmp_path_factory) -> tuple[Path, dict]:
    tree = {"w": np.arange(12, dtype=np.float32).reshape(3, 4), "key": jax.random.key(1), "n": 3}
    path = tmp_path_factory.mktemp("small") / "a.safetensors"
    save(path, tree)
    return path, tree


def test_every_leaf_comes_back_bit_for_bit(tmp_path, rng):
    tree = some_tree(rng)
    path = tmp_path / "new" / "folder" / "state.safetensors"
    save(path, tree, metadata={"step": 3, "note": ["a", None]})
    back = restore(path, blank(tree))
    assert_same(back, tree)
    assert read_metadata(path) == {"step": 3, "note": ["a", None]}
    back["strided"][0, 0] = 1.0  # arrays of NumPy may be written to, as the originals could
    np.testing.assert_array_equal(
        jax.random.normal(back["keys"]["one"], (3,)), jax.random.normal(jax.random.key(3), (3,))
    )
    assert [p.name for p in path.parent.iterdir()] == ["state.safetensors"]


def test_single_leaf_and_empty_trees(tmp_path):
    for i, tree in enumerate([np.arange(3), {}, None, 5, {"__metadata__": np.ones(2)}]):
        save(tmp_path / f"{i}", tree)
        assert_same(restore(tmp_path / f"{i}", blank(tree)), tree)


def test_names_that_collide_when_shortened_stay_apart(tmp_path):
    tree = {"a": {"b": np.ones(2)}, "a/b": np.zeros(2)}
    save(tmp_path / "t", tree)
    assert_same(restore(tmp_path / "t", blank(tree)), tree)


def test_kind_follows_like(tmp_path):
    value = np.arange(6, dtype=np.float32).reshape(2, 3)
    save(tmp_path / "t", {"a": value, "b": jnp.asarray(value), "key": jax.random.key(2)})
    shapes = jax.eval_shape(lambda: {"a": jnp.zeros((2, 3)), "b": jnp.zeros((2, 3)), "key": jax.random.key(0)})
    back = restore(tmp_path / "t", shapes)
    assert isinstance(back["a"], jax.Array)
    np.testing.assert_array_equal(back["a"], value)
    np.testing.assert_array_equal(jax.random.key_data(back["key"]), jax.random.key_data(jax.random.key(2)))
    back = restore(tmp_path / "t", {"a": value, "b": np.zeros_like(value), "key": jax.random.key(0)})
    assert type(back["b"]) is np.ndarray
    np.testing.assert_array_equal(back["b"], value)


def test_sharding_follows_like(tmp_path):
    mesh = Mesh(np.array(jax.devices()[:4]), ("pop",))
    sharding = NamedSharding(mesh, PartitionSpec("pop"))
    tree = {"x": jax.device_put(np.arange(8.0, dtype=np.float32), sharding), "y": jnp.ones(3)}
    save(tmp_path / "t", tree)
    back = restore(tmp_path / "t", tree)
    assert back["x"].sharding == sharding
    assert not back["y"].committed
    np.testing.assert_array_equal(back["x"], tree["x"])


def test_other_safetensors_readers_understand_the_file(tmp_path, rng):
    tree = {
        "conv": {"kernel": jnp.asarray(rng.normal(size=(3, 2)), jnp.float32), "bias": np.ones(2, np.int8)},
        "mask": np.array([True, False, True]),
        "scale": jnp.ones((), jnp.float16),
        "none_left": np.zeros((0, 4), np.float64),
        "epoch": 4,
    }
    save(tmp_path / "w.safetensors", tree)
    loaded = load_file(tmp_path / "w.safetensors")
    assert set(loaded) == {"conv/kernel", "conv/bias", "mask", "scale", "none_left"}
    np.testing.assert_array_equal(loaded["conv/kernel"], tree["conv"]["kernel"])
    np.testing.assert_array_equal(loaded["conv/bias"], tree["conv"]["bias"])
    np.testing.assert_array_equal(loaded["mask"], tree["mask"])
    assert (loaded["scale"].shape, loaded["scale"].dtype) == ((), np.float16)
    assert loaded["none_left"].shape == (0, 4)
    with safe_open(tmp_path / "w.safetensors", framework="numpy") as file:
        assert file.metadata()["jaxad_checkpoint"] == "1"


@pytest.mark.parametrize(
    ("leaf", "message"),
    [
        (object(), "leaf a/0 is a object"),
        (b"bytes", "leaf a/0 is a bytes"),
        (np.array(["text"]), "leaf a/0 has dtype <U4"),
        (np.array([object()]), "leaf a/0 has dtype object"),
        (jax.ShapeDtypeStruct((2,), np.float32), "shape without values"),
    ],
)
def test_leaves_that_cannot_be_saved_are_named(tmp_path, leaf, message):
    with pytest.raises(ValueError, match=message):
        save(tmp_path / "t", {"a": [leaf]})
    with pytest.raises(ValueError, match="metadata must be JSON"):
        save(tmp_path / "t", {"a": 1}, metadata={"x": {1, 2}})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("like", "message"),
    [
        (
            {"w": np.zeros((4, 3), np.float32)},
            r"leaf w should be float32\[4,3\] but the file has float32\[3,4\]",
        ),
        (
            {"w": np.zeros((3, 4), np.float64)},
            r"leaf w should be float64\[3,4\] but the file has float32\[3,4\]",
        ),
        ({"n": 1.0}, "leaf n should be float but the file has int"),
        ({"key": np.zeros(2, np.uint32)}, r"leaf key should be uint32\[2\] but the file has key<fry>\[\]"),
        ({"more": np.zeros(1)}, r"leaf more should be float64\[1\] but the file has nothing"),
        ({"n": None}, "leaf n should be nothing but the file has int"),
        (
            {"w": [np.zeros((3, 4), np.float32)]},
            r"leaf w/0 should be float32\[3,4\] but the file has nothing",
        ),
    ],
)
def test_structure_mismatch_names_the_leaf(small_file, like, message):
    path, tree = small_file
    with pytest.raises(ValueError, match=message) as error:
        restore(path, {**tree, **like})
    assert not isinstance(error.value, DamagedCheckpoint)
    assert "\n" not in str(error.value)


def test_torn_files_are_refused_at_every_length(small_file, tmp_path):
    path, tree = small_file
    content = path.read_bytes()
    torn = tmp_path / "torn"
    for size in range(len(content)):
        torn.write_bytes(content[:size])
        with pytest.raises(DamagedCheckpoint):
            restore(torn, tree)
    torn.write_bytes(content + b"\0")
    with pytest.raises(DamagedCheckpoint, match="torn or corrupt"):
        restore(torn, tree)


def test_any_flipped_bit_is_noticed(small_file, tmp_path):
    path, tree = small_file
    content = path.read_bytes()
    flipped = tmp_path / "flipped"
    for place in range(len(content)):
        damaged = bytearray(content)
        damaged[place] ^= 1 << (place % 8)
        flipped.write_bytes(damaged)
        with pytest.raises(DamagedCheckpoint):
            restore(flipped, tree)


def test_missing_and_foreign_files(tmp_path):
    with pytest.raises(ValueError, match="does not exist"):
        restore(tmp_path / "none", {})
    with pytest.raises(DamagedCheckpoint, match="cannot be read"):
        restore(tmp_path, {})
    save_file({"w": np.ones(3)}, tmp_path / "foreign.safetensors")
    (tmp_path / "text").write_text("a text that is long enough to hold a header of any kind\n" * 9)
    for name in ("foreign.safetensors", "text"):
        with pytest.raises(DamagedCheckpoint, match="not a jaxad checkpoint") as error:
            restore(tmp_path / name, {"w": np.ones(3)})
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("call", ["replace", "fsync"])
def test_failed_save_keeps_the_old_file(tmp_path, monkeypatch, call):
    old, path = {"w": np.zeros(5)}, tmp_path / "t"
    save(path, old)

    def fail(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(files.os, call, fail)
        with pytest.raises(ValueError, match=r"cannot write .*No space left.*free disk space") as error:
            save(path, {"w": np.ones(5)})
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
    assert_same(restore(path, old), old)
    assert [p.name for p in tmp_path.iterdir()] == ["t"]


def test_a_crash_between_write_and_rename_keeps_the_old_file(tmp_path, monkeypatch):
    old, path = {"w": np.zeros(5)}, tmp_path / "t"
    save(path, old)

    def interrupt(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(files.os, "replace", interrupt)
        with pytest.raises(KeyboardInterrupt):
            save(path, {"w": np.ones(5)})
    assert_same(restore(path, old), old)
    assert [p.name for p in tmp_path.iterdir()] == ["t"]


def test_a_write_that_stops_half_way_keeps_the_old_file(tmp_path):
    old, path = {"w": np.zeros(5)}, tmp_path / "t"
    save(path, old)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))  # the kernel refuses the rest
    try:
        with pytest.raises(ValueError, match=r"cannot write .*free disk space"):
            save(path, {"w": np.ones(50_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert_same(restore(path, old), old)
    assert [p.name for p in tmp_path.iterdir()] == ["t"]


def test_a_folder_that_cannot_exist_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="cannot write"):
        save(tmp_path / "file" / "t", {"a": 1})


def test_checkpoints_keep_the_newest_two(tmp_path):
    store = Checkpoints(tmp_path / "checkpoint")
    assert store.latest({"n": 0}) is None
    assert store.steps() == []
    for step in (1, 5, 10, 100_000_000):
        store.save(step, {"n": step}, metadata={"trials": step})
    assert store.steps() == [10, 100_000_000]
    found = store.latest({"n": 0})
    assert (found.step, found.tree, found.metadata) == (
        100_000_000,
        {"n": 100_000_000},
        {"trials": 100_000_000},
    )
    with pytest.raises(ValueError, match="step must be at least 0"):
        store.save(-1, {})


def test_checkpoints_fall_back_when_the_newest_is_torn(tmp_path):
    store = Checkpoints(tmp_path)
    for step in (1, 2):
        store.save(step, {"n": step})
    content = store.path(2).read_bytes()
    store.path(2).write_bytes(content[: len(content) // 2])
    found = store.latest({"n": 0})
    assert found.step == 1
    assert "step-00000002" in found.skipped[0]
    with pytest.raises(ValueError, match="does not fit") as error:  # a good file that differs is no reason to skip
        store.latest({"other": 0})
    assert not isinstance(error.value, DamagedCheckpoint)
    store.path(1).write_bytes(b"")
    with pytest.raises(DamagedCheckpoint, match=r"no checkpoint in .* can be restored"):
        store.latest({"n": 0})


def test_going_back_drops_the_abandoned_future_and_litter(tmp_path):
    store = Checkpoints(tmp_path)
    for step in (10, 20):
        store.save(step, {"n": step})
    store.path(20).write_bytes(b"torn")
    (tmp_path / ".step-00000020.safetensors.123.tmp").write_bytes(b"litter")
    (tmp_path / "step-notes.txt").write_text("kept")
    store.save(15, {"n": 15})
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "step-00000010.safetensors",
        "step-00000015.safetensors",
        "step-notes.txt",
    ]


@pytest.mark.parametrize("moment", ["while saving in a loop", "after writing, before the rename"])
def test_kill_leaves_a_good_checkpoint(tmp_path, moment):
    child = (
        "import os, signal, sys\n"
        "import numpy as np\n"
        "from jaxad.training.checkpoint import Checkpoints\n"
        "store, step = Checkpoints(sys.argv[1]), 0\n"
        "while True:\n"
        "    step += 1\n"
        "    if step == 6 and sys.argv[2].startswith('after'):\n"
        "        os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    store.save(step, {'w': np.full(300_000, step), 'step': step})\n"
    )
    store = Checkpoints(tmp_path)
    process = subprocess.Popen([sys.executable, "-c", child, str(tmp_path), moment])
    try:
        if moment.startswith("after"):
            process.wait(60)
        else:
            deadline = time.monotonic() + 60
            while max(store.steps(), default=0) < 5:
                assert time.monotonic() < deadline
                assert process.poll() is None
                time.sleep(0.002)
    finally:
        process.kill()
        assert process.wait() == -signal.SIGKILL
    found = store.latest({"w": np.zeros(300_000, np.int64), "step": 0})
    assert found.step >= 5
    assert found.tree["step"] == found.step
    np.testing.assert_array_equal(found.tree["w"], np.full(300_000, found.step))
    assert not found.skipped
    if moment.startswith("after"):
        assert found.step == 5
        assert len(list(tmp_path.glob(".step-*.tmp"))) == 1
    store.save(found.step + 1, {})
    assert not list(tmp_path.glob(".step-*.tmp"))
