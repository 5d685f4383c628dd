"""Atomic save and exact restore of any pytree, one safetensors file per checkpoint.

The file is plain safetensors, so the weights in it open in every tool that reads the format. What a pytree
needs beyond named arrays (order of leaves, key implementations, Python scalars, a checksum) is JSON in the
header's metadata. The file is written here instead of by the safetensors package because the checksum must
cover the header too, and because buffers are then streamed to disk without being copied.
"""

import json
import re
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxad._utils.files import write_atomic

# Fixed first bytes of the header: they say that the file is ours, and where its checksum stands.
_MARK = b'{"__metadata__":{"jaxad_checkpoint":"1","crc32":"'
_NO_CRC = b"00000000"
_CODES = {  # safetensors' names of dtypes; all others are stored as raw bytes (U8, one more axis)
    "bool": "BOOL",
    "uint8": "U8",
    "int8": "I8",
    "uint16": "U16",
    "int16": "I16",
    "float16": "F16",
    "bfloat16": "BF16",
    "uint32": "U32",
    "int32": "I32",
    "float32": "F32",
    "uint64": "U64",
    "int64": "I64",
    "float64": "F64",
}
_SCALARS = {"bool": bool, "int": int, "float": float, "str": str}


class DamagedCheckpoint(ValueError):
    """The file is torn, corrupt or not a jaxad checkpoint; an earlier checkpoint may still be good."""


class Restored(NamedTuple):
    """What `Checkpoints.latest` found."""

    step: int
    tree: Any
    metadata: dict  # as given to save
    skipped: list[str]  # one line for each newer checkpoint that was damaged


def save(path: str | Path, tree: Any, *, metadata: dict | None = None) -> None:
    """Save a pytree to one safetensors file, atomically; `restore` gives it back exactly.

    Leaves: NumPy and JAX arrays of any numeric dtype, typed PRNG keys, Python bool, int, float and str. Array
    names are their paths ("params/conv/kernel"). `metadata` is anything JSON can hold, see `read_metadata`.
    Raises ValueError for a leaf that is none of these, and when the file cannot be written.
    """
    names, leaves = _named_leaves(tree)
    for leaf in leaves:  # start every transfer from the device before waiting for the first
        if isinstance(leaf, jax.Array) and not _is_key(leaf):
            leaf.copy_to_host_async()
    specs = [_spec(name, leaf) for name, leaf in zip(names, leaves)]
    arrays = {}
    for name, leaf, spec in zip(names, leaves, specs):
        if spec["kind"] == "scalar":
            spec["value"] = leaf
            continue
        if spec["kind"] == "key":
            spec["impl"] = str(jax.random.key_impl(leaf))
        arrays[name] = _host_array(name, leaf)

    # Wide dtypes first keeps every buffer aligned, so that other readers can map the file without copies.
    order = sorted(arrays, key=lambda name: -arrays[name].dtype.itemsize)
    entries, offset = {}, 0
    for name in order:
        array = arrays[name]
        code = _CODES.get(array.dtype.name)
        shape = list(array.shape) if code else [*array.shape, array.dtype.itemsize]
        entries[name] = {
            "dtype": code or "U8",
            "shape": shape,
            "data_offsets": [offset, offset + array.nbytes],
        }
        offset += array.nbytes
    buffers = [arrays[name].reshape(-1).view(np.uint8) for name in order]

    try:
        described = json.dumps({"leaves": specs, "metadata": metadata or {}})
    except (TypeError, ValueError) as error:
        raise ValueError(f"cannot save {path}: metadata must be JSON ({error})") from error
    header = _MARK + _NO_CRC + b'","tree":' + json.dumps(described).encode() + b"}"
    if entries:
        header += b"," + json.dumps(entries, separators=(",", ":")).encode()[1:-1]
    header += b"}"
    header += b" " * (-len(header) % 8)
    length = len(header).to_bytes(8, "little")
    crc = zlib.crc32(header, zlib.crc32(length))
    for buffer in buffers:
        crc = zlib.crc32(buffer, crc)
    header = header.replace(_MARK + _NO_CRC, _MARK + b"%08x" % crc, 1)
    write_atomic(path, [length, header, *buffers])


def restore(path: str | Path, like: Any, *, convert: Callable[[dict[str, Any]], dict[str, Any]] | None = None) -> Any:
    """Read the pytree saved at `path` into the structure of `like`, whose values are ignored.

    `like` holds arrays, keys, `jax.ShapeDtypeStruct`s or Python scalars where the saved tree had leaves. Its
    kind decides what comes back: NumPy stays NumPy, JAX arrays come back with its sharding and weak type.
    `convert` turns the leaves of the file by name, arrays as NumPy's, into those of `like`, for files of
    earlier versions. Raises ValueError in one line for a missing, damaged or foreign file
    (`DamagedCheckpoint`) and where the structure differs, naming the first leaf that does.
    """
    saved = _leaves(_read(path))
    return _rebuild(path, convert(saved) if convert else saved, like)


def read_metadata(path: str | Path) -> dict:
    """The `metadata` given to `save`, after the whole file has been verified; raises as `restore` does."""
    return _read(path)[0]["metadata"]


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of one run: a folder of `step-XXXXXXXX.safetensors`, the newest `keep` of them.

    Keeping two means that even a newest file torn by a failing disk leaves one to go on from.
    """

    folder: Path
    keep: int = 2

    def path(self, step: int) -> Path:
        """Where the checkpoint of `step` stands."""
        return Path(self.folder) / f"step-{step:08d}.safetensors"

    def steps(self) -> list[int]:
        """The steps that have a checkpoint, ascending; not verified."""
        found = [re.fullmatch(r"step-(\d{8,})\.safetensors", p.name) for p in Path(self.folder).glob("step-*")]
        return sorted(int(match[1]) for match in found if match)

    def save(self, step: int, tree: Any, *, metadata: dict | None = None) -> Path:
        """Save `tree` as the state after `step`, then drop checkpoints that are no longer needed.

        Later steps go too: a run that saves step 10 has gone back there, and its old future must not be
        resumed. One writer per folder at a time. Raises as the function `save` does.
        """
        if step < 0 or self.keep < 1:
            raise ValueError(f"step must be at least 0 and keep at least 1, got step={step}, keep={self.keep}")
        save(self.path(step), tree, metadata=metadata)
        steps = self.steps()
        kept = [s for s in steps if s <= step][-self.keep :]
        stale = [self.path(s) for s in steps if s not in kept]
        stale += Path(self.folder).glob(".step-*.tmp")  # left by a killed process
        for path in stale:
            with suppress(OSError):
                path.unlink()
        return self.path(step)

    def latest(self, like: Any) -> Restored | None:
        """Restore the newest checkpoint that verifies, or None where there is none at all.

        Raises ValueError when all are damaged, or when a good one does not have the structure of `like`.
        """
        found = self._newest()
        if found is None:
            return None
        step, content, skipped = found
        return Restored(step, _rebuild(self.path(step), _leaves(content), like), content[0]["metadata"], skipped)

    def check(self) -> None:
        """Raise ValueError where there are checkpoints and all of them are damaged."""
        self._newest()

    def _newest(self) -> tuple[int, Any, list[str]] | None:
        """(step, content, what is wrong with newer ones) of the newest checkpoint that verifies; None of none."""
        skipped: list[str] = []
        for step in reversed(self.steps()):
            try:
                return step, _read(self.path(step)), skipped
            except DamagedCheckpoint as error:
                skipped.append(str(error))
        if skipped:
            raise DamagedCheckpoint(
                f"no checkpoint in {self.folder} can be restored; start a new run (newest: {skipped[0]})"
            )
        return None


def _is_key(leaf: Any) -> bool:
    """Whether a leaf is an array of typed PRNG keys, or stands for one."""
    return isinstance(leaf, jax.Array | jax.ShapeDtypeStruct) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _named_leaves(tree: Any) -> tuple[list[str], list[Any]]:
    """Leaves with unique names: readable paths where these are unique, unambiguous ones otherwise."""
    paths, leaves = zip(*jax.tree_util.tree_flatten_with_path(tree)[0]) if jax.tree.leaves(tree) else ((), ())
    names = [jax.tree_util.keystr(path, simple=True, separator="/") or "." for path in paths]
    if len(set(names)) < len(names) or "__metadata__" in names:
        names = [jax.tree_util.keystr(path) for path in paths]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"two leaves have the same path {twice}; give the pytree node distinct child keys")
    return names, list(leaves)


def _spec(name: str, leaf: Any) -> dict:
    """What must agree between a saved leaf and its counterpart: kind, dtype and shape."""
    if type(leaf) in _SCALARS.values():
        return {"name": name, "kind": "scalar", "dtype": type(leaf).__name__, "shape": []}
    if _is_key(leaf):
        return {"name": name, "kind": "key", "dtype": str(leaf.dtype), "shape": list(leaf.shape)}
    if isinstance(leaf, jax.Array | np.ndarray | np.generic | jax.ShapeDtypeStruct):
        dtype = np.dtype(leaf.dtype)
        known = not dtype.hasobject and dtype.fields is None and dtype.kind not in "SUMm"
        if known and dtype.name != "void":
            return {"name": name, "kind": "array", "dtype": dtype.name, "shape": list(leaf.shape)}
        raise ValueError(f"leaf {name} has dtype {dtype}, which a checkpoint cannot hold; convert it to numbers")
    raise ValueError(
        f"leaf {name} is a {type(leaf).__name__}; a checkpoint holds arrays, typed keys, bool, int, float, "
        "str and None: convert it or make it static"
    )


def _host_array(name: str, leaf: Any) -> np.ndarray:
    """The leaf as a contiguous little-endian NumPy array, without a copy where it already is one."""
    if isinstance(leaf, jax.ShapeDtypeStruct):
        raise ValueError(f"leaf {name} is a shape without values; save the arrays themselves")
    if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
        raise ValueError(f"leaf {name} lives on several hosts; gather it (process_allgather) before saving")
    array = np.asarray(jax.random.key_data(leaf) if _is_key(leaf) else leaf)
    return np.asarray(array, dtype=array.dtype.newbyteorder("<"), order="C")


def _read(path: str | Path) -> tuple[dict, dict, np.ndarray]:
    """Read and verify a file: (description of the tree, entries of the arrays, data bytes)."""
    try:
        raw = np.fromfile(path, np.uint8)
    except FileNotFoundError as error:
        raise ValueError(f"checkpoint {path} does not exist; check the path") from error
    except OSError as error:
        raise DamagedCheckpoint(f"checkpoint {path} cannot be read: {error.strerror or error}") from error
    remedy = "use an earlier checkpoint or save it again"
    first = raw[8 : 8 + len(_MARK)].tobytes()
    if not _MARK.startswith(first):
        raise DamagedCheckpoint(f"{path} is not a jaxad checkpoint, or its first bytes are damaged; {remedy}")
    start = 8 + int.from_bytes(raw[:8].tobytes(), "little")
    stored = raw[8 + len(_MARK) : 16 + len(_MARK)].tobytes()
    crc = zlib.crc32(_NO_CRC, zlib.crc32(raw[: 8 + len(_MARK)]))
    crc = zlib.crc32(raw[16 + len(_MARK) :], crc)
    if start > raw.size or stored != b"%08x" % crc:
        raise DamagedCheckpoint(f"checkpoint {path} is torn or corrupt (checksum differs); {remedy}")
    entries = json.loads(raw[8:start].tobytes())
    return json.loads(entries.pop("__metadata__")["tree"]), entries, raw[start:]


def _leaves(content: tuple[dict, dict, np.ndarray]) -> dict[str, Any]:
    """The saved leaves by name: NumPy arrays (views of the file's bytes), keys, scalars."""
    tree, entries, data = content
    leaves: dict[str, Any] = {}
    for spec in tree["leaves"]:
        name = spec["name"]
        if spec["kind"] == "scalar":
            leaves[name] = _SCALARS[spec["dtype"]](spec["value"])
            continue
        begin, end = entries[name]["data_offsets"]
        if spec["kind"] == "key":
            words = data[begin:end].view(np.uint32).reshape(entries[name]["shape"])
            leaves[name] = jax.random.wrap_key_data(jnp.array(words), impl=spec["impl"])
        else:
            leaves[name] = data[begin:end].view(np.dtype(spec["dtype"])).reshape(spec["shape"])
    return leaves


def _rebuild(path: str | Path, saved: dict[str, Any], like: Any) -> Any:
    """The saved leaves in the structure of `like`, or ValueError naming the first leaf that differs."""
    names, templates = _named_leaves(like)
    for name, template in zip(names, templates):
        expected = _render(_spec(name, template))
        found = _render(_spec(name, saved[name]) if name in saved else None)
        if expected != found:
            _mismatch(path, name, expected, found)
    expected_names = set(names)
    for name in saved:
        if name not in expected_names:
            _mismatch(path, name, _render(None), _render(_spec(name, saved[name])))

    leaves = []
    for name, template in zip(names, templates):
        leaf = saved[name]
        if type(leaf) in _SCALARS.values():
            leaves.append(leaf)
        elif _is_key(leaf):
            leaves.append(_place(leaf, template))
        elif isinstance(template, np.ndarray):
            leaves.append(leaf.copy())  # a view would be read-only in spirit and keep the whole file alive
        elif isinstance(template, np.generic):
            leaves.append(leaf[()])
        else:
            weak = getattr(template, "weak_type", False)
            leaves.append(_place(jnp.full_like(template, leaf) if weak else jnp.array(leaf), template))
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


def _place(array: jax.Array, template: Any) -> jax.Array:
    """Put a restored array where its template is; uncommitted templates leave JAX free to choose."""
    shape_only = isinstance(template, jax.ShapeDtypeStruct)
    if template.sharding is not None and (shape_only or template.committed):
        return jax.device_put(array, template.sharding)
    return array


def _render(spec: dict | None) -> str:
    """A leaf in words: float32[3,4], key<fry>[], int, nothing."""
    if spec is None:
        return "nothing"
    return spec["dtype"] + ("" if spec["kind"] == "scalar" else str(spec["shape"]).replace(" ", ""))


def _mismatch(path: str | Path, name: str, expected: str, found: str) -> None:
    raise ValueError(
        f"checkpoint {path} does not fit: leaf {name} should be {expected} but the file has {found}; "
        "resume with the configuration it was saved with"
    )
