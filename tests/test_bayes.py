"""The posterior's arithmetic against SciPy, NumPy, Monte Carlo and finite differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxad.nas.strategies.autoad import posterior as bayes
from jaxad.nas.strategies.autoad.posterior import Posterior, ScaleMixture

WEIGHTS = 14


def posterior_of(rng, scale=1.0):
    mean = jnp.asarray(scale * rng.normal(size=WEIGHTS), jnp.float32)
    return Posterior(mean, jnp.asarray(rng.uniform(-2, 1, size=WEIGHTS), jnp.float32))


def double(vector):
    return np.asarray(vector, np.float64)


def moments(posterior):
    return double(posterior.mean), double(bayes.sd_of(posterior.rho))


def draw(key, posterior):
    return bayes.distribution(posterior).sample(seed=key)


def test_deviations_and_rho_are_inverse():
    sd = jnp.array([1e-3, 0.05, 0.3, 4.0])
    np.testing.assert_allclose(bayes.sd_of(bayes.rho_of(sd)), sd, rtol=1e-5)
    assert float(bayes.sd_of(jnp.float32(-200.0))) == pytest.approx(bayes.SD_FLOOR)


def test_samples_have_the_posteriors_moments(rng):
    posterior = posterior_of(rng)
    keys = jax.random.split(jax.random.key(0), 20_000)
    drawn = jax.vmap(draw, (0, None))(keys, posterior)
    mean, sd = moments(posterior)
    standard = (np.asarray(drawn) - mean) / sd
    assert np.abs(standard.mean(0)).max() < 5 / np.sqrt(20_000)
    assert np.abs(standard.var(0) - 1).max() < 5 * np.sqrt(2 / 20_000)
    assert np.abs(np.corrcoef(standard.T) - np.eye(len(mean))).max() < 0.05  # weights are independent


def test_log_densities_equal_scipy(rng):
    posterior, phi = posterior_of(rng), posterior_of(rng).mean
    mean, sd = moments(posterior)
    expected = stats.norm.logpdf(double(phi), mean, sd).sum()
    np.testing.assert_allclose(bayes.distribution(posterior).log_prob(phi), expected, rtol=1e-5)
    prior = ScaleMixture(0.25, 0.4, 0.01)
    parts = [0.25 * stats.norm.pdf(double(phi), 0, 0.4) + 0.75 * stats.norm.pdf(double(phi), 0, 0.01)]
    np.testing.assert_allclose(bayes.scale_mixture(prior).log_prob(phi), np.log(parts).sum(), rtol=1e-5)
    one = ScaleMixture(1.0, 0.4, 0.01)
    expected = stats.norm.logpdf(double(phi), 0, 0.4).sum()
    np.testing.assert_allclose(bayes.scale_mixture(one).log_prob(phi), expected, rtol=1e-5)


def test_the_prior_has_the_deviation_it_says():
    prior = ScaleMixture(0.25, 0.4, 0.01)
    shares, sds = np.array([0.25, 0.75]), np.array([0.4, 0.01])
    rng = np.random.default_rng(4)
    drawn = sds[rng.choice(2, 400_000, p=shares)] * rng.normal(size=400_000)
    np.testing.assert_allclose(prior.sd, drawn.std(), rtol=0.02)


def test_kl_equals_numpy_and_monte_carlo(rng):
    new, old = posterior_of(rng), posterior_of(rng)
    (m, s), (m0, s0) = moments(new), moments(old)
    expected = np.sum(np.log(s0 / s) + (s**2 + (m - m0) ** 2) / (2 * s0**2) - 0.5)
    value = bayes.information_gain(new, old)
    np.testing.assert_allclose(value, expected, rtol=1e-5)

    def difference(key):
        phi = draw(key, new)
        return bayes.distribution(new).log_prob(phi) - bayes.distribution(old).log_prob(phi)

    draws = np.asarray(jax.vmap(difference)(jax.random.split(jax.random.key(1), 20_000)))
    assert abs(draws.mean() - expected) < 5 * draws.std() / np.sqrt(len(draws))


def test_kl_is_zero_for_equals_and_positive_else(rng):
    posterior = posterior_of(rng)
    assert float(bayes.information_gain(posterior, posterior)) == 0.0
    for scale in (1e-3, 1e-2, 1.0):
        moved = jax.tree.map(lambda x, scale=scale: x + scale * rng.normal(size=x.shape).astype(np.float32), posterior)
        assert float(bayes.information_gain(moved, posterior)) > 0


@pytest.mark.parametrize("step", [3.5e-4, 1e-2])
def test_the_gain_of_an_adam_step_on_all_weights_keeps_its_digits(step, rng):
    """As many weights as the controller has, moved by a learning rate: float32 beside the same in float64."""
    size = 56_560
    mean, sd = rng.uniform(-0.1, 0.1, size), rng.uniform(0.046, 0.184, size)
    old = Posterior(jnp.asarray(mean, jnp.float32), bayes.rho_of(jnp.asarray(sd, jnp.float32)))
    signs = np.where(rng.random((2, size)) < 0.5, -step, step).astype(np.float32)
    new = Posterior(old.mean + signs[0], old.rho + signs[1])

    def sds(rho):
        return np.log1p(np.exp(double(rho))) + bayes.SD_FLOOR

    ratio = sds(new.rho) / sds(old.rho)
    gap = (double(new.mean) - double(old.mean)) / sds(old.rho)
    expected = np.sum(-np.log(ratio) + 0.5 * ((ratio - 1) * (ratio + 1) + gap**2))
    np.testing.assert_allclose(bayes.information_gain(new, old), expected, rtol=1e-3)


def test_sampled_kl_is_unbiased(rng):
    """With a prior of one Gaussian the expectation is known in closed form."""
    posterior = posterior_of(rng, 0.3)
    mean, sd = moments(posterior)
    expected = np.sum(np.log(0.5 / sd) + (sd**2 + mean**2) / (2 * 0.25) - 0.5)
    prior = ScaleMixture(1.0, 0.5, 0.1)

    def one(key):
        return bayes.sampled_kl(draw(key, posterior), posterior, prior)

    draws = np.asarray(jax.vmap(one)(jax.random.split(jax.random.key(2), 20_000)))
    assert abs(draws.mean() - expected) < 5 * draws.std() / np.sqrt(len(draws))


def test_sharpened_kl_equals_closed_form_distrax_and_monte_carlo(rng):
    gradient, eta, phi = posterior_of(rng).mean, posterior_of(rng, 0.1).mean, posterior_of(rng).mean
    expected = np.sum((double(eta) * double(gradient)) ** 2) / (2 * 0.3**2)
    np.testing.assert_allclose(bayes.sharpened_kl(gradient, eta, 0.3), expected, rtol=1e-5)
    sharpened, around = bayes.sharpened(phi, gradient, eta, 0.3), bayes.diagonal_gaussian(phi, 0.3)
    np.testing.assert_allclose(sharpened.kl_divergence(around), expected, rtol=1e-5)

    def one(key):
        theta = sharpened.sample(seed=key)
        return sharpened.log_prob(theta) - around.log_prob(theta)

    draws = np.asarray(jax.vmap(one)(jax.random.split(jax.random.key(3), 20_000)))
    assert abs(draws.mean() - expected) < 5 * draws.std() / np.sqrt(len(draws))


def test_sharpening_raises_the_likelihood():
    """Positive step sizes move weights towards what explains the data."""
    data = jnp.array([1.0, 1.5, 2.0])

    def nll(phi):
        return 0.5 * jnp.sum(jnp.square(data - phi[0]))

    phi = jnp.zeros(1)
    theta = bayes.sharpened(phi, jax.grad(nll)(phi), jnp.full(1, 0.1), 0.0).sample(seed=jax.random.key(0))
    assert float(nll(theta)) < float(nll(phi))


def test_gradients_reach_mean_rho_and_eta(rng):
    posterior = posterior_of(rng)
    eta = jnp.ones_like(posterior.mean)

    def loss(posterior, eta):
        phi = draw(jax.random.key(4), posterior)
        gradient = jnp.cos(jax.lax.stop_gradient(phi))
        theta = bayes.sharpened(phi, gradient, eta, 0.1).sample(seed=jax.random.key(5))
        fit = jnp.sum(jnp.square(theta))
        return fit + bayes.sampled_kl(phi, posterior, ScaleMixture()) + bayes.sharpened_kl(gradient, eta, 0.1)

    gradients = jax.grad(loss, (0, 1))(posterior, eta)
    assert all(np.all(np.asarray(leaf) != 0) for leaf in jax.tree.leaves(gradients))


def test_natural_gain_is_the_kl_of_a_small_natural_step(rng):
    posterior, gradient = posterior_of(rng), posterior_of(rng)
    step = 1e-3
    sd, slope = bayes.sd_of(posterior.rho), jax.nn.sigmoid(posterior.rho)
    moved = Posterior(
        posterior.mean - step * sd**2 * gradient.mean,
        posterior.rho - step * sd**2 / (2 * slope**2) * gradient.rho,
    )
    np.testing.assert_allclose(
        bayes.natural_gain(posterior, gradient, step), bayes.information_gain(moved, posterior), rtol=0.02
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
    for function in (bayes.information_gain, bayes.natural_gain):
        np.testing.assert_allclose(jax.jit(function)(posterior, other), function(posterior, other), rtol=1e-6)
