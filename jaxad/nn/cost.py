"""What an architecture costs: the sizes of its features, its parameters and its operations, without building it."""

from collections.abc import Sequence

import numpy as np

from jaxad.nn.architecture import Architecture

# Width of the vector the hypotheses see: global average pool of the last latent, then a linear map.
PROJECTION_DIM = 10


def feature_sizes(architecture: Architecture, image_shape: Sequence[int]) -> list[tuple[int, int, int]]:
    """Sizes (H, W, C) through the encoder: the image first, then the output of each layer (N + 1 entries).

    Convolutions keep the resolution; pooling divides it by its kernel and rounds up. Layer i of the decoder
    goes back from entry i to entry i - 1. Raises ValueError unless image_shape is three positive integers.
    """
    shape = tuple(image_shape)
    if len(shape) != 3 or not all(isinstance(size, int | np.integer) and size > 0 for size in shape):
        raise ValueError(f"image_shape is {shape}; give (height, width, channels), all positive integers")
    sizes = [tuple(int(size) for size in shape)]
    for layer in architecture.layers:
        height, width, _ = sizes[-1]
        sizes.append((-(-height // layer.pool_kernel), -(-width // layer.pool_kernel), layer.channels))
    return sizes


def parameter_count(architecture: Architecture, image_shape: Sequence[int]) -> int:
    """Trainable numbers of the stand-alone child: encoder, decoder and projection.

    Every layer has one bias per channel, the projection too; a layer that normalises also has a scale. (A bias of
    its own before a normalisation would be cancelled by it.)
    The parameters of the hypothesis itself (mixture, centres, radius) are not counted.
    """
    sizes = feature_sizes(architecture, image_shape)
    count = (sizes[-1][2] + 1) * PROJECTION_DIM
    for layer, (_, _, inner), (_, _, outer) in zip(architecture.layers, sizes, sizes[1:]):
        weights = layer.kernel**2 * inner * outer
        affine = 1 if layer.norm == "none" else 2
        count += 2 * weights + affine * (inner + outer)
    return count


def flops(architecture: Architecture, image_shape: Sequence[int]) -> int:
    """Floating-point operations of one image's forward pass: twice the multiply-adds of all linear maps.

    Counts the convolutions of encoder and decoder, borders as if full, and the projection; bias, pooling,
    normalisation, activation and upsampling are left out, as is usual.
    """
    sizes = feature_sizes(architecture, image_shape)
    multiply_adds = sizes[-1][2] * PROJECTION_DIM
    for layer, (height, width, before), (pooled_height, pooled_width, after) in zip(
        architecture.layers, sizes, sizes[1:]
    ):
        # The encoder convolves before it pools, the decoder before it upsamples.
        pixels = height * width + pooled_height * pooled_width
        multiply_adds += pixels * layer.kernel**2 * before * after
    return 2 * multiply_adds
