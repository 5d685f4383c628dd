"""Distances against plain NumPy and scikit-image."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from skimage.color import rgb2gray
from skimage.metrics import structural_similarity

from jaxad.nn.objectives.distances import DISTANCES, combine, get_distance


def pair(rng, shape):
    x = rng.random(shape, dtype=np.float32)
    x_hat = np.clip(x + 0.3 * rng.standard_normal(shape).astype(np.float32), 0, 1)
    return x_hat, x


@functools.cache
def compiled(name):
    """(score, map) of a distance as one program."""
    distance = get_distance(name)
    return jax.jit(lambda x_hat, x: (distance.score(x_hat, x), distance.map(x_hat, x)))


def oracle_l21(x_hat, x):
    height, width, channels = x.shape
    total = 0.0
    for c in range(channels):
        for w in range(width):
            total += np.sqrt(sum((float(x_hat[h, w, c]) - float(x[h, w, c])) ** 2 for h in range(height)))
    return total / (channels * width * np.sqrt(height))


def oracle_ssim(x_hat, x):
    """scikit-image on the grey image; sigma chosen by the rule for small images -> (score, map)."""
    width = max(w for w in (1, 3, 5, 7, 9, 11) if w <= min(x.shape[:2]))
    grey = [rgb2gray(i) if i.shape[-1] == 3 else i.mean(axis=-1) for i in (x_hat.astype(float), x.astype(float))]
    options = {"gaussian_weights": True, "sigma": 1.5 * width / 11, "use_sample_covariance": False}
    mean, full = structural_similarity(*grey, data_range=1, full=True, **options)
    return 1 - mean, 1 - full


def test_token_order():
    assert DISTANCES.standard == ("l1", "l2", "l21", "ssim")


@pytest.mark.parametrize("shape", [(6, 4, 1), (4, 7, 3)])
def test_norms_equal_numpy(rng, shape):
    x_hat, x = pair(rng, shape)
    d = x_hat.astype(np.float64) - x
    expected = {
        "l1": (np.abs(d).mean(), np.abs(d).mean(axis=-1)),
        "l2": ((d**2).mean(), (d**2).mean(axis=-1)),
        "l21": (oracle_l21(x_hat, x), np.sqrt((d**2).sum(axis=-1))),
    }
    for name, (score, amap) in expected.items():
        got_score, got_map = compiled(name)(x_hat, x)
        np.testing.assert_allclose(got_score, score, rtol=1e-5, err_msg=name)
        np.testing.assert_allclose(got_map, amap, rtol=1e-5, atol=1e-6, err_msg=name)


def test_l21_of_a_constant_difference_is_that_difference():
    x = np.zeros((9, 5, 2), np.float32)
    np.testing.assert_allclose(DISTANCES["l21"].score(x + 0.25, x), 0.25, rtol=1e-6)


@pytest.mark.parametrize("shape", [(28, 28, 1), (11, 30, 3), (12, 17, 2), (8, 10, 1), (3, 5, 3), (2, 2, 1)])
def test_ssim_equals_scikit_image(rng, shape):
    x_hat, x = pair(rng, shape)
    score, amap = oracle_ssim(x_hat, x)
    got_score, got_map = compiled("ssim")(x_hat, x)
    np.testing.assert_allclose(got_score, score, atol=1e-4)
    np.testing.assert_allclose(got_map, amap, atol=1e-4)


def test_ssim_of_flat_bright_images_does_not_drown_in_rounding(rng):
    x = np.full((28, 28, 1), 0.97, np.float32)
    x_hat = np.clip(x + 0.005 * rng.standard_normal(x.shape), 0, 1).astype(np.float32)
    score, amap = oracle_ssim(x_hat, x)
    got_score, got_map = compiled("ssim")(x_hat, x)
    np.testing.assert_allclose(got_score, score, atol=1e-4)
    np.testing.assert_allclose(got_map, amap, atol=3e-4)


@pytest.mark.parametrize("name", DISTANCES)
def test_zero_symmetry_and_gradients(rng, name):
    distance = DISTANCES[name]
    x_hat, x = pair(rng, (12, 13, 3))

    @jax.jit
    def everything(x_hat, x):
        score, gradient = jax.value_and_grad(distance.score)(x_hat, x)
        amap, back = jax.vjp(lambda x_hat: distance.map(x_hat, x), x_hat)
        return score, amap, gradient, back(jnp.ones_like(amap))[0]

    score, amap, gradient, map_gradient = everything(x, x)
    assert abs(float(score)) < 1e-6
    assert np.abs(amap).max() < 1e-5
    assert np.isfinite(gradient).all()
    assert np.isfinite(map_gradient).all()
    score, amap, gradient, _ = everything(x_hat, x)
    assert amap.shape == (12, 13)
    np.testing.assert_allclose(score, everything(x, x_hat)[0], rtol=1e-5)
    # Columns that agree beside columns that differ: the case in which a naive square root gives NaN.
    mixed = x.copy()
    mixed[:, 4:] = x_hat[:, 4:]
    assert all(np.isfinite(part).all() for part in everything(mixed, x)[2:])

    # Finite differences along one direction, by a central difference wide enough for float32.
    direction = rng.standard_normal(x.shape).astype(np.float32)
    direction /= np.linalg.norm(direction)
    step = np.float32(2e-2)
    above, below = (float(everything(x_hat + sign * step * direction, x)[0]) for sign in (1, -1))
    np.testing.assert_allclose(np.vdot(gradient, direction), (above - below) / (2 * step), rtol=0.05, atol=2e-5)


def test_vmap_and_scan_equal_a_loop(rng):
    x_hat, x = pair(rng, (5, 12, 13, 3))

    def both(a, b):
        return [(distance.score(a, b), distance.map(a, b)) for distance in DISTANCES.values()]

    batched = jax.jit(jax.vmap(both))(x_hat, x)
    scanned = jax.jit(lambda *pairs: jax.lax.map(lambda ab: both(*ab), pairs))(x_hat, x)
    looped = [[compiled(name)(a, b) for name in DISTANCES] for a, b in zip(x_hat, x)]
    looped = jax.tree.map(lambda *leaves: np.stack(leaves), *looped)
    for got in (batched, scanned):
        jax.tree.map(lambda g, e: np.testing.assert_allclose(g, e, atol=2e-6), got, looped)


def test_ssim_uses_no_convolution(rng):
    x_hat, x = pair(rng, (4, 28, 28, 1))
    text = str(jax.make_jaxpr(jax.vmap(jax.value_and_grad(DISTANCES["ssim"].score)))(x_hat, x))
    assert "conv_general" not in text
    assert "dot_general" in text


def test_sums_and_unknown_names(rng):
    x_hat, x = pair(rng, (12, 12, 1))
    total, l21, ssim = (compiled(name)(x_hat, x) for name in ("l21+ssim", "l21", "ssim"))
    for got, *parts in zip(total, l21, ssim):
        np.testing.assert_allclose(got, sum(parts), rtol=1e-6, atol=1e-6)
    assert get_distance("l1") is DISTANCES["l1"]
    for bad in ("l3", "l1+", "", "L1"):
        with pytest.raises(ValueError, match="l1, l2, l21, ssim"):
            get_distance(bad)
    with pytest.raises(ValueError, match="unknown"):
        combine()


def test_shapes_are_checked(rng):
    x_hat, x = pair(rng, (6, 6, 1))
    for distance in DISTANCES.values():
        with pytest.raises(AssertionError):
            distance.score(x_hat[..., 0], x[..., 0])
        with pytest.raises(AssertionError):
            distance.map(x_hat[:5], x)
