"""The networks of neural batch sampling: sizes of the thesis's tables, against library convolutions, who sees whom."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxad.methods.nbs.networks import Autoencoder, Predictor, Sampler
from jaxad.nn.network import make_network
from jaxad.nn.resampling import dilated_conv, half_conv3

NUMBERS = ("NHWC", "HWIO", "NHWC")


def arrays(*shape):
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def kernels(variables, name="conv"):
    """Shapes of all kernels of convolutions, in the order of their numbers."""
    layers = variables["params"].items()
    return [layer["kernel"].shape for own, layer in layers if own.startswith(name) and "kernel" in layer]


def shaped(network, inputs):
    """Shapes of variables, and of what comes of inputs."""
    variables = jax.eval_shape(network.init, jax.random.key(0), inputs)
    return variables, jax.eval_shape(network.apply, variables, inputs).shape


# ---- Tables 4.1 to 4.3 -----------------------------------------------------------------------------------------


def test_the_sampler_is_that_of_table_4_1():
    variables, outputs = shaped(make_network(Sampler(9)), arrays(2, 128, 128, 5))
    assert kernels(variables) == [(3, 3, *io) for io in [(5, 16), (16, 32), (32, 32), (32, 64), (64, 64)]]
    assert kernels(variables, "dense") == [(1024, 256), (256, 9)]
    assert outputs == (2, 9)


@pytest.mark.parametrize("code", [200, 500])
def test_the_autoencoder_is_that_of_table_4_2(code):
    variables, outputs = shaped(make_network(Autoencoder(code)), arrays(2, 64, 64, 3))
    assert kernels(variables) == [
        (4, 4, 3, 64), (3, 3, 64, 64), (4, 4, 64, 128), (3, 3, 128, 128), (4, 4, 128, 256), (3, 3, 256, 128),
        (3, 3, 128, 64), (8, 8, 64, code),
    ]  # fmt: skip
    assert kernels(variables, "deconv") == [
        (code, 8 * 8 * 64), (3, 3, 64, 128), (3, 3, 128, 256), (4, 4, 512, 256), (3, 3, 256, 128), (4, 4, 128, 128),
        (3, 3, 128, 64), (4, 4, 64, 3),
    ]  # fmt: skip
    assert outputs == (2, 64, 64, 3)
    assert set(variables) == {"params"}  # without running averages


@pytest.mark.parametrize("multiplier", [1, 2])
def test_the_predictor_is_that_of_table_4_3(multiplier):
    variables, outputs = shaped(make_network(Predictor(multiplier)), arrays(2, 30, 21, 10))
    widths = [10, *(multiplier * width for width in (32, 16, 8, 4))]
    assert kernels(variables) == [
        *((3, 3, a, b) for a, b in itertools.pairwise(widths)), (1, 1, 4 * multiplier, 1)
    ]  # fmt: skip
    assert outputs == (2, 30, 21)
    assert [norm["mean"].shape for norm in variables["batch_stats"].values()] == [(width,) for width in widths[1:]]


@pytest.mark.parametrize(
    ("side", "window"), [(8, 16), *(pytest.param(*other, marks=pytest.mark.slow) for other in ((16, 32), (24, 40)))]
)
def test_other_sizes_and_widths(side, window):
    assert shaped(make_network(Autoencoder(7, 0.1)), arrays(2, side, side, 1))[1] == (2, side, side, 1)
    assert shaped(make_network(Sampler(9, 0.1)), arrays(3, window, window, 3))[1] == (3, 9)


@pytest.mark.parametrize("shape", [(12, 12, 3), (16, 8, 1), (20, 20, 1)])
def test_other_patches_are_refused(shape):
    with pytest.raises(ValueError, match="squares of a multiple of 8"):
        make_network(Autoencoder(5)).init(jax.random.key(0), arrays(1, *shape))


def test_kernels_start_as_glorot_and_bengio_have_them():
    """Deconv1 as the transposed convolution that it is: its fans count the taps of its kernel."""
    drawn = jax.jit(make_network(Autoencoder(20, 0.25)).init)(jax.random.key(0), jnp.zeros((1, 32, 32, 3)))["params"]
    fans = {"conv2": 9 * (16 + 16), "conv8": 16 * (16 + 20), "deconv1": 16 * (20 + 16), "deconv8": 16 * (16 + 3)}
    for name, fan in fans.items():
        kernel, limit = np.asarray(drawn[name]["kernel"]), (6 / fan) ** 0.5
        assert np.abs(kernel).max() <= limit
        np.testing.assert_allclose(kernel.std(), limit / 3**0.5, rtol=0.1)


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
    return half_conv3(images, kernel) if kind == "half" else dilated_conv(images, kernel, kind)


@pytest.mark.parametrize(
    ("kind", "shape"),
    [
        ("half", (7, 5)),
        (2, (8, 6)),
        (8, (11, 7)),
        *(pytest.param(*other, marks=pytest.mark.slow) for other in (("half", (6, 8)), (1, (5, 6)), (4, (9, 10)))),
    ],
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
    network = make_network(Autoencoder(6, 0.06))
    variables = jax.jit(network.init)(jax.random.key(0), arrays(1, 16, 16, 2))
    variables = jax.tree.map(lambda leaf: leaf + 0.1 * rng.standard_normal(leaf.shape).astype(np.float32), variables)
    patches = jnp.asarray(rng.random((3, 16, 16, 2)), jnp.float32)

    def plain(variables, x):
        params = variables["params"]

        def layer(x, name):
            affine = params[f"{name}_norm"]
            x = standard(x, (0, 1, 2)) * affine["scale"][None, None, None] + affine["bias"][None, None, None]
            return jnp.where(x > 0, x, 0.2 * x)

        def convolve(x, name):
            kernel = params[name]["kernel"]
            if kernel.shape[0] == 3:
                return library(1, x, kernel)
            if name.startswith("deconv"):
                return library("double", x, kernel[::-1, ::-1])  # stored as it correlates, already turned round
            return lax.conv_general_dilated(x, kernel, (2, 2), [(1, 1), (1, 1)], dimension_numbers=NUMBERS)

        outputs = []
        for number in range(1, 8):
            x = layer(convolve(x, f"conv{number}"), f"conv{number}")
            outputs.append(x)
        code = jnp.einsum("bijc,ijck->bk", x, params["conv8"]["kernel"]) + params["conv8"]["bias"][None]
        maps = params["deconv1"]["kernel"].reshape(code.shape[1], *x.shape[1:])
        x = layer(jnp.einsum("bk,kijc->bijc", code, maps), "deconv1")
        for number in range(2, 8):
            x = jnp.concatenate([x, outputs[4]], -1) if number == 4 else x
            x = layer(convolve(x, f"deconv{number}"), f"deconv{number}")
        return convolve(x, "deconv8") + params["deconv8"]["bias"][None, None, None]

    np.testing.assert_allclose(
        jax.jit(network.apply)(variables, patches), jax.jit(plain)(variables, patches), rtol=1e-3, atol=1e-4
    )


@pytest.mark.slow
def test_the_sampler_sees_each_window_by_itself_and_begins_undecided(rng):
    network = make_network(Sampler(9, 0.2))
    variables = network.init(jax.random.key(0), arrays(1, 16, 16, 3))
    windows = jnp.asarray(rng.random((4, 16, 16, 3)), jnp.float32)
    act = jax.jit(network.apply)
    np.testing.assert_array_equal(act(variables, windows), 0)
    last = variables["params"]["dense2"]
    last["kernel"] = jnp.asarray(rng.standard_normal(last["kernel"].shape), jnp.float32)
    together = act(variables, windows)
    alone = act(variables, jnp.concatenate([windows[:1], 5 * windows[1:] ** 2]))
    np.testing.assert_allclose(alone[0], together[0], rtol=1e-4, atol=1e-5)
    assert np.abs(together[1] - together[0]).max() > 0.01


@pytest.mark.slow
def test_frozen_statistics_repeat_the_batch_and_predict_pixel_by_its_surroundings(rng):
    network = make_network(Predictor(0.5))
    variables = network.init(jax.random.key(0), arrays(1, 40, 36, 4))
    profiles = jnp.asarray(rng.random((2, 40, 36, 4)), jnp.float32)
    batch, brought = jax.jit(lambda v, x: network.apply(v, x, train=True))(variables, profiles)
    # Running averages have come a tenth of the way from 0 and 1 to the statistics of the batch.
    stats = {
        name: {"mean": 10 * norm["mean"], "var": 10 * norm["var"] - 9} for name, norm in brought["batch_stats"].items()
    }
    predict = jax.jit(network.apply)
    frozen = predict({**variables, "batch_stats": stats}, profiles)
    np.testing.assert_allclose(frozen, batch, rtol=1e-4, atol=1e-5)
    # 1 + 2 + 4 + 8 pixels around: with frozen statistics nothing further away matters.
    changed = predict({**variables, "batch_stats": stats}, profiles.at[0, 20, 20].add(1.0))
    moved = np.argwhere(np.asarray(changed != frozen))
    assert (moved[:, 0] == 0).all()
    assert np.abs(moved[:, 1:] - 20).max() == 15
