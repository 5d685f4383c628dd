"""What an architecture costs: the sizes of its features, its parameters and its operations, without building it."""

from collections.abc import Mapping, Sequence

import numpy as np

from jaxad.nn.actions import EXTRA_ACTIONS
from jaxad.nn.architecture import Architecture

# Width of the vector the hypotheses see: global average pool of the last latent, then a linear map.
PROJECTION_DIM = 10

ImageShape = Sequence[int] | Mapping[str, Sequence[int]]
"""(height, width, channels) of what a child sees, or that of every input by its name."""


def feature_sizes(architecture: Architecture, image_shape: ImageShape) -> list[tuple[int, int, int]]:
    """Sizes (H, W, C) through the encoder: the image first, then the output of each layer (N + 1 entries).

    Convolutions keep the resolution; pooling divides it by its kernel and rounds up. Layer i of the decoder
    goes back from entry i to entry i - 1. Raises ValueError unless image_shape is three positive integers, or has them
    for the architecture's input.
    """
    if isinstance(image_shape, Mapping):
        if architecture.input not in image_shape:
            raise ValueError(
                f"image_shape is of {', '.join(image_shape)}; give that of the input {architecture.input}, too"
            )
        image_shape = image_shape[architecture.input]
    shape = tuple(image_shape)
    if len(shape) != 3 or not all(isinstance(size, int | np.integer) and size > 0 for size in shape):
        raise ValueError(f"image_shape is {shape}; give (height, width, channels), all positive integers")
    sizes = [tuple(int(size) for size in shape)]
    for layer in architecture.layers:
        height, width, _ = sizes[-1]
        sizes.append((-(-height // layer.pool_kernel), -(-width // layer.pool_kernel), layer.channels))
    return sizes


def parameter_count(architecture: Architecture, image_shape: ImageShape) -> int:
    """Trainable numbers of the stand-alone child: encoder, decoder and projection.

    Every layer has one bias per channel, the projection too; a layer that normalises also has a scale, and one that
    takes a further action may have vectors of it. (A bias of its own before a normalisation would be cancelled by it.)
    The parameters of the hypothesis itself (mixture, centres, radius) are not counted.
    """
    sizes = feature_sizes(architecture, image_shape)
    count = (sizes[-1][2] + 1) * PROJECTION_DIM
    for layer, (_, _, inner), (_, _, outer) in zip(architecture.layers, sizes, sizes[1:]):
        weights = layer.kernel**2 * inner * outer
        count += 2 * weights + len(layer.vectors) * (inner + outer)
    return count


def flops(architecture: Architecture, image_shape: ImageShape) -> int:
    """Floating-point operations of one image's forward pass: twice the multiply-adds of all linear maps.

    What makes an input that is not the image itself is not counted.

    Counts the convolutions of encoder and decoder, borders as if full, and the projection; bias, pooling,
    normalisation, activation and upsampling are left out, as is usual. Further actions count for what they say.
    """
    sizes = feature_sizes(architecture, image_shape)
    multiply_adds = sizes[-1][2] * PROJECTION_DIM
    for layer, (height, width, before), (pooled_height, pooled_width, after) in zip(
        architecture.layers, sizes, sizes[1:]
    ):
        # The encoder convolves before it pools, the decoder before it upsamples.
        pixels = height * width + pooled_height * pooled_width
        multiply_adds += pixels * layer.kernel**2 * before * after
    return 2 * multiply_adds + _extra_flops(architecture, sizes)


def _extra_flops(architecture: Architecture, sizes: Sequence[tuple[int, int, int]]) -> int:
    """Operations of the actions beyond the paper's."""
    count = 0
    for name, choice in architecture.extra:
        action = EXTRA_ACTIONS[name]
        count += action.flops(choice, *(sizes[-1] if action.after == "latent" else sizes[0]))
    for layer, received, returned in zip(architecture.layers, sizes, sizes[1:]):
        for name, choice in layer.extra:
            action = EXTRA_ACTIONS[name]
            # The encoder acts on what it makes of `received`, the decoder on its way back there.
            before, after = (*received[:2], returned[2]), (*returned[:2], received[2])
            encoded = before if action.after == "conv" else returned
            decoded = received if action.after == "pool" else after
            count += action.flops(choice, *encoded) + action.flops(choice, *decoded)
    return count
