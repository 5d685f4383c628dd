"""The spelled-out convolution against XLA's own with its own gradients, and what makes it fast."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.extend.core import jaxprs_in_params

from jaxad.nn import conv as module
from jaxad.nn.conv import conv, crop, reach

KERNELS = (1, 3, 5, 7)


def library(images, kernel):
    return lax.conv_general_dilated(images, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def with_gradients(function, images, kernel, cotangent):
    value, back = jax.vjp(function, images, kernel)
    return value, *back(cotangent)


def operands(rng, height, width, taps, batch=3, inner=2, outer=4):
    shapes = (batch, height, width, inner), (taps, taps, inner, outer), (batch, height, width, outer)
    return tuple(jnp.asarray(rng.standard_normal(shape, np.float32)) for shape in shapes)


def assert_close(got, expected):
    """Equal up to float32 rounding of sums of a few hundred terms of order one."""
    for g, e in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        assert g.shape == e.shape
        np.testing.assert_allclose(g, e, atol=1e-5 * max(1.0, float(jnp.abs(e).max())))


def oracle(images, kernel):
    """Cross-correlation tap by tap, in float64."""
    images, kernel = np.float64(images), np.float64(kernel)
    _, height, width, _ = images.shape
    radius = kernel.shape[0] // 2
    padded = np.pad(images, [(0, 0), (radius, radius), (radius, radius), (0, 0)])
    return sum(
        padded[:, row : row + height, column : column + width] @ kernel[row, column]
        for row in range(kernel.shape[0])
        for column in range(kernel.shape[1])
    )


@pytest.mark.parametrize(
    ("height", "width"), [(1, 1), (2, 2), (3, 3), (4, 4), (6, 10), (10, 6), (10, 10), (1, 10), (10, 2)]
)
def test_value_and_both_gradients_equal_the_librarys(rng, height, width):
    """Also where the kernel is larger than the image, in one direction or in both."""
    cases = {taps: operands(rng, height, width, taps) for taps in KERNELS}

    @jax.jit
    def run(cases):
        both = [partial(with_gradients, function) for function in (conv, library)]
        return [{taps: function(*case) for taps, case in cases.items()} for function in both]

    ours, theirs = run(cases)
    assert_close(ours, theirs)
    for taps, (images, kernel, _) in cases.items():
        np.testing.assert_allclose(ours[taps][0], oracle(images, kernel), atol=1e-4)


def test_the_same_inside_scan_and_switch(rng):
    """Where library gradients are slow: a run-time choice of kernel in a loop; one kernel is larger than the image."""
    images, _, cotangent = operands(rng, 6, 4, 1)
    kernels = [operands(rng, 6, 4, taps)[1] for taps in (3, 7)]

    @jax.jit
    def scanned(images, kernels, cotangent):
        def branch(kernel, images):
            value, to_images, to_kernel = with_gradients(conv, images, kernel, cotangent)
            return value, to_images, jnp.sum(to_kernel)

        def step(carry, choice):
            return carry, lax.switch(choice, [partial(branch, kernel) for kernel in kernels], carry)

        return lax.scan(step, images, jnp.arange(len(kernels)))[1]

    @jax.jit
    def expected(images, kernels, cotangent):
        results = [with_gradients(library, images, kernel, cotangent) for kernel in kernels]
        return [jnp.stack(parts) for parts in zip(*[(value, dx, jnp.sum(dw)) for value, dx, dw in results])]

    assert_close(scanned(images, kernels, cotangent), expected(images, kernels, cotangent))


def test_vmap_over_images_and_kernels_equals_the_librarys(rng):
    population = [jnp.stack(parts) for parts in zip(*(operands(rng, 6, 3, 5) for _ in range(3)))]
    ours, theirs = (jax.jit(jax.vmap(partial(with_gradients, f)))(*population) for f in (conv, library))
    assert_close(ours, theirs)


def convolutions(jaxpr):
    for equation in jaxpr.eqns:
        if equation.primitive.name == "conv_general_dilated":
            yield equation
        for inner in jaxprs_in_params(equation.params):
            yield from convolutions(inner)


@pytest.mark.parametrize("height", [3, 4, 28])
def test_every_convolution_is_canonical(rng, height):
    """One layout, no dilation, no grouping, and never a kernel larger than what it slides over: XLA's fast path."""
    images, kernel, cotangent = operands(rng, height, height, 7)
    found = list(convolutions(jax.make_jaxpr(partial(with_gradients, conv))(images, kernel, cotangent).jaxpr))
    assert len(found) == 3  # forward, to the images, to the kernel
    for equation in found:
        assert set(equation.params["dimension_numbers"]) == {(0, 3, 1, 2), (3, 2, 0, 1)}
        for name in ("window_strides", "lhs_dilation", "rhs_dilation"):
            assert equation.params[name] == (1, 1)
        assert equation.params["feature_group_count"] == equation.params["batch_group_count"] == 1
        images_aval, kernel_aval = (v.aval for v in equation.invars)
        assert kernel_aval.shape[0] <= images_aval.shape[1]


def test_a_single_pixel_and_a_single_tap_are_products(rng):
    for height, taps in ((1, 7), (6, 1)):
        jaxpr = jax.make_jaxpr(partial(with_gradients, conv))(*operands(rng, height, height, taps))
        assert not list(convolutions(jaxpr.jaxpr))


def test_crop_takes_the_middle():
    kernel = np.arange(7 * 7).reshape(7, 7)
    np.testing.assert_array_equal(crop(kernel, 3, 5), kernel[2:5, 1:6])
    np.testing.assert_array_equal(crop(kernel, *reach((1, 3))), kernel[3:4, 1:6])
    np.testing.assert_array_equal(crop(kernel, 9, 7), kernel)
    assert crop(kernel, 3, 3).base is not None  # a view: writing to it writes to the whole


def test_shapes_are_checked(rng):
    images, kernel, _ = operands(rng, 4, 4, 3)
    with pytest.raises(AssertionError):
        conv(images[0], kernel)
    with pytest.raises(AssertionError):
        conv(images[..., :1], kernel)


@pytest.mark.parametrize(("batch", "limit", "part"), [(12, None, 12), (12, 10_000, 12), (12, 300, 4), (7, 300, 1)])
def test_a_kernels_gradient_may_be_summed_in_parts(rng, monkeypatch, batch, limit, part):
    monkeypatch.setattr(module, "gradient_pixels", lambda: limit)
    assert module.part_of_batch(batch, 64) == part
    images = jnp.asarray(rng.standard_normal((batch, 8, 8, 3)), jnp.float32)
    gradient = jnp.asarray(rng.standard_normal((batch, 8, 8, 2)), jnp.float32)
    got = module.kernel_gradient(module.as_batch(images), module.as_kernel(gradient), (3, 3))
    padded = np.pad(images, [(0, 0), (1, 1), (1, 1), (0, 0)])
    for row, column in np.ndindex(3, 3):
        window = padded[:, row : row + 8, column : column + 8]
        expected = np.einsum("bhwi,bhwo->io", window, gradient)
        np.testing.assert_allclose(got[row, column], expected, rtol=1e-4, atol=1e-4)
