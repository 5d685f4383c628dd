"""What the compiler options of `jaxad._utils.compile.kernel_options` are worth, on kernels as a search has them.

    python benchmarks/compiler_options.py --json options.json

Each kernel is compiled anew several times, in turn with the default options and with ours, and each program is run
for as many times as fit into a fraction of a second. Medians are shown; no cache is used.
"""

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxad._utils.compile import kernel_options
from jaxad.nn import conv as convolutions
from jaxad.nn import layers as nn
from jaxad.types import Array

CHANNELS, TAPS = 64, 5


def gradient(function: Callable[..., Array]) -> Callable[..., Any]:
    """(gradient of the output, *inputs) -> gradients of the inputs."""
    return lambda upstream, *inputs: jax.vjp(function, *inputs)[1](upstream)


def to_kernel(images: Array, upstream: Array) -> Array:
    """The gradient of a convolution's kernel."""
    left, right = convolutions.as_batch(images), convolutions.as_kernel(upstream)
    return convolutions.kernel_gradient(left, right, (TAPS, TAPS))


def cases(batch: int, size: int) -> dict[str, tuple[Callable[..., Any], tuple[np.ndarray, ...]]]:
    """Functions with their arguments."""
    rng = np.random.default_rng(0)
    images, upstream = rng.standard_normal((2, batch, size, size, CHANNELS), np.float32)
    kernel = rng.standard_normal((TAPS, TAPS, CHANNELS, CHANNELS), np.float32)
    scale, offset = rng.standard_normal((2, CHANNELS), np.float32)

    def norm(x: Array) -> Array:
        return nn.normalise(x, "batch")

    def elu(x: Array, scale: Array, offset: Array) -> Array:
        return nn.activate(x, "elu", scale, offset)

    def max_pool(x: Array) -> Array:
        return nn.pool(x, "max", 3)

    pooled = upstream[:, ::3, ::3]
    return {
        "convolution": (convolutions.conv, (images, kernel)),
        "convolution, to images": (lambda dy, k: convolutions.conv(dy, convolutions.flip(k)), (upstream, kernel)),
        "convolution, to kernel": (to_kernel, (images, upstream)),
        "batch norm": (norm, (images,)),
        "batch norm, gradient": (gradient(norm), (upstream, images)),
        "elu, gradient": (gradient(elu), (upstream, images, scale, offset)),
        "max pool 3, gradient": (gradient(max_pool), (pooled, images)),
    }


def measure(
    function: Callable[..., Any], args: tuple[Any, ...], options: dict[str, Any], seconds: float
) -> list[float]:
    """Milliseconds to trace and compile, and to run."""
    started = time.perf_counter()
    # A new function each time: JAX would remember the old one.
    compiled = jax.jit(lambda *args: function(*args), compiler_options=options or None).lower(*args).compile()
    compile_time = time.perf_counter() - started
    jax.block_until_ready(compiled(*args))
    times, ends = [], time.perf_counter() + seconds
    while not times or time.perf_counter() < ends:
        started = time.perf_counter()
        jax.block_until_ready(compiled(*args))
        times.append(time.perf_counter() - started)
    return [1000 * compile_time, 1000 * statistics.median(times)]


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5, help="compilations of each kind (default 5)")
    parser.add_argument("--seconds", type=float, default=0.3, help="to run each program for (default 0.3)")
    parser.add_argument("--batch-size", type=int, default=64, help="default 64")
    parser.add_argument("--image-size", type=int, default=28, help="default 28")
    parser.add_argument("--json", type=Path, metavar="FILE", help="written at the end")
    args = parser.parse_args()
    jax.config.update("jax_enable_compilation_cache", False)

    options, records = kernel_options(), []
    device, load = jax.devices()[0], os.getloadavg()[0]
    print(f"JAX {jax.__version__} on {device.device_kind}, {os.cpu_count()} cores, load {load:.1f} before; ms")
    print(f"ours: {options or 'none: all are at their defaults'}")
    heading = ("compile default", "ours", "ratio", "run default", "ours", "ratio")
    print(f"{'kernel':24}" + "".join(f"{name:>16}" for name in heading))
    for name, (function, inputs) in cases(args.batch_size, args.image_size).items():
        inputs = jax.device_put(inputs)
        pairs = [[measure(function, inputs, o, args.seconds) for o in ({}, options)] for _ in range(args.repeats)]
        (compile_default, run_default), (compile_ours, run_ours) = np.median(pairs, axis=0).tolist()
        ratios = compile_ours / compile_default, run_ours / run_default
        row = (compile_default, compile_ours, ratios[0], run_default, run_ours, ratios[1])
        print(f"{name:24}" + "".join(f"{value:16.2f}" for value in row))
        sys.stdout.flush()
        records.append(
            {"kernel": name, "milliseconds": pairs, "columns": ["compile", "run"], "rows": ["default", "ours"]}
        )
    if args.json:
        about = {"jax": jax.__version__, "device": device.device_kind, "cores": os.cpu_count(), "load": load}
        args.json.write_text(json.dumps({**about, "options": options, "kernels": records}, indent=1) + "\n")


if __name__ == "__main__":
    main()
