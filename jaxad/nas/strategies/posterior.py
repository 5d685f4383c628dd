"""Bayesian neural networks by mean field: a Gaussian posterior over any pytree, and what is done with it.

    q(phi) = N(mean, diag(sd^2)),  sd = softplus(rho) + 1e-5

    sample             phi ~ q                                                           (Eq. 8)
    scale_mixture      log p(phi) of the prior pi N(0, s1^2) + (1 - pi) N(0, s2^2)       (Blundell et al. 2015)
    free_energy        E_q[-log p(D | phi)] + KL[q || p] / C                             (Eqs. 10-12)
    sharpen            theta = phi - eta * g + sigma0 * noise, g the likelihood's gradient   (Eqs. 13-15)
    sharpened_kl       KL[N(phi - eta * g, sigma0^2) || N(phi, sigma0^2)]                (inside Eq. 16)
    information_gain   KL[q_new || q_old], the curiosity of Eqs. 6-7; natural_gain its second-order estimate

Equations are those of AutoAD (Li et al., TNNLS 2022), section III-D. Nothing here knows what the network is for.
All functions are pure, take any pytree of float arrays, and may be jitted, vmapped and differentiated.
"""

import functools
import math
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from jaxad._utils.random import normal_like
from jaxad.types import Array, Key, Params

SD_FLOOR = 1e-5  # keeps logarithms and quotients of deviations finite
LOG_2PI = math.log(2 * math.pi)


class Posterior(NamedTuple):
    """A diagonal Gaussian over weights: two pytrees of one structure."""

    mean: Params
    rho: Params  # sd = softplus(rho) + SD_FLOOR


def sds(posterior: Posterior) -> Params:
    """Standard deviations, structured as the weights."""
    return jax.tree.map(lambda rho: jax.nn.softplus(rho) + SD_FLOOR, posterior.rho)


def rho_of(sd: Array) -> Array:
    """The inverse of `sds` for one array; sd > SD_FLOOR."""
    return jnp.log(jnp.expm1(sd - SD_FLOOR))


def sample(key: Key, posterior: Posterior) -> Params:
    """phi ~ q by reparameterisation: gradients reach mean and rho (Eq. 8)."""
    noise = normal_like(key, posterior.mean)
    return jax.tree.map(lambda mean, sd, e: mean + sd * e, posterior.mean, sds(posterior), noise)


def gaussian_log_density(params: Params, mean: Params, sd: Params) -> Array:
    """log N(params; mean, diag(sd^2)), summed over all weights -> scalar."""
    chex.assert_trees_all_equal_structs(params, mean, sd)

    def one(x: Array, m: Array, s: Array) -> Array:
        return jnp.sum(-0.5 * jnp.square((x - m) / s) - jnp.log(s) - 0.5 * LOG_2PI)

    return _total(jax.tree.map(one, params, mean, sd))


def log_density(params: Params, posterior: Posterior) -> Array:
    """log q(params) -> scalar."""
    return gaussian_log_density(params, posterior.mean, sds(posterior))


class ScaleMixture(NamedTuple):
    """pi N(0, sd1^2) + (1 - pi) N(0, sd2^2) for every weight, independently: a wide part and a spike at zero."""

    weight: float = 0.25  # pi, of the first part
    sd1: float = math.exp(-1)
    sd2: float = math.exp(-7)


def scale_mixture(params: Params, prior: ScaleMixture) -> Array:
    """log p(params) under the prior, summed over all weights -> scalar."""

    def one(x: Array) -> Array:
        parts = [
            math.log(share) - 0.5 * jnp.square(x / sd) - math.log(sd) - 0.5 * LOG_2PI
            for share, sd in ((prior.weight, prior.sd1), (1 - prior.weight, prior.sd2))
            if share > 0
        ]
        return jnp.sum(functools.reduce(jnp.logaddexp, parts))

    return _total(jax.tree.map(one, params))


def gaussian_kl(new: Posterior, old: Posterior) -> Array:
    """KL[new || old] in closed form -> scalar, at least 0 (the sum in VIME, Houthooft et al. 2016, Eq. 17)."""
    chex.assert_trees_all_equal_structs(new, old)

    def one(m: Array, s: Array, m0: Array, s0: Array) -> Array:
        # log1p-like form: exact 0 where nothing changed, no cancellation where little did.
        ratio = s / s0
        return jnp.sum(-jnp.log(ratio) + 0.5 * ((ratio - 1) * (ratio + 1) + jnp.square((m - m0) / s0)))

    return _total(jax.tree.map(one, new.mean, sds(new), old.mean, sds(old)))


def sampled_kl(params: Params, posterior: Posterior, prior: ScaleMixture) -> Array:
    """log q(params) - log p(params) -> scalar: an unbiased estimate of KL[q || p] for params ~ q; may be negative."""
    return log_density(params, posterior) - scale_mixture(params, prior)


def free_energy(negative_log_likelihood: Array, params: Params, posterior: Posterior, prior: ScaleMixture) -> Array:
    """The variational free energy at one sample params ~ q -> scalar (Eqs. 10-12).

    Args:
      negative_log_likelihood: -log p(D | params), summed over the data.

    Eq. 12 lacks the 1 / N of a mean over samples; with one sample there is none.
    """
    return negative_log_likelihood + sampled_kl(params, posterior, prior)


# ---- posterior sharpening ----------------------------------------------------------------------------------------


def sharpen(key: Key, params: Params, gradient: Params, eta: Params, sigma0: float) -> Params:
    """theta = phi - eta * g + sigma0 * noise: weights moved towards what explains the data (Eqs. 13-15).

    Args:
      params: phi, a sample of the posterior.
      gradient: g = d(-log p(D | phi)) / d(phi); two minuses in Eq. 14, so that positive eta raises the likelihood.
      eta: a step size for every weight, learned.
      sigma0: standard deviation of the noise; 0 or more.

    Source: Fortunato et al. 2017, "Bayesian recurrent neural networks", section 3.
    """
    chex.assert_trees_all_equal_structs(params, gradient, eta)
    noise = normal_like(key, params)
    return jax.tree.map(lambda phi, g, step, e: phi - step * g + sigma0 * e, params, gradient, eta, noise)


def sharpened_kl(gradient: Params, eta: Params, sigma0: float) -> Array:
    """KL[N(phi - eta * g, sigma0^2) || N(phi, sigma0^2)] = |eta * g|^2 / (2 sigma0^2) -> scalar (inside Eq. 16)."""
    moved = _total(jax.tree.map(lambda step, g: jnp.sum(jnp.square(step * g)), eta, gradient))
    return moved / (2 * sigma0**2)


# ---- information gain --------------------------------------------------------------------------------------------


def information_gain(new: Posterior, old: Posterior) -> Array:
    """What an update taught: KL[q_new || q_old] -> scalar, at least 0 (Eqs. 6-7 in VIME's direction)."""
    return gaussian_kl(new, old)


def natural_gain(posterior: Posterior, gradient: Posterior, step: float = 1.0) -> Array:
    """The gain of a natural-gradient step, to second order: step^2 / 2 * g' H^-1 g -> scalar, at least 0.

    H is the curvature of KL[q_new || q] at q: 1 / sd^2 for a mean, 2 (d sd / d rho)^2 / sd^2 for a rho. Unlike the
    gain of an Adam step, whose length hardly depends on the gradient, it tells surprising data from expected data.

    Args:
      gradient: of the negative log-likelihood with respect to mean and rho.

    Source: VIME (Houthooft et al. 2016), section 2.5 and appendix 1.
    """

    def one(rho: Array, sd: Array, to_mean: Array, to_rho: Array) -> Array:
        return jnp.sum(jnp.square(to_mean * sd) + 0.5 * jnp.square(to_rho * sd / jax.nn.sigmoid(rho)))

    curved = jax.tree.map(one, posterior.rho, sds(posterior), gradient.mean, gradient.rho)
    return 0.5 * step**2 * _total(curved)


class Normaliser(NamedTuple):
    """Medians of the last gains, for a scale on which curiosity does not drift (VIME)."""

    medians: Array  # [history]
    count: Array  # [] int32, medians seen so far


def init_normaliser(history: int = 10) -> Normaliser:
    """A normaliser that has seen nothing."""
    return Normaliser(jnp.zeros(history), jnp.int32(0))


def normalise_gain(state: Normaliser, gains: Array, largest: float = 1000.0) -> tuple[Normaliser, Array]:
    """Divide gains [n] by the mean of the last batches' medians, this one's included.

    Gains are clipped to [0, largest] first, as in VIME's code; where all medians are 0 so is the result.

    Returns:
      The next state, and gains [n].
    """
    chex.assert_rank(gains, 1)
    gains = jnp.clip(gains, 0.0, largest)
    medians = state.medians.at[state.count % state.medians.shape[0]].set(jnp.median(gains))
    count = state.count + 1
    scale = jnp.sum(medians) / jnp.minimum(count, medians.shape[0])
    return Normaliser(medians, count), jnp.where(scale > 0, gains / jnp.where(scale > 0, scale, 1.0), 0.0)


def _total(tree: Any) -> Array:
    return functools.reduce(jnp.add, jax.tree.leaves(tree), jnp.float32(0))
