"""The posterior's arithmetic against SciPy, NumPy, Monte Carlo and finite differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxad.nas.strategies.autoad import posterior as bayes
from jaxad.nas.strategies.autoad.posterior import Posterior, ScaleMixture


def posterior_of(rng, scale=1.0):
    shapes = {"kernel": (3, 4), "bias": (2,)}
    mean = {name: jnp.asarray(scale * rng.normal(size=shape), jnp.float32) for name, shape in shapes.items()}
    rho = {name: jnp.asarray(rng.uniform(-2, 1, size=shape), jnp.float32) for name, shape in shapes.items()}
    return Posterior(mean, rho)


def flat(tree):
    return np.concatenate([np.asarray(leaf, np.float64).ravel() for leaf in jax.tree.leaves(tree)])


def moments(posterior):
    return flat(posterior.mean), flat(bayes.sds(posterior))


def test_deviations_and_rho_are_inverse():
    sd = jnp.array([1e-3, 0.05, 0.3, 4.0])
    back = bayes.sds(Posterior(None, {"w": bayes.rho_of(sd)}))["w"]
    np.testing.assert_allclose(back, sd, rtol=1e-5)
    assert float(bayes.sds(Posterior(None, jnp.float32(-200.0)))) == pytest.approx(bayes.SD_FLOOR)


def test_samples_have_the_posteriors_moments(rng):
    posterior = posterior_of(rng)
    keys = jax.random.split(jax.random.key(0), 20_000)
    drawn = jax.vmap(lambda key: jnp.concatenate([x.ravel() for x in jax.tree.leaves(bayes.sample(key, posterior))]))(
        keys
    )
    mean, sd = moments(posterior)
    standard = (np.asarray(drawn) - mean) / sd
    assert np.abs(standard.mean(0)).max() < 5 / np.sqrt(20_000)
    assert np.abs(standard.var(0) - 1).max() < 5 * np.sqrt(2 / 20_000)
    assert np.abs(np.corrcoef(standard.T) - np.eye(len(mean))).max() < 0.05  # leaves are independent


def test_log_densities_equal_scipy(rng):
    posterior, params = posterior_of(rng), posterior_of(rng).mean
    mean, sd = moments(posterior)
    expected = stats.norm.logpdf(flat(params), mean, sd).sum()
    np.testing.assert_allclose(bayes.log_density(params, posterior), expected, rtol=1e-5)
    prior = ScaleMixture(0.25, 0.4, 0.01)
    parts = [0.25 * stats.norm.pdf(flat(params), 0, 0.4) + 0.75 * stats.norm.pdf(flat(params), 0, 0.01)]
    np.testing.assert_allclose(bayes.scale_mixture(params, prior), np.log(parts).sum(), rtol=1e-5)
    one = ScaleMixture(1.0, 0.4, 0.01)
    expected = stats.norm.logpdf(flat(params), 0, 0.4).sum()
    np.testing.assert_allclose(bayes.scale_mixture(params, one), expected, rtol=1e-5)


def test_kl_equals_numpy_and_monte_carlo(rng):
    new, old = posterior_of(rng), posterior_of(rng)
    (m, s), (m0, s0) = moments(new), moments(old)
    expected = np.sum(np.log(s0 / s) + (s**2 + (m - m0) ** 2) / (2 * s0**2) - 0.5)
    value = bayes.information_gain(new, old)
    np.testing.assert_allclose(value, expected, rtol=1e-5)

    def difference(key):
        params = bayes.sample(key, new)
        return bayes.log_density(params, new) - bayes.log_density(params, old)

    draws = np.asarray(jax.vmap(difference)(jax.random.split(jax.random.key(1), 20_000)))
    assert abs(draws.mean() - expected) < 5 * draws.std() / np.sqrt(len(draws))


def test_kl_is_zero_for_equals_and_positive_else(rng):
    posterior = posterior_of(rng)
    assert float(bayes.gaussian_kl(posterior, posterior)) == 0.0
    for scale in (1e-3, 1e-2, 1.0):
        moved = jax.tree.map(lambda x, scale=scale: x + scale * rng.normal(size=x.shape).astype(np.float32), posterior)
        assert float(bayes.gaussian_kl(moved, posterior)) > 0


def test_sampled_kl_is_unbiased(rng):
    """With a prior of one Gaussian the expectation is known in closed form."""
    posterior = posterior_of(rng, 0.3)
    mean, sd = moments(posterior)
    expected = np.sum(np.log(0.5 / sd) + (sd**2 + mean**2) / (2 * 0.25) - 0.5)
    prior = ScaleMixture(1.0, 0.5, 0.1)

    def one(key):
        return bayes.free_energy(2.0, bayes.sample(key, posterior), posterior, prior) - 2.0

    draws = np.asarray(jax.vmap(one)(jax.random.split(jax.random.key(2), 20_000)))
    assert abs(draws.mean() - expected) < 5 * draws.std() / np.sqrt(len(draws))


def test_sharpened_kl_equals_closed_form_and_monte_carlo(rng):
    gradient, eta, phi = posterior_of(rng).mean, posterior_of(rng, 0.1).mean, posterior_of(rng).mean
    expected = np.sum((flat(eta) * flat(gradient)) ** 2) / (2 * 0.3**2)
    np.testing.assert_allclose(bayes.sharpened_kl(gradient, eta, 0.3), expected, rtol=1e-5)
    sd = jax.tree.map(lambda x: jnp.full(x.shape, 0.3), phi)
    centre = jax.tree.map(lambda p, g, e: p - e * g, phi, gradient, eta)

    def one(key):
        theta = bayes.sharpen(key, phi, gradient, eta, 0.3)
        return bayes.gaussian_log_density(theta, centre, sd) - bayes.gaussian_log_density(theta, phi, sd)

    draws = np.asarray(jax.vmap(one)(jax.random.split(jax.random.key(3), 20_000)))
    assert abs(draws.mean() - expected) < 5 * draws.std() / np.sqrt(len(draws))


def test_sharpening_raises_the_likelihood():
    """Positive step sizes move weights towards what explains the data."""
    data = jnp.array([1.0, 1.5, 2.0])

    def nll(phi):
        return 0.5 * jnp.sum(jnp.square(data - phi["w"]))

    phi = {"w": jnp.float32(0.0)}
    theta = bayes.sharpen(jax.random.key(0), phi, jax.grad(nll)(phi), {"w": jnp.float32(0.1)}, 0.0)
    assert float(nll(theta)) < float(nll(phi))


def test_gradients_reach_mean_rho_and_eta(rng):
    posterior = posterior_of(rng)
    eta = jax.tree.map(jnp.ones_like, posterior.mean)

    def loss(posterior, eta):
        phi = bayes.sample(jax.random.key(4), posterior)
        gradient = jax.tree.map(jnp.cos, jax.lax.stop_gradient(phi))
        theta = bayes.sharpen(jax.random.key(5), phi, gradient, eta, 0.1)
        fit = sum(jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(theta))
        return fit + bayes.sampled_kl(phi, posterior, ScaleMixture()) + bayes.sharpened_kl(gradient, eta, 0.1)

    gradients = jax.grad(loss, (0, 1))(posterior, eta)
    assert all(np.all(np.asarray(leaf) != 0) for leaf in jax.tree.leaves(gradients))


def test_natural_gain_is_the_kl_of_a_small_natural_step(rng):
    posterior, gradient = posterior_of(rng), posterior_of(rng)
    step = 1e-3
    sd = bayes.sds(posterior)
    slope = jax.tree.map(jax.nn.sigmoid, posterior.rho)
    moved = Posterior(
        jax.tree.map(lambda m, s, g: m - step * s**2 * g, posterior.mean, sd, gradient.mean),
        jax.tree.map(lambda r, s, d, g: r - step * s**2 / (2 * d**2) * g, posterior.rho, sd, slope, gradient.rho),
    )
    np.testing.assert_allclose(
        bayes.natural_gain(posterior, gradient, step), bayes.gaussian_kl(moved, posterior), rtol=0.02
    )


def test_gains_are_divided_by_the_mean_of_recent_medians():
    state, history = bayes.init_normaliser(3), []
    for batch in ([1.0, 2.0, 9.0], [4.0, 4.0, 4.0], [0.0, 6.0, 5000.0], [1.0, 1.0, 7.0]):
        clipped = np.clip(batch, 0, 1000)
        history = [*history, np.median(clipped)][-3:]
        state, gains = bayes.normalise_gain(state, jnp.array(batch))
        np.testing.assert_allclose(gains, clipped / np.mean(history), rtol=1e-6)


def test_no_gain_is_no_curiosity():
    state, gains = bayes.normalise_gain(bayes.init_normaliser(2), jnp.zeros(3))
    np.testing.assert_array_equal(gains, np.zeros(3))
    assert int(state.count) == 1


def test_jit_equals_eager(rng):
    posterior, other = posterior_of(rng), posterior_of(rng)
    for function in (bayes.gaussian_kl, bayes.natural_gain):
        np.testing.assert_allclose(jax.jit(function)(posterior, other), function(posterior, other), rtol=1e-6)
