"""How programs are compiled on the machine at hand: options for the many small kernels of a search, and the cache."""

import contextlib
import contextvars
import ctypes
import functools
import gc
import os
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import jax

_ZSTD = b"\x28\xb5\x2f\xfd"  # what a file in this compression begins with
_READ = ".read"

# Faster to compile and, for convolutions on several cores, faster to run: measured by benchmarks/compiler_options.py.
# Options belong to a backend and a version of XLA, so each is tried on a trivial program before it is used.
_CANDIDATES = {
    "cpu": {
        "xla_cpu_experimental_ynn_fusion_type": "",  # convolutions of the older library use all cores
        "xla_cpu_use_fusion_emitters": False,  # the older emitters compile small fusions about twice as fast
    },
    "gpu": {"xla_gpu_autotune_level": 0},  # autotuning costs seconds a kernel, and a child trains for milliseconds
}


@functools.cache
def kernel_options() -> dict[str, str | bool | int]:
    """Compiler options for small, short-lived programs on the default backend.

    Returns:
      The options that this version of XLA accepts, for `jax.jit(..., compiler_options=...)`; empty where none does.
    """
    return {name: value for name, value in _CANDIDATES.get(jax.default_backend(), {}).items() if accepts(name, value)}


def accepts(name: str, value: str | bool | int) -> bool:
    """Whether the default backend, in this version of XLA, knows a compiler option."""
    probe = jax.jit(lambda x: x + 1, compiler_options={name: value})
    try:
        probe.lower(jax.ShapeDtypeStruct((), "float32")).compile()
    except Exception:  # whatever an unknown option raises differs by version; without it all works, only slower
        return False
    return True


def gradient_pixels() -> int | None:
    """Pixels of a batch that the gradient of a convolution's kernel is best summed over at a time; None for any."""
    return 16384 if jax.default_backend() == "cpu" else None


_plain = contextvars.ContextVar("plain forms", default=False)


@contextlib.contextmanager
def plain_forms() -> Iterator[None]:
    """Convolutions that are traced within stay convolutions: what else runs them has fast ones of its own.

    A function that JAX has traced before stays as it was: trace new ones.
    """
    token = _plain.set(True)
    try:
        yield
    finally:
        _plain.reset(token)


def is_plain() -> bool:
    """Whether this is traced within `plain_forms`."""
    return _plain.get()


def fourier_gain() -> float | None:
    """How many times fewer multiplications make a convolution by Fourier transforms the faster one; None: never do.

    Measured by benchmarks/convolutions.py on CPU. Libraries of other backends choose their algorithm themselves.
    """
    return 4.0 if jax.default_backend() == "cpu" and not is_plain() else None


def depthwise_by_shifts() -> bool:
    """Whether a depthwise convolution is faster as a sum of shifted images: `benchmarks/depthwise.py`."""
    return jax.default_backend() == "cpu" and not is_plain()


def enable_compilation_cache(folder: str | Path | None = None) -> Path | None:
    """Keep compiled programs on disk between runs, where JAX_COMPILATION_CACHE_DIR or `folder` says.

    Returns the folder (default ~/.cache/jaxad/xla), or None where it cannot be written: then programs are compiled
    anew in every run. Kernels of a search are small, so even those that compile in milliseconds are kept. What a killed
    process has half written is dropped, see `drop_torn_programs`.
    """
    folder = Path(os.environ.get("JAX_COMPILATION_CACHE_DIR") or folder or Path.home() / ".cache" / "jaxad" / "xla")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    if not os.access(folder, os.W_OK):
        return None
    drop_torn_programs(folder)
    jax.config.update("jax_compilation_cache_dir", str(folder))
    # XLA's own caches within the folder put its path into every key (of jax 0.10): a folder that has moved, or that is
    # mounted elsewhere, would never be found again.
    with contextlib.suppress(AttributeError):  # a later version may know no such caches
        jax.config.update("jax_persistent_cache_enable_xla_caches", "none")
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    return folder


def forget_programs() -> None:
    """Have the system get back the memory of all that JAX has compiled, between two phases of a run.

    A program takes a megabyte or two, and a search has hundreds. What is needed again is read from the compilation
    cache, or compiled again. The allocator of glibc has to be asked to give back what is free; others are left alone.
    """
    jax.clear_caches()
    gc.collect()
    with contextlib.suppress(OSError, AttributeError, TypeError):  # TypeError: Windows has no library without a name
        ctypes.CDLL(None).malloc_trim(0)


def drop_torn_programs(folder: Path, seconds: float = 0.5) -> list[str]:
    """Delete compiled programs that were not written to their end, and return their names.

    JAX would warn of such a file in every run and compile its program anew, but never replace it. What has been found
    whole is not read again unless its time changes: a hidden file says between which times all have been read.

    Args:
      folder: of the programs.
      seconds: after which the rest is left to the next call; the youngest files, which a kill tears, come first.
    """
    mark, began, torn = folder / _READ, time.monotonic(), []
    with contextlib.suppress(OSError):  # another process may delete files meanwhile, or the folder be read-only
        times = {entry.name: entry.stat().st_mtime_ns for entry in os.scandir(folder) if entry.name.endswith("-cache")}
        since, until = _read_between(mark)
        order = sorted(times, key=times.__getitem__, reverse=True)
        reached = since  # the oldest time down to which all have been read
        for name in (name for name in order if not since < times[name] < until):  # those at the ends may have equals
            if not _is_whole((folder / name).read_bytes()):
                (folder / name).unlink()
                torn.append(name)
            if not since <= times[name] <= until and time.monotonic() - began > seconds:
                reached = times[name]
                break
        else:
            reached = 0
        now = reached, times[order[0]] if order else until
        if now != (since, until):
            mark.write_text(f"{now[0]} {now[1]}\n")
    return torn


def _read_between(mark: Path) -> tuple[int, int]:
    """Nanoseconds of the oldest and the youngest file that have been read, and all between them."""
    try:
        since, until = map(int, mark.read_text().split())
    except (OSError, ValueError):
        return 0, 0
    return since, until


def _is_whole(program: bytes) -> bool:
    """Whether a file of JAX's cache ends where its compression says that it does."""
    if program.startswith(_ZSTD):
        try:
            import zstandard
        except ImportError:
            return True  # what this Python cannot read JAX cannot, either
        try:
            zstandard.ZstdDecompressor().decompress(program)
        except zstandard.ZstdError:
            return False
        return True
    try:
        zlib.decompress(program)
    except zlib.error:
        return False
    return True
