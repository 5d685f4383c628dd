"""Samplers of codes against the distributions they are said to have."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxad.methods.ama import latents

COUNT = 4000
ENOUGH = 1e-3  # a correct sampler fails one seed in a thousand, and the seeds are fixed


@pytest.mark.parametrize(("dim", "inner", "outer"), [(2, 0.0, 1.0), (5, 1.0, 1.5), (128, 5.0, 11.3), (128, 0.0, 2.0)])
def test_shell_is_uniform_in_volume(dim, inner, outer):
    points = np.asarray(latents.shell(jax.random.key(0), COUNT, dim, inner, outer), np.float64)
    radii = np.linalg.norm(points, axis=1)
    assert radii.min() >= inner * (1 - 1e-5)
    assert radii.max() <= outer * (1 + 1e-5)
    volume = ((radii / outer) ** dim - (inner / outer) ** dim) / (1 - (inner / outer) ** dim)
    assert stats.kstest(volume, "uniform").pvalue > ENOUGH
    # A coordinate of a uniform direction, moved to [0, 1], has a Beta distribution.
    coordinate = (points[:, 0] / radii + 1) / 2
    assert stats.kstest(coordinate, stats.beta((dim - 1) / 2, (dim - 1) / 2).cdf).pvalue > ENOUGH
    assert abs(stats.pearsonr(radii, points[:, 0] / radii).statistic) < 5 / np.sqrt(COUNT)


@pytest.mark.parametrize(("dim", "inner", "outer"), [(2, 0.0, 1.0), (128, 5.0, 11.3)])
def test_a_shell_may_be_uniform_in_radius(dim, inner, outer):
    points = np.asarray(latents.shell(jax.random.key(0), COUNT, dim, inner, outer, draw="radius"), np.float64)
    radii = np.linalg.norm(points, axis=1)
    assert stats.kstest((radii - inner) / (outer - inner), "uniform").pvalue > ENOUGH
    coordinate = (points[:, 0] / radii + 1) / 2
    assert stats.kstest(coordinate, stats.beta((dim - 1) / 2, (dim - 1) / 2).cdf).pvalue > ENOUGH


def test_only_the_radius_draw_uses_the_whole_inward_shell_of_many_dimensions():
    """Of 128 dimensions half of the volume within a sphere lies beyond 0.5^(1/128) of its radius."""
    radius = np.sqrt(128)
    inward = {"direction": "inward", "delta": 0.5, "radius": radius}
    quantiles = {
        draw: np.quantile(
            np.linalg.norm(latents.atypical(jax.random.key(1), COUNT, 128, **inward, draw=draw), axis=1), q
        )
        / radius
        for q in (0.5,)
        for draw in latents.DRAWS
    }
    np.testing.assert_allclose(quantiles["volume"], 0.5 ** (1 / 128), atol=2e-3)
    np.testing.assert_allclose(quantiles["radius"], 0.75, atol=0.02)


def test_the_shell_around_collapsed_codes_is_the_origin_and_not_nan():
    points = latents.shell(jax.random.key(0), 5, 3, jnp.float32(0.0), jnp.float32(0.0))
    np.testing.assert_allclose(points, 0, atol=1e-9)


def test_atypical_codes_lie_on_their_side_of_the_sphere():
    draw = {
        side: np.linalg.norm(
            latents.atypical(jax.random.key(1), 500, 16, direction=side, delta=0.5, radius=4.0), axis=1
        )
        for side in latents.DIRECTIONS
    }
    assert (draw["inward"] >= 2 - 1e-5).all()
    assert (draw["inward"] <= 4 + 1e-5).all()
    assert (draw["outward"] >= 4 - 1e-5).all()
    assert (draw["outward"] <= 6 + 1e-5).all()


def test_simplex_weights_have_the_papers_distribution(rng):
    simplex = latents.draw_simplex(jax.random.key(2), COUNT, 3)
    weights = np.asarray(simplex.weights)
    np.testing.assert_allclose(weights.sum(1), 1, rtol=1e-5)
    assert weights.min() > 0
    drawn = rng.uniform(0, 0.5, (COUNT, 3))
    assert stats.ks_2samp(weights[:, 0], (drawn / drawn.sum(1, keepdims=True))[:, 0]).pvalue > ENOUGH
    for parents in np.asarray(simplex.parents).T:
        np.testing.assert_array_equal(np.sort(parents), np.arange(COUNT))
    assert not np.array_equal(simplex.parents[:, 0], simplex.parents[:, 1])


def test_mixed_codes_equal_a_loop(rng):
    codes = rng.standard_normal((6, 4)).astype(np.float32)
    simplex = latents.draw_simplex(jax.random.key(3), 6, 3)
    expected = [
        sum(w * codes[p] for w, p in zip(weights, parents))
        for weights, parents in zip(np.asarray(simplex.weights), np.asarray(simplex.parents))
    ]
    np.testing.assert_allclose(latents.mix_codes(jnp.asarray(codes), simplex), expected, rtol=1e-5, atol=1e-6)


def test_scaled_codes_keep_direction_and_change_length(rng):
    codes = rng.standard_normal((COUNT, 4)).astype(np.float32)
    norms = np.linalg.norm(codes, axis=1)
    inward = np.asarray(latents.scaled_codes(jax.random.key(4), jnp.asarray(codes), direction="inward"))
    factor = np.linalg.norm(inward, axis=1) / norms
    assert stats.kstest(factor, stats.uniform(0, 0.5).cdf).pvalue > ENOUGH
    np.testing.assert_allclose(inward / factor[:, None], codes, rtol=1e-3, atol=1e-4)
    outward = np.asarray(latents.scaled_codes(jax.random.key(4), jnp.asarray(codes), direction="outward"))
    assert (np.linalg.norm(outward, axis=1) >= 2 * norms * (1 - 1e-5)).all()


def test_the_cube_starts_in_the_origin_and_ends_at_the_least_coordinate(rng):
    codes = rng.standard_normal((8, 4)).astype(np.float32)
    points = np.asarray(latents.cube(jax.random.key(5), COUNT, jnp.asarray(codes)))
    side = np.abs(codes).min()
    assert points.shape == (COUNT, 4)
    assert stats.kstest(points.ravel() / side, "uniform").pvalue > ENOUGH
