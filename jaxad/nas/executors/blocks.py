"""Cutting a child's parameters into channel blocks, and putting them together again. Host side, in NumPy."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from jaxad.nn.architecture import Architecture
from jaxad.nn.conv import crop, reach
from jaxad.nn.cost import feature_sizes
from jaxad.types import Params

# Of blocks. With 128 beside them convolutions are a little faster, and there are many more programs to compile.
WIDTHS = (64, 16)


def block_widths(channels: int) -> tuple[int, ...]:
    """How channels go together: as few blocks as hold them, the last one padded."""
    rest, widths = -(-channels // WIDTHS[-1]) * WIDTHS[-1], []
    for width in WIDTHS:
        widths += [width] * (rest // width)
        rest %= width
    return tuple(widths)


class Layout:
    """The blocks of one architecture. Image channels are one block of their own width; all others are padded.

    A split tree has the structure of the parameters, with a grid (list of lists) for every kernel and a list for
    every vector. Kernels are cropped to the taps that can meet the image at their layer's resolution.
    """

    def __init__(self, architecture: Architecture, image_shape: Sequence[int]) -> None:
        sizes = feature_sizes(architecture, image_shape)
        channels = [channels for _, _, channels in sizes]
        widths = [(channels[0],)] + [block_widths(count) for count in channels[1:]]
        self._channels, self._widths = channels, widths
        self._reach = [reach(size[:2]) for size in sizes]

    def split(self, params: Params) -> Params:
        """Parameters as zero-padded blocks; views or copies of the originals."""
        layers = range(len(params["encoder"]))
        return {
            "encoder": [self._split_layer(params["encoder"][i], i, i + 1, self._reach[i]) for i in layers],
            "decoder": [self._split_layer(params["decoder"][i], i + 1, i, self._reach[i + 1]) for i in layers],
            "projection": {
                "kernel": _split(np.asarray(params["projection"]["kernel"]), 0, self._widths[-1]),
                "bias": np.asarray(params["projection"]["bias"]),
            },
        }

    def join(self, blocks: Params, params: Params) -> Params:
        """The inverse of `split`; taps that were cropped are those of `params`."""
        layers = range(len(blocks["encoder"]))
        blocks = jax.tree.map(np.asarray, jax.device_get(blocks))

        def layer(role: str, index: int, outer: int) -> Params:
            joined, original = {}, params[role][index]
            for name, value in blocks[role][index].items():
                if name == "kernel":
                    rows = [np.concatenate(row, axis=3)[..., : original[name].shape[3]] for row in value]
                    kernel = np.concatenate(rows, axis=2)[:, :, : original[name].shape[2]]
                    joined[name] = np.array(original[name])
                    crop(joined[name], *kernel.shape[:2])[...] = kernel
                else:
                    joined[name] = np.concatenate(value)[: self._channels[outer]]
            return joined

        return {
            "encoder": [layer("encoder", i, i + 1) for i in layers],
            "decoder": [layer("decoder", i, i) for i in layers],
            "projection": {
                "kernel": np.concatenate(blocks["projection"]["kernel"])[: self._channels[-1]],
                "bias": blocks["projection"]["bias"],
            },
        }

    def masks(self, position: int) -> list[np.ndarray]:
        """For each block of activation `position` (0 = image): 1 for true channels, 0 for padding."""
        edges = np.cumsum((0, *self._widths[position]))
        counts = self._channels[position] - edges[:-1]
        return [(np.arange(width) < count).astype(np.float32) for count, width in zip(counts, self._widths[position])]

    def _split_layer(self, params: Params, inner: int, outer: int, size: tuple[int, int]) -> Params:
        split = {name: _split(np.asarray(params[name]), 0, self._widths[outer]) for name in params if name != "kernel"}
        rows = _split(crop(np.asarray(params["kernel"]), *size), 2, self._widths[inner])
        return split | {"kernel": [_split(row, 3, self._widths[outer]) for row in rows]}


def _split(array: np.ndarray, axis: int, widths: Sequence[int]) -> list[Any]:
    blocks = []
    for start, width in zip(np.cumsum((0, *widths)), widths):
        block = array[(slice(None),) * axis + (slice(start, start + width),)]
        padding = [(0, 0)] * array.ndim
        padding[axis] = (0, width - block.shape[axis])
        blocks.append(np.pad(block, padding) if padding[axis][1] else block)
    return blocks
