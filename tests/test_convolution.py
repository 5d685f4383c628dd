"""The dispatching convolution against `jax.lax`, and Flax's layer on top of it."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.extend.core import jaxprs_in_params

from jaxad.nn.convolution import NHWC, Conv, conv_general_dilated, conv_transpose

ONE, TWO = (1, 1), (2, 2)


def pads(*sides):
    return [(side, side) for side in sides]


# name: image [H, W], kernel [h, w], strides, padding, dilation of images, dilation of kernel
CANONICAL = {
    "one tap": ((5, 6), (1, 1), ONE, "SAME", ONE, ONE),
    "stride 1": ((5, 6), (3, 3), ONE, "SAME", ONE, ONE),
    "stride 1, padding in numbers": ((6, 6), (5, 3), ONE, pads(2, 1), ONE, ONE),
    "Fourier": ((12, 12), (9, 9), ONE, "SAME", ONE, ONE),
    "kernel larger than image": ((2, 3), (7, 7), ONE, "SAME", ONE, ONE),
    "halving": ((6, 8), (4, 4), TWO, pads(1, 1), ONE, ONE),
    "halving, SAME": ((6, 8), (4, 4), TWO, "SAME", ONE, ONE),
    "halving by 3x3": ((6, 8), (3, 3), TWO, pads(1, 1), ONE, ONE),
    "halving odd sides by 3x3": ((7, 5), (3, 3), TWO, pads(1, 1), ONE, ONE),
    "dilated": ((9, 8), (3, 3), ONE, "SAME", ONE, (4, 4)),
    "doubling": ((3, 5), (4, 4), ONE, pads(2, 2), TWO, ONE),
    "doubling patches": ((3, 5), (2, 2), ONE, pads(1, 1), TWO, ONE),
    "whole image": ((4, 4), (4, 4), ONE, "VALID", ONE, ONE),
    "whole image, any stride": ((2, 3), (2, 3), (3, 3), pads(0, 0), ONE, ONE),
}
OTHER = {
    "valid": ((6, 6), (3, 3), ONE, "VALID", ONE, ONE),
    "even kernel": ((6, 6), (4, 4), ONE, "SAME", ONE, ONE),
    "uneven padding": ((6, 6), (3, 3), TWO, "SAME", ONE, ONE),
    "odd sides halved by 4x4": ((7, 6), (4, 4), TWO, pads(1, 1), ONE, ONE),
    "stride 3": ((9, 9), (3, 3), (3, 3), "SAME", ONE, ONE),
    "unequal dilation": ((9, 9), (3, 3), ONE, "SAME", ONE, (1, 2)),
    "dilated and strided": ((9, 9), (3, 3), TWO, "SAME", ONE, TWO),
    "transposed 3x3": ((4, 4), (3, 3), ONE, pads(2, 2), TWO, ONE),
}


def operands(rng, size, taps):
    shapes = (3, *size, 2), (*taps, 2, 5)
    return tuple(jnp.asarray(rng.standard_normal(shape), jnp.float32) for shape in shapes)


def pull(function, images, kernel):
    value, back = jax.vjp(function, images, kernel)
    return value, *back(jnp.cos(jnp.arange(value.size, dtype=jnp.float32)).reshape(value.shape))


def assert_close(got, expected):
    for a, b in zip(got, expected, strict=True):
        assert a.shape == b.shape
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


def bound(function, strides, padding, up, apart):
    return lambda images, kernel: function(images, kernel, strides, padding, up, apart, NHWC)


@pytest.mark.parametrize("case", CANONICAL | OTHER)
def test_value_and_both_gradients_equal_the_librarys(rng, case):
    size, taps, *options = (CANONICAL | OTHER)[case]
    ours, theirs = (bound(function, *options) for function in (conv_general_dilated, lax.conv_general_dilated))
    assert_close(*jax.jit(lambda i, k: (pull(ours, i, k), pull(theirs, i, k)))(*operands(rng, size, taps)))


def convolutions(jaxpr):
    for equation in jaxpr.eqns:
        if equation.primitive.name == "conv_general_dilated":
            yield equation
        for inner in jaxprs_in_params(equation.params):
            yield from convolutions(inner)


@pytest.mark.parametrize("case", CANONICAL)
def test_what_has_a_canonical_form_gets_it_also_in_its_gradients(rng, case):
    size, taps, *options = CANONICAL[case]
    ours = bound(conv_general_dilated, *options)
    jaxpr = jax.make_jaxpr(lambda i, k: pull(ours, i, k))(*operands(rng, size, taps)).jaxpr
    for equation in convolutions(jaxpr):
        assert set(equation.params["dimension_numbers"]) == {(0, 3, 1, 2), (3, 2, 0, 1)}
        for name in ("window_strides", "lhs_dilation", "rhs_dilation"):
            assert equation.params[name] == (1, 1)


@pytest.mark.parametrize("options", [{"feature_group_count": 2}, {"precision": lax.Precision.HIGHEST}])
def test_groups_and_precision_are_the_librarys(rng, options):
    images, kernel = operands(rng, (6, 6), (3, 3))
    kernel = kernel[:, :, : 2 // options.get("feature_group_count", 1), :4]
    arguments = (images, kernel, ONE, "SAME", ONE, ONE, NHWC)
    expected = lax.conv_general_dilated(*arguments, **options)
    np.testing.assert_array_equal(conv_general_dilated(*arguments, **options), expected)


# image [H, W], kernel [h, w], strides, padding
DEPTHWISE = {
    f"{size[0]}x{size[1]}, {taps}x{taps}, stride {stride}, {name}": (size, (taps, taps), (stride, stride), padding)
    for size in ((8, 10), (7, 9))
    for taps in (3, 5)
    for stride in (1, 2)
    for name, padding in (("SAME", "SAME"), ("in numbers", [(1, 2), (0, 3)]))
} | {
    "another kernel and stride each way": ((7, 8), (3, 5), (2, 1), "SAME"),
    "VALID": ((6, 7), (4, 2), (1, 2), "VALID"),
    "cut off": ((8, 8), (3, 3), (1, 1), [(-1, 0), (1, -2)]),
}


def depthwise_operands(rng, size, taps, multiplier=1):
    shapes = (3, *size, 4), (*taps, 1, 4 * multiplier)
    return tuple(jnp.asarray(rng.standard_normal(shape), jnp.float32) for shape in shapes)


def depthwise(function, strides, padding, up=ONE, apart=ONE):
    return lambda images, kernel: function(
        images, kernel, strides, padding, up, apart, dimension_numbers=NHWC, feature_group_count=images.shape[3]
    )


@pytest.mark.parametrize("case", DEPTHWISE)
def test_a_depthwise_convolution_and_both_gradients_equal_the_librarys(rng, case):
    size, taps, *options = DEPTHWISE[case]
    ours, theirs = (depthwise(function, *options) for function in (conv_general_dilated, lax.conv_general_dilated))
    run = jax.jit(lambda i, k: (pull(ours, i, k), pull(theirs, i, k)))
    assert_close(*run(*depthwise_operands(rng, size, taps)))


@pytest.mark.parametrize("on_cpu", [True, False])
def test_on_cpu_alone_a_depthwise_convolution_is_a_sum_also_in_its_gradients(rng, monkeypatch, on_cpu):
    monkeypatch.setattr(jax, "default_backend", lambda: "cpu" if on_cpu else "gpu")
    ours = depthwise(conv_general_dilated, TWO, "SAME")
    jaxpr = jax.make_jaxpr(lambda i, k: pull(ours, i, k))(*depthwise_operands(rng, (8, 9), (5, 5))).jaxpr
    assert len(list(convolutions(jaxpr))) == (0 if on_cpu else 3)


@pytest.mark.parametrize(
    ("multiplier", "dilations"),
    [(2, (ONE, ONE)), (1, (ONE, TWO)), (1, (TWO, ONE))],
    ids=["two outputs a channel", "kernel dilated", "images dilated"],
)
def test_other_convolutions_of_each_channel_are_the_librarys(rng, multiplier, dilations):
    images, kernel = depthwise_operands(rng, (8, 9), (3, 3), multiplier)
    ours, theirs = (
        depthwise(function, ONE, pads(1, 1), *dilations)
        for function in (conv_general_dilated, lax.conv_general_dilated)
    )
    assert len(list(convolutions(jax.make_jaxpr(ours)(images, kernel).jaxpr))) == 1
    np.testing.assert_array_equal(ours(images, kernel), theirs(images, kernel))


def test_a_depthwise_convolution_of_bfloat16_returns_float32(rng):
    images, kernel = depthwise_operands(rng, (8, 9), (3, 3))
    function = depthwise(conv_general_dilated, ONE, "SAME")
    near, exact = function(images.astype(jnp.bfloat16), kernel.astype(jnp.bfloat16)), function(images, kernel)
    assert near.dtype == exact.dtype == jnp.float32
    np.testing.assert_allclose(near, exact, rtol=0.05, atol=0.3)


def test_other_layouts_are_the_librarys(rng):
    images, kernel = operands(rng, (6, 6), (3, 3))
    arguments = (images.transpose(0, 3, 1, 2), kernel.transpose(3, 2, 0, 1), ONE, "SAME")
    np.testing.assert_array_equal(conv_general_dilated(*arguments), lax.conv_general_dilated(*arguments))


@pytest.mark.parametrize("case", ["one tap", "stride 1", "halving", "doubling", "whole image", "valid"])
def test_it_computes_in_the_type_of_the_kernel_and_returns_float32(rng, case):
    size, taps, *options = (CANONICAL | OTHER)[case]
    function = bound(conv_general_dilated, *options)
    images, kernel = operands(rng, size, taps)
    near = function(images.astype(jnp.bfloat16), kernel.astype(jnp.bfloat16))
    exact = function(images, kernel)
    assert near.dtype == exact.dtype == jnp.float32
    np.testing.assert_allclose(near, exact, rtol=0.05, atol=0.3)
    assert not np.array_equal(near, exact)


LAYERS = {
    "SAME": ({"kernel_size": (3, 3)}, (2, 5, 6, 3)),
    "stride": ({"kernel_size": (4, 4), "strides": 2, "padding": 1, "use_bias": False}, (2, 6, 8, 3)),
    "dilation": ({"kernel_size": (3, 3), "kernel_dilation": 2}, (2, 6, 8, 3)),
    "groups": ({"kernel_size": (3, 3), "feature_group_count": 3}, (2, 6, 8, 3)),
    "whole": ({"kernel_size": (4, 4), "padding": "VALID"}, (2, 4, 4, 3)),
    "single image": ({"kernel_size": (3, 3)}, (5, 6, 3)),
    "two batch axes": ({"kernel_size": (3, 3)}, (2, 2, 5, 6, 3)),
}


@pytest.mark.parametrize("case", LAYERS)
def test_the_layer_has_the_variables_and_outputs_of_flaxs(rng, case):
    options, shape = LAYERS[case]
    images = jnp.asarray(rng.standard_normal(shape), jnp.float32)
    ours, theirs = Conv(6, **options), nn.Conv(6, **options)
    variables = theirs.init(jax.random.key(0), images)
    jax.tree.map(np.testing.assert_array_equal, ours.init(jax.random.key(0), images), variables)

    def gradients(module):
        return jax.jit(jax.value_and_grad(lambda v, x: jnp.sum(jnp.sin(module.apply(v, x))), (0, 1)))

    for got, expected in zip(*(jax.tree.leaves(gradients(module)(variables, images)) for module in (ours, theirs))):
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)


def test_in_bfloat16_the_bias_and_the_result_are_float32(rng):
    images = jnp.asarray(rng.standard_normal((2, 5, 6, 3)), jnp.float32)
    layer = Conv(6, (3, 3), dtype="bfloat16")
    variables = layer.init(jax.random.key(0), images)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    bias = jnp.full(6, 1 + 2**-20)  # 1 in bfloat16
    out = layer.apply({"params": {**variables["params"], "bias": bias}}, jnp.zeros_like(images))
    np.testing.assert_array_equal(out, np.broadcast_to(bias, out.shape))
    near = layer.apply(variables, images)
    exact = layer.clone(dtype=None).apply(variables, images)
    assert near.dtype == jnp.float32
    assert not np.array_equal(near, exact)
    np.testing.assert_allclose(near, exact, rtol=0.05, atol=0.1)


@pytest.mark.parametrize(("size", "padding"), [(4, 1), (2, 0)])
def test_a_transposed_convolution_is_pytorchs_with_both_sides_of_the_kernel_reversed(rng, size, padding):
    torch = pytest.importorskip("torch")
    images = rng.standard_normal((2, 3, 5, 4)).astype(np.float32)
    kernel = rng.standard_normal((size, size, 4, 6)).astype(np.float32)
    bias = rng.standard_normal(6).astype(np.float32)
    theirs = torch.nn.functional.conv_transpose2d(
        torch.tensor(images.transpose(0, 3, 1, 2)), torch.tensor(kernel.transpose(2, 3, 0, 1)),
        torch.tensor(bias), stride=2, padding=padding,
    )  # fmt: skip
    layer = conv_transpose(6, size)
    assert jax.tree.map(np.shape, layer.init(jax.random.key(0), images)) == {
        "params": {"kernel": kernel.shape, "bias": bias.shape}
    }
    got = layer.apply({"params": {"kernel": kernel[::-1, ::-1], "bias": bias}}, images)
    np.testing.assert_allclose(got, theirs.numpy().transpose(0, 2, 3, 1), rtol=1e-4, atol=1e-4)


def test_other_sizes_of_a_transposed_convolution_are_refused():
    with pytest.raises(ValueError, match="size is 3; give 2"):
        conv_transpose(6, 3)
