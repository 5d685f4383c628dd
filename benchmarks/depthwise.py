"""Depthwise convolutions as sums of shifted images against XLA's grouped ones, in the layers of EfficientNet-lite0.

    python benchmarks/depthwise.py
    python benchmarks/depthwise.py --side 128 --batch-size 8 --rounds 20 --json depthwise.json

First each depthwise layer by itself, then the network as far as its features are used, with both. Ways take turns; each
is one program with the options that features are computed with.
"""

import argparse
import functools
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import jax
import numpy as np
from interleaved import save
from jax import lax

from jaxad._utils.compile import kernel_options
from jaxad.methods.common.patch_features import STAGES
from jaxad.nn import convolution, efficientnet
from jaxad.nn.depthwise import depthwise_conv
from jaxad.types import Array, Params


class DepthwiseLayer(NamedTuple):
    """What a depthwise convolution of the network sees, and of which blocks it is."""

    blocks: tuple[int, ...]
    size: int
    channels: int
    kernel: int
    stride: int


def layers(side: int, count: int) -> list[DepthwiseLayer]:
    """Those of the first blocks, for images of a side; blocks of equal layers are one."""
    found: dict[tuple[int, ...], list[int]] = {}
    size, channels = -(-side // 2), efficientnet.STEM
    for index, block in enumerate(efficientnet.BLOCKS[:count]):
        width = channels * (efficientnet.EXPANSION if index else 1)
        found.setdefault((size, width, block.kernel, block.stride), []).append(index)
        size, channels = -(-size // block.stride), block.channels
    return [DepthwiseLayer(tuple(blocks), *layer) for layer, blocks in found.items()]


def grouped(images: Array, kernel: Array, strides: Sequence[int], padding: Sequence[tuple[int, int]]) -> Array:
    """JAX's own, with the arguments of `depthwise_conv`."""
    return lax.conv_general_dilated(
        images, kernel, strides, padding, dimension_numbers=convolution.NHWC, feature_group_count=images.shape[3]
    )  # fmt: skip


def measure_layer(layer: DepthwiseLayer, batch: int, rounds: int) -> dict[str, Any]:
    """Milliseconds of a layer, both ways."""
    rng = np.random.default_rng(0)
    images = rng.standard_normal((batch, layer.size, layer.size, layer.channels), np.float32)
    kernel = rng.standard_normal((layer.kernel, layer.kernel, 1, layer.channels), np.float32) / layer.kernel
    strides = (layer.stride,) * 2
    padding = lax.padtype_to_pads(images.shape[1:3], kernel.shape[:2], strides, "SAME")
    ways = {"shifted": depthwise_conv, "grouped": grouped}
    programs = {name: functools.partial(way, strides=strides, padding=padding) for name, way in ways.items()}
    return layer._asdict() | in_turns(programs, (images, kernel), rounds)


def measure_network(side: int, batch: int, rounds: int, after: Sequence[int]) -> dict[str, Any]:
    """Milliseconds of the network as far as a block, both ways; random weights take as long as others."""
    rng = np.random.default_rng(0)

    def draw(leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        fan_in = max(int(np.prod(leaf.shape[:-1])), 1)
        return (rng.standard_normal(leaf.shape) * (2 / fan_in) ** 0.5).astype(np.float32)

    params = jax.tree.map(draw, efficientnet.shapes(after[-1] + 1))
    images = rng.random((batch, side, side, 3), np.float32)
    ways = {"shifted": True, "grouped": False}
    return in_turns({name: network(after, way) for name, way in ways.items()}, (params, images), rounds)


def network(after: Sequence[int], by_shifts: bool) -> Callable[[Params, Array], list[Array]]:
    """`efficientnet.stages` with one way of depthwise convolutions."""

    def run(params: Params, images: Array) -> list[Array]:
        with mock.patch.object(convolution, "depthwise_by_shifts", return_value=by_shifts):  # it is asked while tracing
            return efficientnet.stages(params, images, after)

    return run


def in_turns(ways: Mapping[str, Callable[..., Any]], operands: tuple[Any, ...], rounds: int) -> dict[str, Any]:
    """Milliseconds of every run, their medians, how many times as long "grouped" takes, and how results differ."""
    operands = jax.device_put(operands)
    options = kernel_options() or None
    programs = {
        name: jax.jit(way, compiler_options=options).lower(*operands).compile() for name, way in ways.items()
    }  # fmt: skip
    results = [jax.tree.leaves(program(*operands)) for program in programs.values()]
    runs: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(rounds):
        for name, program in programs.items():
            began = time.perf_counter()
            jax.block_until_ready(program(*operands))
            runs[name].append(1000 * (time.perf_counter() - began))
    medians = {name: statistics.median(taken) for name, taken in runs.items()}
    difference = max(float(np.max(np.abs(a - b)) / np.max(np.abs(b))) for a, b in zip(*results, strict=True))
    return {
        "runs": runs,
        "medians": medians,
        "ratio": medians["grouped"] / medians["shifted"],
        "difference": difference,
    }


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=224, help="of images (default 224)")
    parser.add_argument("--batch-size", type=int, default=4, help="default 4")
    parser.add_argument("--after", type=int, nargs="+", default=STAGES, help="blocks whose outputs are used (4 10)")
    parser.add_argument("--rounds", type=int, default=9, help="runs after the first (default 9)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="written at the end")
    args = parser.parse_args()
    if min(args.rounds, args.batch_size) < 1 or args.side < 32:
        parser.error("--rounds and --batch-size are 1 or more, --side is 32 or more")
    if sorted(set(args.after)) != list(args.after) or not 0 <= args.after[0] <= args.after[-1] < len(
        efficientnet.BLOCKS
    ):
        parser.error(f"--after are numbers of blocks, ascending, from 0 to {len(efficientnet.BLOCKS) - 1}")
    device = jax.devices()[0].device_kind
    print(f"JAX {jax.__version__} on {device}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} before")
    print(f"medians of {args.rounds}, ms for {args.batch_size} images; difference relative to the largest value")
    print("".join(f"{name:>12}" for name in ("blocks", "size", "channels", "kernel", "stride")) + HEADS)
    records = []
    for layer in layers(args.side, args.after[-1] + 1):
        record = measure_layer(layer, args.batch_size, args.rounds)
        blocks = ", ".join(map(str, layer.blocks))
        print("".join(f"{cell:>12}" for cell in (blocks, *layer[1:])) + figures(record), flush=True)
        records.append(record)
    whole = measure_network(args.side, args.batch_size, args.rounds, args.after)
    print(f"{f'network to block {args.after[-1]}':>60}" + figures(whole))
    each = {name: median / args.batch_size for name, median in whole["medians"].items()}
    print(f"{'the same, an image':>60}" + "".join(f"{number:>12.2f}" for number in each.values()))
    about = {"jax": jax.__version__, "device": device, "cores": os.cpu_count(), "batch_size": args.batch_size}
    save(args.json, about | {"side": args.side, "layers": records, "network": whole})


HEADS = "".join(f"{name:>12}" for name in ("shifted", "grouped", "ratio", "difference"))


def figures(record: Mapping[str, Any]) -> str:
    """Cells of a line of the table."""
    numbers = (*record["medians"].values(), record["ratio"])
    return "".join(f"{number:>12.2f}" for number in numbers) + f"{record['difference']:>12.1e}"


if __name__ == "__main__":
    main()
