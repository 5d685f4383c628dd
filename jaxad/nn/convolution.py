"""Convolutions of Flax networks in the forms that are fast on every backend.

`Conv` is `flax.linen.Conv` with another function beneath it. That function, `conv_general_dilated`, recognises the
convolutions for which this package has a canonical form (`jaxad.nn.conv`, `jaxad.nn.resampling`) and leaves all others
to JAX. Values and gradients are those of JAX up to rounding.
"""

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype
from jax import lax

from jaxad._utils.compile import depthwise_by_shifts, is_plain
from jaxad.nn.conv import conv
from jaxad.nn.depthwise import depthwise_conv
from jaxad.nn.layers import activate
from jaxad.nn.resampling import dilated_conv, doubling_conv, half_conv3, halving_conv, patch_doubling
from jaxad.types import Array

NHWC = lax.ConvDimensionNumbers((0, 3, 1, 2), (3, 2, 0, 1), (0, 3, 1, 2))  # images NHWC, kernel HWIO
Pair = tuple[int, int]
Padding = str | Sequence[Pair]


def conv_general_dilated(
    lhs: Array,
    rhs: Array,
    window_strides: Sequence[int],
    padding: Padding,
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: Any = None,
    feature_group_count: int = 1,
    **options: Any,
) -> Array:
    """`jax.lax.conv_general_dilated` in the fastest form that is known for its arguments.

    The forms are those of images [B, H, W, I] and kernels [h, w, I, O]:

        kernel as large as the unpadded images                      a matrix product
        stride 1, odd kernel, output as large as the input          `conv`, with kernel dilation `dilated_conv`
        stride 2, padding 1, 4x4 kernel (even sides) or 3x3         `halving_conv`, `half_conv3`
        input dilation 2, 4x4 kernel, padding 2                     `doubling_conv`, a transposed convolution
        input dilation 2, 2x2 kernel, padding 1                     `patch_doubling`, a transposed convolution

    and, on CPU, a kernel [h, w, 1, C] for each of C channels    `depthwise_conv`

    Anything else is handed to JAX, as is whatever has an option such as `precision`.

    Args:
      lhs: images; rhs: kernel; the others as JAX has them.

    Returns:
      What JAX returns, up to rounding, with the same gradients; but float32 for a kernel of a shorter number type, in
      which the products are computed.

    Example:
      >>> images, kernel = jnp.ones((1, 8, 8, 3)), jnp.ones((4, 4, 3, 5))
      >>> conv_general_dilated(images, kernel, (2, 2), [(1, 1), (1, 1)], dimension_numbers=NHWC).shape
      (1, 4, 4, 5)
    """
    options = {name: value for name, value in options.items() if value is not None}
    form = None
    if not options and lhs.ndim == 4:
        numbers = lax.conv_dimension_numbers(lhs.shape, rhs.shape, dimension_numbers)
        strides, up, apart = (tuple(x or (1, 1)) for x in (window_strides, lhs_dilation, rhs_dilation))
        if numbers == NHWC and feature_group_count == 1:
            form = _canonical(lhs.shape[1:3], rhs.shape[:2], strides, padding, up, apart)
        elif numbers == NHWC and feature_group_count == lhs.shape[3] == rhs.shape[3] and up == apart == (1, 1):
            form = _depthwise(lhs.shape[1:3], rhs.shape[:2], strides, padding) if depthwise_by_shifts() else None
    if form is not None:
        return form(lhs, rhs).astype(jnp.promote_types(rhs.dtype, jnp.float32))
    result = lax.conv_general_dilated(
        lhs,
        rhs,
        window_strides,
        padding,
        lhs_dilation,
        rhs_dilation,
        dimension_numbers,
        feature_group_count,
        **options,
    )
    return result.astype(jnp.promote_types(result.dtype, jnp.float32))


def _canonical(
    size: Pair, taps: Pair, strides: Pair, padding: Padding, up: Pair, apart: Pair
) -> Callable[[Array, Array], Array] | None:
    """The form of a convolution of (images, kernel), or None.

    Args:
      size: height and width of the images; taps: those of the kernel.
      up: dilation of the images; apart: of the kernel.
    """
    if isinstance(padding, str):
        if up != (1, 1):
            return None  # JAX has no meaning for it
        reach = [1 + (tap - 1) * space for tap, space in zip(taps, apart, strict=True)]
        padding = lax.padtype_to_pads(size, reach, strides, padding)
    padding = tuple(tuple(sides) for sides in padding)
    if padding == ((0, 0), (0, 0)) and up == apart == (1, 1) and taps == size:
        return _product
    if strides == up == (1, 1) and apart[0] == apart[1] and all(tap % 2 for tap in taps):
        spacing = apart[0]
        if padding == tuple((tap // 2 * spacing,) * 2 for tap in taps):
            return conv if spacing == 1 else lambda images, kernel: dilated_conv(images, kernel, spacing)
    if apart != (1, 1):
        return None
    match strides, up, taps, padding:
        case (2, 2), (1, 1), (4, 4), ((1, 1), (1, 1)) if size[0] % 2 == size[1] % 2 == 0:
            return halving_conv
        case (2, 2), (1, 1), (3, 3), ((1, 1), (1, 1)):
            return half_conv3
        # A transposed convolution adds multiples of its kernel, where JAX correlates with it: one is the other turned.
        case (1, 1), (2, 2), (4, 4), ((2, 2), (2, 2)):
            return lambda images, kernel: doubling_conv(images, kernel[::-1, ::-1])
        case (1, 1), (2, 2), (2, 2), ((1, 1), (1, 1)):
            return lambda images, kernel: patch_doubling(images, kernel[::-1, ::-1])
    return None


def _depthwise(size: Pair, taps: Pair, strides: Pair, padding: Padding) -> Callable[[Array, Array], Array]:
    """The form of a convolution of each channel by itself."""
    sides = lax.padtype_to_pads(size, taps, strides, padding) if isinstance(padding, str) else padding
    return lambda images, kernel: depthwise_conv(images, kernel, strides, sides)


def _product(images: Array, kernel: Array) -> Array:
    """All pixels of images [B, H, W, I] times a kernel [H, W, I, O]: [B, 1, 1, O]."""
    products = images.reshape(len(images), -1) @ kernel.reshape(-1, kernel.shape[-1])
    return products.reshape(len(images), 1, 1, -1)


def _compute_in(inputs: Array, kernel: Array, bias: Array | None, dtype: Any = None) -> list[Array | None]:
    """Flax's promotion of number types, of images and kernel alone."""
    return [*promote_dtype(inputs, kernel, dtype=dtype), bias]


class Conv(nn.Conv):
    """`flax.linen.Conv`, with its arguments and variables, through `conv_general_dilated`.

    With `dtype="bfloat16"` products are computed in bfloat16; bias and result are float32.

    Example:
      >>> import jax
      >>> half = Conv(8, (4, 4), strides=2, padding=1)
      >>> jax.eval_shape(half.init, jax.random.key(0), jnp.ones((1, 16, 16, 3)))["params"]["kernel"].shape
      (4, 4, 3, 8)
    """

    conv_general_dilated: Any = conv_general_dilated
    promote_dtype: Any = _compute_in

    @nn.compact
    def __call__(self, inputs: Array) -> Array:
        """Convolve inputs [..., H, W, I] -> [..., h, w, features]."""
        if not self.use_bias or is_plain():
            return super().__call__(inputs)
        # Flax's gradient of a bias is a sum over leading axes, with which an iteration of AMA takes 3 % longer on CPU.
        bare = self.clone(use_bias=False, parent=self)
        nn.share_scope(self, bare)
        images = bare(inputs)
        bias = self.param("bias", self.bias_init, (self.features,), self.param_dtype)
        return add_bias(images, bias)


def add_bias(images: Array, bias: Array) -> Array:
    """Add a bias [C] to images [..., C]: the gradient of the bias is a sum that is fast on CPU."""
    return activate(images.reshape(1, 1, -1, bias.size), "linear", None, bias).reshape(images.shape)


def conv_transpose(features: int, size: int, **options: Any) -> Conv:
    """A transposed convolution of stride 2 that doubles a side: kernel size 2 without padding, or 4 with padding 1.

    It is `Conv` on images dilated by 2. `flax.linen.ConvTranspose` always calls JAX's own convolution, whose gradients
    are slow inside compiled loops. A kernel is stored as `Conv` stores it; PyTorch's has both sides reversed.

    Args:
      features: channels of the result.
      size: 2 or 4, sides of the kernel.
      options: those of `Conv`, such as `use_bias`, `dtype`, `name`.

    Raises:
      ValueError: another size.

    Example:
      >>> import jax
      >>> double = conv_transpose(8, 4)
      >>> double.init_with_output(jax.random.key(0), jnp.ones((1, 5, 6, 3)))[0].shape
      (1, 10, 12, 8)
    """
    if size not in (2, 4):
        raise ValueError(f"size is {size}; give 2, or 4 for patches that overlap")
    return Conv(features, (size, size), padding=size // 2, input_dilation=2, **options)
