"""Convolutions tap by tap against convolutions by Fourier transforms, and where the second is chosen.

    python benchmarks/convolutions.py
    python benchmarks/convolutions.py --sizes 28 --taps 5 --channels 64 --rounds 20 --json convolutions.json

Each way runs forward and back to images and kernel, in one program with the options that the kernels of a search get;
both take turns. The ratio of medians stands beside the ratio of multiplications, by which `conv` chooses.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from interleaved import save

from jaxad._utils.compile import fourier_gain, kernel_options
from jaxad.nn import conv as convolutions
from jaxad.nn import fourier
from jaxad.types import Array

WAYS = {"direct": convolutions.direct_conv, "fourier": fourier.conv}


def forward_and_back(function: Callable[..., Array]) -> Callable[..., Any]:
    """(images, kernel, gradient of the output) -> (output, gradient of the images, gradient of the kernel)."""

    def run(images: Array, kernel: Array, gradient: Array) -> tuple[Array, ...]:
        output, back = jax.vjp(function, images, kernel)
        return output, *back(gradient)

    return run


def measure(batch: int, size: int, taps: int, channels: int, rounds: int) -> dict[str, Any]:
    """Milliseconds of every run, and of real and counted gains."""
    rng = np.random.default_rng(0)
    shapes = (batch, size, size, channels), (taps, taps, channels, channels), (batch, size, size, channels)
    operands = jax.device_put([rng.standard_normal(shape, np.float32) for shape in shapes])
    options = kernel_options() or None
    programs = {
        name: jax.jit(forward_and_back(way), compiler_options=options).lower(*operands).compile()
        for name, way in WAYS.items()
    }
    times: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(rounds + 1):
        for name, program in programs.items():
            began = time.perf_counter()
            jax.block_until_ready(program(*operands))
            times[name].append(1000 * (time.perf_counter() - began))
    medians = {name: statistics.median(runs[1:]) for name, runs in times.items()}
    direct = (size * taps * channels) ** 2
    return {
        "size": size,
        "taps": taps,
        "channels": channels,
        "runs": {name: runs[1:] for name, runs in times.items()},
        "medians": medians,
        "gain": medians["direct"] / medians["fourier"],
        "fewer": direct / fourier.multiplications((size, size), (taps, taps), channels, channels),
        "chosen": convolutions.by_fourier((size, size), (taps, taps), channels, channels),
    }


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[28, 10], help="of images (default 28 10)")
    parser.add_argument("--taps", type=int, nargs="+", default=[3, 5, 7], help="of kernels, odd (default 3 5 7)")
    parser.add_argument("--channels", type=int, nargs="+", default=[16, 64], help="in and out (default 16 64)")
    parser.add_argument("--batch-size", type=int, default=64, help="default 64")
    parser.add_argument("--rounds", type=int, default=9, help="runs after the first (default 9)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="written at the end")
    args = parser.parse_args()
    if args.rounds < 1 or min(*args.sizes, *args.channels, args.batch_size) < 1:
        parser.error("--rounds, --sizes, --channels and --batch-size are 1 or more")
    if any(taps < 1 or taps % 2 == 0 for taps in args.taps):
        parser.error("--taps are odd: a kernel has a middle")
    device = jax.devices()[0].device_kind
    print(f"JAX {jax.__version__} on {device}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} before; ms")
    print(f"fourier where multiplications are {fourier_gain()} times fewer" if fourier_gain() else "fourier never")
    columns = ("size", "taps", "channels", "direct", "fourier", "gain", "fewer", "chosen")
    print("".join(f"{name:>10}" for name in columns))
    records = []
    for size in args.sizes:
        for taps in args.taps:
            for channels in args.channels:
                record = measure(args.batch_size, size, taps, channels, args.rounds)
                numbers = [record["medians"]["direct"], record["medians"]["fourier"], record["gain"], record["fewer"]]
                cells = [f"{size:>10}{taps:>10}{channels:>10}", *(f"{number:>10.2f}" for number in numbers)]
                print("".join(cells) + f"{'yes' if record['chosen'] else 'no':>10}", flush=True)
                records.append(record)
    about = {"jax": jax.__version__, "device": device, "cores": os.cpu_count()}
    save(args.json, about | {"measurements": records})


if __name__ == "__main__":
    main()
