"""The networks of neural batch sampling: sizes of the thesis's tables, against library convolutions, who sees whom."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxad.methods.nbs import networks as nets

NUMBERS = ("NHWC", "HWIO", "NHWC")


def shapes(tree):
    return jax.tree.map(lambda leaf: leaf.shape, tree)


def kernels(layers):
    return [layer["kernel"].shape for layer in layers]


# ---- Tables 4.1 to 4.3 -----------------------------------------------------------------------------------------


def test_the_sampler_is_that_of_table_4_1():
    params = jax.eval_shape(lambda key: nets.init_sampler(key, (128, 128, 5), 9), jax.random.key(0))
    assert kernels(params["convs"]) == [(3, 3, *io) for io in [(5, 16), (16, 32), (32, 32), (32, 64), (64, 64)]]
    assert params["dense1"]["kernel"].shape == (1024, 256)
    assert params["dense2"]["kernel"].shape == (256, 9)
    windows = jax.ShapeDtypeStruct((2, 128, 128, 5), jnp.float32)
    assert jax.eval_shape(nets.act, params, windows).shape == (2, 9)


@pytest.mark.parametrize("code", [200, 500])
def test_the_autoencoder_is_that_of_table_4_2(code):
    params = jax.eval_shape(lambda key: nets.init_autoencoder(key, (64, 64, 3), code), jax.random.key(0))
    assert kernels(params["encoder"]) == [
        (4, 4, 3, 64), (3, 3, 64, 64), (4, 4, 64, 128), (3, 3, 128, 128), (4, 4, 128, 256), (3, 3, 256, 128),
        (3, 3, 128, 64),
    ]  # fmt: skip
    assert params["code"]["kernel"].shape == (8, 8, 64, code)
    assert params["spread"]["kernel"].shape == (8, 8, code, 64)
    assert kernels(params["decoder"]) == [
        (3, 3, 64, 128), (3, 3, 128, 256), (4, 4, 512, 256), (3, 3, 256, 128), (4, 4, 128, 128), (3, 3, 128, 64),
    ]  # fmt: skip
    assert params["last"]["kernel"].shape == (4, 4, 64, 3)
    patches = jax.ShapeDtypeStruct((2, 64, 64, 3), jnp.float32)
    assert jax.eval_shape(nets.reconstruct, params, patches).shape == (2, 64, 64, 3)


@pytest.mark.parametrize("multiplier", [1, 2])
def test_the_predictor_is_that_of_table_4_3(multiplier):
    params = jax.eval_shape(lambda key: nets.init_predictor(key, 10, multiplier), jax.random.key(0))
    widths = [10, *(multiplier * width for width in (32, 16, 8, 4))]
    assert kernels(params["convs"]) == [(3, 3, a, b) for a, b in itertools.pairwise(widths)]
    assert params["last"]["kernel"].shape == (1, 1, 4 * multiplier, 1)
    profiles = jax.ShapeDtypeStruct((2, 30, 21, 10), jnp.float32)
    assert jax.eval_shape(nets.predict, params, profiles).logits.shape == (2, 30, 21)
    assert shapes(nets.init_moments(params)) == shapes(jax.eval_shape(nets.predict, params, profiles).moments)


@pytest.mark.parametrize(("side", "window"), [(8, 16), (16, 32), (24, 40)])
def test_other_sizes_and_widths(side, window):
    def through(key, patches, windows):
        one, other = jax.random.split(key)
        autoencoder = nets.init_autoencoder(one, patches.shape[1:], 7, 0.1)
        sampler = nets.init_sampler(other, windows.shape[1:], 9, 0.1)
        return nets.reconstruct(autoencoder, patches), nets.act(sampler, windows)

    patches, windows = jnp.zeros((2, side, side, 1)), jnp.zeros((3, window, window, 3))
    rebuilt, logits = jax.eval_shape(through, jax.random.key(0), patches, windows)
    assert rebuilt.shape == patches.shape
    assert logits.shape == (3, 9)


@pytest.mark.parametrize("shape", [(12, 12, 3), (16, 8, 1), (20, 20, 1)])
def test_other_patches_are_refused(shape):
    with pytest.raises(ValueError, match="squares of a multiple of 8"):
        nets.init_autoencoder(jax.random.key(0), shape, 5)


# ---- convolutions, values and gradients ------------------------------------------------------------------------


def library(kind, images, kernel):
    if kind == "half":
        return lax.conv_general_dilated(images, kernel, (2, 2), [(1, 1), (1, 1)], dimension_numbers=NUMBERS)
    if kind == "double":
        # Transposed: the input spread out by 2, the kernel turned round, padding kernel - 1 - padding.
        return lax.conv_general_dilated(
            images, kernel[::-1, ::-1], (1, 1), [(2, 2), (2, 2)], lhs_dilation=(2, 2), dimension_numbers=NUMBERS
        )
    return lax.conv_general_dilated(
        images, kernel, (1, 1), [(kind, kind)] * 2, rhs_dilation=(kind, kind), dimension_numbers=NUMBERS
    )


def ours(kind, images, kernel):
    return nets.half_conv3(images, kernel) if kind == "half" else nets.dilated_conv(images, kernel, kind)


@pytest.mark.parametrize(
    ("kind", "shape"),
    [("half", (6, 8)), ("half", (7, 5)), (1, (5, 6)), (2, (8, 6)), (4, (9, 10)), (8, (11, 7))],
)
def test_strides_and_dilations_equal_the_librarys_with_gradients(kind, shape, rng):
    images = jnp.asarray(rng.standard_normal((2, *shape, 3)), jnp.float32)
    kernel = jnp.asarray(rng.standard_normal((3, 3, 3, 5)), jnp.float32)

    def pull(function):
        value, back = jax.vjp(lambda images, kernel: function(kind, images, kernel), images, kernel)
        return value, *back(jnp.cos(jnp.arange(value.size, dtype=jnp.float32)).reshape(value.shape))

    for got, expected in zip(jax.jit(lambda: pull(ours))(), jax.jit(lambda: pull(library))()):
        assert got.shape == expected.shape
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)


# ---- what they compute -----------------------------------------------------------------------------------------


def standard(x, axes):
    mean, variance = (f(x, axes, keepdims=True) for f in (jnp.mean, jnp.var))
    return (x - mean) / jnp.sqrt(variance + 1e-5)


def test_the_autoencoder_equals_a_plain_restatement(rng):
    params = nets.init_autoencoder(jax.random.key(0), (16, 16, 2), 6, 0.06)
    params = jax.tree.map(lambda leaf: leaf + 0.1 * rng.standard_normal(leaf.shape).astype(np.float32), params)
    patches = jnp.asarray(rng.random((3, 16, 16, 2)), jnp.float32)

    def plain(params, x):
        def layer(x, p):
            x = standard(x, (0, 1, 2)) * p["scale"][None, None, None] + p["offset"][None, None, None]
            return jnp.where(x > 0, x, 0.2 * x)

        def convolve(x, kernel, transposed):
            if kernel.shape[0] == 3:
                return library(1, x, kernel)
            if transposed:
                return library("double", x, kernel)
            return lax.conv_general_dilated(x, kernel, (2, 2), [(1, 1), (1, 1)], dimension_numbers=NUMBERS)

        outputs = []
        for p in params["encoder"]:
            x = layer(convolve(x, p["kernel"], False), p)
            outputs.append(x)
        code = jnp.einsum("bijc,ijck->bk", x, params["code"]["kernel"]) + params["code"]["bias"][None]
        x = layer(jnp.einsum("bk,ijkc->bijc", code, params["spread"]["kernel"]), params["spread"])
        for index, p in enumerate(params["decoder"]):
            x = jnp.concatenate([x, outputs[4]], -1) if index == 2 else x
            x = layer(convolve(x, p["kernel"], True), p)
        return library("double", x, params["last"]["kernel"]) + params["last"]["bias"][None, None, None]

    np.testing.assert_allclose(
        jax.jit(nets.reconstruct)(params, patches), jax.jit(plain)(params, patches), rtol=1e-3, atol=1e-4
    )


def test_the_sampler_sees_each_window_by_itself_and_begins_undecided(rng):
    params = nets.init_sampler(jax.random.key(0), (16, 16, 3), 9, 0.2)
    windows = jnp.asarray(rng.random((4, 16, 16, 3)), jnp.float32)
    act = jax.jit(nets.act)
    np.testing.assert_array_equal(act(params, windows), 0)
    params["dense2"]["kernel"] = jnp.asarray(rng.standard_normal(params["dense2"]["kernel"].shape), jnp.float32)
    together = act(params, windows)
    alone = act(params, jnp.concatenate([windows[:1], 5 * windows[1:] ** 2]))
    np.testing.assert_allclose(alone[0], together[0], rtol=1e-4, atol=1e-5)
    assert np.abs(together[1] - together[0]).max() > 0.01


def test_frozen_moments_repeat_the_batch_and_predict_pixel_by_its_surroundings(rng):
    params = nets.init_predictor(jax.random.key(0), 4, 0.5)
    profiles = jnp.asarray(rng.random((2, 40, 36, 4)), jnp.float32)
    predict = jax.jit(nets.predict)
    batch = predict(params, profiles)
    frozen = predict(params, profiles, batch.moments)
    np.testing.assert_allclose(frozen.logits, batch.logits, rtol=1e-4, atol=1e-5)
    # 1 + 2 + 4 + 8 pixels around: with frozen statistics nothing further away matters.
    changed = predict(params, profiles.at[0, 20, 20].add(1.0), batch.moments).logits
    moved = np.argwhere(np.asarray(changed != frozen.logits))
    assert (moved[:, 0] == 0).all()
    assert np.abs(moved[:, 1:] - 20).max() == 15
