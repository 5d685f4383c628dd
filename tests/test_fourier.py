"""Convolutions by Fourier transforms against NumPy's transforms, XLA's convolution and sums in float64."""

import importlib
import json
import math
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.extend.core import jaxprs_in_params

from jaxad.nn import conv as chooser
from jaxad.nn import fourier

CASES = [  # (height, width), (taps down, taps along)
    ((10, 7), (3, 5)),
    ((40, 3), (5, 3)),  # more frequencies than parts
    ((4, 4), (7, 7)),  # the kernel is larger than the image
    ((1, 6), (1, 3)),
    *(
        pytest.param(*case, marks=pytest.mark.slow)
        for case in (((28, 28), (7, 7)), ((5, 12), (5, 3)), ((2, 1), (3, 1)), ((1, 1), (1, 1)))
    ),
]


def operands(rng, size, taps, batch=3, inner=2, outer=4):
    shapes = (batch, *size, inner), (*taps, inner, outer), (batch, *size, outer)
    return tuple(jnp.asarray(rng.standard_normal(shape, np.float32)) for shape in shapes)


def library(images, kernel):
    return lax.conv_general_dilated(images, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def with_gradients(function, images, kernel, cotangent):
    value, back = jax.vjp(function, images, kernel)
    return value, *back(cotangent)


def assert_close(got, expected):
    """Up to rounding, which a transform spreads over all pixels: relative to the largest number."""
    for g, e in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        assert g.shape == e.shape
        np.testing.assert_allclose(g, e, atol=5e-6 * max(1.0, float(np.abs(e).max())), rtol=0)


@pytest.mark.parametrize(("size", "taps"), CASES)
def test_value_and_both_gradients_equal_the_librarys(rng, size, taps):
    case = operands(rng, size, taps)
    ours, theirs = (jax.jit(partial(with_gradients, f))(*case) for f in (fourier.conv, library))
    assert_close(ours, theirs)
    images, kernel, gradient = case

    @jax.jit
    def by_spectra(images, kernel, gradient):
        spectra = [fourier.spectrum(x, taps) for x in (images, gradient)]
        return fourier.kernel_gradient(*spectra, size, taps), fourier.conv(gradient, chooser.flip(kernel))

    assert_close(by_spectra(images, kernel, gradient), theirs[:0:-1])
    images, kernel, _ = map(np.float64, case)
    padded = np.pad(images, [(0, 0), *((n // 2, n // 2) for n in taps), (0, 0)])
    expected = sum(
        padded[:, row : row + size[0], column : column + size[1]] @ kernel[row, column]
        for row, column in np.ndindex(*taps)
    )
    assert_close(ours[0], expected)


@pytest.mark.parametrize(("size", "taps"), CASES)
def test_spectra_are_numpys(rng, size, taps):
    """Of images and kernels padded with zeros; a correlation takes the conjugate, the kernel's middle at the origin."""
    images, kernel, _ = operands(rng, size, taps)
    lengths = [n + t // 2 for n, t in zip(size, taps)]
    kept = lengths[0] // 2 + 1
    parts = fourier.spectrum(images, taps)
    assert len(parts) <= fourier.MOST_PARTS
    found = np.concatenate(parts)
    expected = np.fft.fft2(np.float64(images), lengths, axes=(1, 2)).transpose(1, 2, 0, 3)[:kept]
    assert_close(found[:, 0] + 1j * found[:, 1], expected.reshape(found[:, 0].shape))

    # Taps at the places -t // 2 ... t // 2, counted around the circle; several may fall on one.
    around = np.zeros((*lengths, *kernel.shape[2:]))
    for row, column in np.ndindex(*taps):
        around[(row - taps[0] // 2) % lengths[0], (column - taps[1] // 2) % lengths[1]] += np.float64(kernel)[
            row, column
        ]
    parts = fourier.kernel_spectrum(kernel, size)
    found = np.concatenate([part.real + 1j * part.imaginary for part in parts])
    assert_close(found, np.fft.fft2(around, axes=(0, 1)).conj()[:kept].reshape(found.shape))


@pytest.mark.parametrize(("size", "taps"), CASES)
def test_image_undoes_spectrum(rng, size, taps):
    images = operands(rng, size, taps)[0]
    assert_close(fourier.image(fourier.spectrum(images, taps), size, taps), images)


@pytest.mark.slow
def test_jit_vmap_and_scan_change_nothing(rng):
    population = [jnp.stack(parts) for parts in zip(*(operands(rng, (6, 5), (5, 3)) for _ in range(3)))]
    run = partial(with_gradients, fourier.conv)
    one_by_one = [run(*(parts[i] for parts in population)) for i in range(3)]
    expected = jax.tree.map(lambda *parts: jnp.stack(parts), *one_by_one)
    assert_close(jax.jit(jax.vmap(run))(*population), expected)
    assert_close(jax.jit(partial(lax.map, lambda parts: run(*parts)))(tuple(population)), expected)


def test_second_derivatives_equal_the_librarys(rng):
    """Of a penalty on a gradient, as critics have it."""
    images, kernel, cotangent = operands(rng, (6, 6), (3, 3))

    def penalty(function, kernel):
        return jnp.sum(jax.grad(lambda x: jnp.sum(jnp.tanh(function(x, kernel)) * cotangent))(images) ** 2)

    ours, theirs = (jax.jit(jax.grad(partial(penalty, f)))(kernel) for f in (fourier.conv, library))
    assert_close(ours, theirs)


@pytest.mark.slow
def test_channels_of_zeros_stay_zeros(rng):
    """Exactly, as padding must: whoever multiplies blocks relies on it."""
    images, kernel, cotangent = operands(rng, (6, 6), (5, 5))
    result, to_images, to_kernel = with_gradients(
        fourier.conv, images.at[..., 1].set(0), kernel.at[..., 2].set(0), cotangent
    )
    assert not np.any(result[..., 2])
    assert not np.any(to_kernel[:, :, 1])
    assert np.all(np.any(to_images, axis=(0, 1, 2)))


# ---- what it costs -----------------------------------------------------------------------------------------------


def equations(jaxpr):
    for equation in jaxpr.eqns:
        yield equation
        for inner in jaxprs_in_params(equation.params):
            yield from equations(inner)


def multiplications(function, *args):
    """Of the matrix products of a function."""
    total = 0
    for equation in equations(jax.make_jaxpr(function)(*args).jaxpr):
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            left = equation.invars[0].aval.shape
            total += math.prod(equation.outvars[0].aval.shape) * math.prod(left[axis] for axis in contracted)
    return total


@pytest.mark.parametrize(("size", "taps"), CASES)
def test_multiplications_are_those_of_the_products(rng, size, taps):
    images, kernel, _ = operands(rng, size, taps)
    weights = fourier.kernel_spectrum(kernel, size)

    def run(images):
        return fourier.image(fourier.multiply(fourier.spectrum(images, taps), weights), size, taps)

    assert multiplications(run, images) == len(images) * fourier.multiplications(size, taps, 2, 4)


def primitives(function, *args):
    return {equation.primitive.name for equation in equations(jax.make_jaxpr(function)(*args).jaxpr)}


def test_it_is_chosen_where_it_saves_enough(rng, monkeypatch):
    images, kernel, cotangent = operands(rng, (12, 12), (7, 7), inner=16, outer=32)
    saved = math.prod((12, 12, 7, 7, 16, 32)) / fourier.multiplications((12, 12), (7, 7), 16, 32)
    for gain, chosen in ((0.99 * saved, True), (1.01 * saved, False), (None, False)):
        monkeypatch.setattr(chooser, "fourier_gain", lambda gain=gain: gain)
        assert chooser.by_fourier((12, 12), (7, 7), 16, 32) == chosen
        run = partial(with_gradients, lambda *operands: chooser.conv(*operands))  # traced anew: JAX remembers functions
        assert ("conv_general_dilated" in primitives(run, images, kernel, cotangent)) != chosen
    monkeypatch.setattr(chooser, "fourier_gain", lambda: 1e-9)
    assert not chooser.by_fourier((12, 12), (1, 1), 16, 32)


def test_both_ways_give_the_same(rng, monkeypatch):
    case = operands(rng, (12, 12), (7, 7), inner=16, outer=32)
    results = []
    for gain in (1e-9, None):
        monkeypatch.setattr(chooser, "fourier_gain", lambda gain=gain: gain)
        results.append(jax.jit(partial(with_gradients, lambda *x: chooser.conv(*x)))(*case))
    assert_close(*results)


def test_shapes_are_checked(rng):
    images, kernel, _ = operands(rng, (4, 4), (3, 3))
    with pytest.raises(AssertionError):
        fourier.conv(images[0], kernel)
    with pytest.raises(AssertionError):
        fourier.conv(images[..., :1], kernel)


def test_the_benchmark_measures_and_writes(tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
    benchmark = importlib.import_module("convolutions")
    flags = ["--sizes", "4", "--taps", "3", "5", "--channels", "2", "--batch-size", "2", "--rounds", "3"]
    monkeypatch.setattr("sys.argv", ["convolutions.py", *flags, "--json", str(tmp_path / "out.json")])
    benchmark.main()
    records = json.loads((tmp_path / "out.json").read_text())["measurements"]
    assert [(record["taps"], record["chosen"]) for record in records] == [(3, False), (5, False)]
    for record in records:
        assert {name: len(runs) for name, runs in record["runs"].items()} == {"direct": 3, "fourier": 3}
        assert record["gain"] == record["medians"]["direct"] / record["medians"]["fourier"] > 0
    assert len(capsys.readouterr().out.splitlines()) == 5
    monkeypatch.setattr("sys.argv", ["convolutions.py", "--taps", "4"])
    with pytest.raises(SystemExit):
        benchmark.main()
    assert "--taps are odd" in capsys.readouterr().err
