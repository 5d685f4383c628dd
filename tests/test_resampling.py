"""Convolutions that halve and double, against XLA's and PyTorch's own, with gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxad.nn.resampling import doubling_conv, halving_conv, patch_doubling

NUMBERS = ("NHWC", "HWIO", "NHWC")


def library_half(images, kernel):
    return lax.conv_general_dilated(images, kernel, (2, 2), [(1, 1), (1, 1)], dimension_numbers=NUMBERS)


def library_double(images, kernel):
    """`lax.conv_transpose` correlates with the kernel as it is; the gradient of a convolution turns it around."""
    turned = kernel[::-1, ::-1]
    return lax.conv_transpose(images, turned, (2, 2), [(2, 2), (2, 2)], dimension_numbers=NUMBERS)


def library_patch(images, kernel):
    return lax.conv_transpose(images, kernel[::-1, ::-1], (2, 2), "VALID", dimension_numbers=NUMBERS)


def pull(function, images, kernel):
    value, back = jax.vjp(function, images, kernel)
    return value, *back(jnp.cos(jnp.arange(value.size, dtype=jnp.float32)).reshape(value.shape))


CASES = {"half": (halving_conv, library_half, 4), "double": (doubling_conv, library_double, 4)}
CASES |= {"patch": (patch_doubling, library_patch, 2)}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("shape", [(2, 6, 8, 3), (3, 4, 4, 1)])
def test_value_and_gradients_equal_the_librarys(rng, case, shape):
    ours, theirs, size = CASES[case]
    images = jnp.asarray(rng.standard_normal(shape), jnp.float32)
    kernel = jnp.asarray(rng.standard_normal((size, size, shape[3], 5)), jnp.float32)
    got, expected = jax.jit(lambda i, k: (pull(ours, i, k), pull(theirs, i, k)))(images, kernel)
    for a, b in zip(got, expected, strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


def test_doubling_is_the_adjoint_of_halving(rng):
    """<half(x), y> = <x, double(y)> with the kernel's channels swapped."""
    x, y = rng.standard_normal((2, 6, 10, 3)), rng.standard_normal((2, 3, 5, 4))
    kernel = jnp.asarray(rng.standard_normal((4, 4, 3, 4)), jnp.float32)
    half, double = jax.jit(lambda x, y: (halving_conv(x, kernel), doubling_conv(y, kernel.swapaxes(2, 3))))(
        jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.float32)
    )
    np.testing.assert_allclose(np.vdot(half, y), np.vdot(x, double), rtol=1e-4)


def test_doubling_equals_pytorchs(rng):
    torch = pytest.importorskip("torch")
    for ours, size, padding in ((doubling_conv, 4, 1), (patch_doubling, 2, 0)):
        images = rng.standard_normal((2, 3, 5, 4)).astype(np.float32)
        kernel = rng.standard_normal((size, size, 4, 6)).astype(np.float32)
        layer = torch.nn.functional.conv_transpose2d
        theirs = layer(
            torch.tensor(images.transpose(0, 3, 1, 2)), torch.tensor(kernel.transpose(2, 3, 0, 1)),
            stride=2, padding=padding,
        )  # fmt: skip
        got = jax.jit(ours)(images, kernel)
        np.testing.assert_allclose(got, theirs.numpy().transpose(0, 2, 3, 1), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("case", CASES)
def test_they_compute_in_the_type_of_the_kernel_and_return_float32(rng, case):
    function, _, size = CASES[case]
    images = jnp.asarray(rng.standard_normal((2, 4, 4, 3)), jnp.float32)
    kernel = jnp.asarray(rng.standard_normal((size, size, 3, 2)), jnp.float32)
    exact, near = jax.jit(lambda k: (function(images, k), function(images, k.astype(jnp.bfloat16))))(kernel)
    assert near.dtype == jnp.float32
    np.testing.assert_allclose(near, exact, rtol=0.05, atol=0.2)
    assert not np.array_equal(near, exact)
