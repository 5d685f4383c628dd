"""How programs are compiled on the machine at hand: options for the many small kernels of a search, and the cache."""

import functools
import os
from pathlib import Path

import jax

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


def fourier_gain() -> float | None:
    """How many times fewer multiplications make a convolution by Fourier transforms the faster one; None: never do.

    Measured by benchmarks/convolutions.py on CPU. Libraries of other backends choose their algorithm themselves.
    """
    return 4.0 if jax.default_backend() == "cpu" else None


def depthwise_by_shifts() -> bool:
    """Whether a depthwise convolution is faster as a sum of shifted images: `benchmarks/depthwise.py`."""
    return jax.default_backend() == "cpu"


def enable_compilation_cache(folder: str | Path | None = None) -> Path | None:
    """Keep compiled programs on disk between runs, where JAX_COMPILATION_CACHE_DIR or `folder` says.

    Returns the folder (default ~/.cache/jaxad/xla), or None where it cannot be written: then programs are compiled
    anew in every run. Kernels of a search are small, so even those that compile in milliseconds are kept.
    """
    folder = Path(os.environ.get("JAX_COMPILATION_CACHE_DIR") or folder or Path.home() / ".cache" / "jaxad" / "xla")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    if not os.access(folder, os.W_OK):
        return None
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    return folder
