"""Say what this machine has and lacks for jaxad, in one table, with a remedy for what is missing.

    jaxad doctor

Versions, devices, memory, pretrained weights, folders of caches and their sizes, and the time of one small training
step. Nothing is changed, but for the step's program, which the cache keeps. The exit status is 0.
"""

import dataclasses
import importlib.metadata
import importlib.util
import os
import platform
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from jaxad._utils.memory import available_memory, in_units
from jaxad._utils.version import VERSION
from jaxad.runs import cli
from jaxad.runs.progress import table

PACKAGES = ("jax", "jaxlib", "flax", "optax", "distrax", "numpy")
EXTRAS = {  # what can be installed beside it: a module of it, and what for
    "cluster": ("distributed", "to train children on a Dask cluster: pip install dask distributed"),
    "dicom": ("pydicom", "to read DICOM files: pip install pydicom"),
    "export": ("jax2onnx", "to write ONNX files: pip install jax2onnx onnxruntime flatbuffers"),
}
ACCELERATORS = {"/dev/nvidia0": "cuda13", "/dev/accel0": "tpu"}  # what is there, and the extra of jax that uses it
STEPS = 20  # of the training that is timed


class Row(NamedTuple):
    """A line of the table."""

    what: str
    found: str
    remedy: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Say what this machine has and lacks."""

    cache_dir: str | None = None
    """Folder that keeps compiled programs; by default ~/.cache/jaxad/xla."""


def run(config: Config) -> int:
    """Print the table; the exit status is 0."""
    table("jaxad doctor", Row._fields, examined(config))
    return 0


def examined(config: Config) -> list[Row]:
    """All lines; what cannot be found out says why."""
    parts: tuple[tuple[str, Callable[[], Iterator[Row]]], ...] = (
        ("versions", versions),
        ("devices", devices),
        ("memory", memory),
        ("weights", weights),
        ("caches", lambda: caches(config)),
        ("training step", lambda: training_step(config)),
    )
    rows: list[Row] = []
    for name, part in parts:
        try:
            rows += part()
        except Exception as error:  # whatever is broken is what this is for
            said = " ".join(str(error).split())
            rows.append(Row(name, f"failed: {type(error).__name__}: {said}", "install jax and jaxad again"))
    return rows


def versions() -> Iterator[Row]:
    """Of Python, this library, those it stands on, and what can be installed beside it."""
    yield Row("python", platform.python_version())
    yield Row("jaxad", VERSION)
    for package in PACKAGES:
        try:
            yield Row(package, importlib.metadata.version(package))
        except importlib.metadata.PackageNotFoundError:
            yield Row(package, "missing", f"pip install {package}")
    for extra, (module, remedy) in EXTRAS.items():
        there = importlib.util.find_spec(module) is not None
        yield Row(f"jaxad[{extra}]", module if there else "missing", "" if there else remedy)


def devices() -> Iterator[Row]:
    """What JAX computes on."""
    import jax

    found = jax.devices()
    kinds = sorted({device.device_kind for device in found})
    unused = [] if found[0].platform != "cpu" else [n for path, n in ACCELERATORS.items() if Path(path).exists()]
    remedy = f"an accelerator is not used: pip install 'jax[{unused[0]}]'" if unused else ""
    yield Row("devices", f"{len(found)} x {found[0].platform} ({', '.join(kinds)})", remedy)
    yield Row("processors", str(os.cpu_count()))


def memory() -> Iterator[Row]:
    """What is free on the host and, where it says so, on the device."""
    import jax

    free = available_memory()
    little = free is not None and free < 2 * 10**9
    found = "unknown" if free is None else f"{in_units(free)} free"
    yield Row("memory", found, "give fewer or smaller images (--limit, --image-size)" if little else "")
    if limit := (jax.devices()[0].memory_stats() or {}).get("bytes_limit"):
        yield Row("memory of the device", in_units(limit))


def weights() -> Iterator[Row]:
    """Of pretrained networks."""
    from jaxad.nn.pretrained import weights as pretrained

    for name in pretrained.SOURCES:
        try:
            found = pretrained.find(name)
        except ValueError as error:
            yield Row(f"weights of {name}", "missing", str(error))
        else:
            yield Row(f"weights of {name}", "in the cache" if found is None else str(found))


def caches(config: Config) -> Iterator[Row]:
    """Folders that may be deleted, and that of prepared image sets."""
    from jaxad._utils.compile import enable_compilation_cache

    wanted = os.environ.get("JAX_COMPILATION_CACHE_DIR") or config.cache_dir or Path.home() / ".cache" / "jaxad" / "xla"
    kept = enable_compilation_cache(config.cache_dir)
    remedy = "" if kept else "it cannot be written, so that every run compiles anew: give --cache-dir"
    yield Row("cache of programs", _folder(Path(wanted)), remedy)
    yield Row("cache of weights", _folder(Path.home() / ".cache" / "jaxad" / "weights"))
    if given := os.environ.get("TFDS_DATA_DIR"):
        missing = "" if Path(given).is_dir() else "TFDS_DATA_DIR names no folder: set or unset it"
        yield Row("prepared image sets", given if Path(given).is_dir() else f"{given}: missing", missing)


def training_step(config: Config) -> Iterator[Row]:
    """The time of a step of a small autoencoder: the first, with compiling or reading its program, and those after."""
    import jax
    import numpy as np

    from jaxad.methods.conv_autoencoder import ConvAutoencoderConfig, conv_autoencoder
    from jaxad.types import Batch

    detector = conv_autoencoder(ConvAutoencoderConfig(widths=(8, 16), latent_dim=16))
    images = np.random.default_rng(0).random((32, 32, 32, 1), np.float32)
    init_key, *keys = jax.random.split(jax.random.key(0), 2 + STEPS)
    started = time.perf_counter()
    step, state = jax.jit(detector.step), jax.jit(detector.init)(init_key, images)
    state, _ = jax.block_until_ready(step(keys[0], state, Batch(images, None, None)))
    first, started = time.perf_counter() - started, time.perf_counter()
    for key in keys[1:]:
        state, _ = step(key, state, Batch(images, None, None))
    jax.block_until_ready(state)
    each = (time.perf_counter() - started) / (len(keys) - 1)
    yield Row("training step", f"{1000 * each:.3g} ms, 32 images of 32x32; the first {first:.3g} s")


def _folder(path: Path) -> str:
    """A folder, how much is in it, and in how many files."""
    sizes = []
    for file in path.rglob("*") if path.is_dir() else ():
        try:
            if file.is_file():
                sizes.append(file.stat().st_size)
        except OSError:  # another process deletes some meanwhile
            continue
    return f"{path}: {in_units(sum(sizes))} in {len(sizes):,} files" if sizes else f"{path}: empty"


def main() -> None:
    """What the command calls."""
    cli.main(run, Config)
