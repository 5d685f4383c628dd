"""Spectral normalisation against the singular value decomposition."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxad.nn import spectral_norm as spectral


def params_of(rng):
    return {
        "conv": {"kernel": jnp.asarray(rng.standard_normal((3, 3, 4, 5)), jnp.float32), "bias": jnp.ones(5)},
        "dense": {"kernel": jnp.asarray(rng.standard_normal((7, 2)), jnp.float32)},
    }


def largest(kernel):
    return np.linalg.svd(np.asarray(kernel, np.float64).reshape(-1, kernel.shape[-1]), compute_uv=False)[0]


def test_after_many_iterations_the_norm_is_one(rng):
    params = params_of(rng)
    vectors = spectral.init_vectors(jax.random.key(0), params)
    iterate = jax.jit(spectral.power_iteration)
    for _ in range(200):
        vectors = iterate(params, vectors)
    normalised = spectral.normalise_kernels(params, vectors)
    for name in params:
        np.testing.assert_allclose(largest(normalised[name]["kernel"]), 1, rtol=1e-4)
        ratio = np.asarray(params[name]["kernel"]) / np.asarray(normalised[name]["kernel"])
        np.testing.assert_allclose(ratio, largest(params[name]["kernel"]), rtol=1e-4)
    np.testing.assert_array_equal(normalised["conv"]["bias"], params["conv"]["bias"])


def test_one_iteration_equals_numpy(rng):
    params = params_of(rng)
    vectors = spectral.init_vectors(jax.random.key(1), params)
    after = spectral.power_iteration(params, vectors)
    for u, new, kernel in zip(vectors, after, (params["conv"]["kernel"], params["dense"]["kernel"]), strict=True):
        matrix, u = np.asarray(kernel, np.float64).reshape(-1, kernel.shape[-1]), np.asarray(u, np.float64)
        np.testing.assert_allclose(np.linalg.norm(u), 1, rtol=1e-5)
        v = matrix @ u / np.linalg.norm(matrix @ u)
        np.testing.assert_allclose(new, v @ matrix / np.linalg.norm(v @ matrix), rtol=1e-4, atol=1e-6)


def test_gradients_pass_through_sigma_but_not_through_the_vectors(rng):
    """With u and v fixed, sigma = v W u is linear in W: the gradient of sum(c * W / sigma) has a closed form."""
    kernel, weights = rng.standard_normal((2, 6, 3))
    u = rng.standard_normal(3)
    u /= np.linalg.norm(u)
    v = kernel @ u / np.linalg.norm(kernel @ u)
    sigma = v @ kernel @ u
    expected = weights / sigma - np.sum(weights * kernel) / sigma**2 * np.outer(v, u)

    def function(params):
        return jnp.sum(weights.astype(np.float32) * spectral.normalise_kernels(params, (jnp.float32(u),))["kernel"])

    got = jax.grad(function)({"kernel": jnp.float32(kernel)})["kernel"]
    np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-5)
