"""Bayesian neural networks by mean field: a Gaussian posterior over a vector of weights, and what is done with it.

    q(phi) = N(mean, diag(sd^2)),  sd = softplus(rho) + 1e-5

    distribution       q itself: its samples phi, its density, its divergences               (Eq. 10)
    scale_mixture      the prior p: pi N(0, s1^2) + (1 - pi) N(0, s2^2)                      (Blundell et al. 2015)
    sampled_kl         KL[q || p] at one sample phi                                          (in Eqs. 12 and 16)
    sharpened          theta ~ N(phi - eta * g, sigma0^2), g the gradient of -log p(D | phi) (Eqs. 13-14)
    sharpened_kl       KL[N(phi - eta * g, sigma0^2) || N(phi, sigma0^2)]                    (in Eq. 16)
    information_gain   KL[q_new || q_old], the curiosity; natural_gain is an estimate of it  (Eqs. 6-7)

Equations are those of AutoAD (Li et al., TNNLS 2022), section IV-B. Nothing here knows what the network is for: its
weights are one vector [W], raveled, so that whatever is done with them is one operation and not one for every leaf.
All functions are pure and may be jitted, vmapped and differentiated.

Distributions are distrax's. Two things are written out: `sharpened_kl`, because a difference of means that are large
beside what separates them loses half its digits, and `natural_gain`, because no distribution knows its Fisher matrix.
The posterior is an `Independent` of `Normal`s and not a `MultivariateNormalDiag`, whose divergence subtracts W, the
number of weights, from a sum as large: in float32 nothing is left of a small gain.
"""

import math
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from jaxad._utils.distributions import distrax
from jaxad.types import Array

SD_FLOOR = 1e-5  # keeps logarithms and quotients of deviations finite


class Posterior(NamedTuple):
    """The parameters of a diagonal Gaussian over weights."""

    mean: Array  # [W]
    rho: Array  # [W], sd = softplus(rho) + SD_FLOOR


def sd_of(rho: Array) -> Array:
    """Standard deviations [...] from what is learned in their place."""
    return jax.nn.softplus(rho) + SD_FLOOR


def rho_of(sd: Array) -> Array:
    """The inverse of `sd_of`, for sd > SD_FLOOR."""
    return jnp.log(jnp.expm1(sd - SD_FLOOR))


def diagonal_gaussian(mean: Array, sd: Array | float) -> distrax.Independent:
    """N(mean, diag(sd^2)) over vectors [W]; sd is [W], or one number for all of them."""
    return distrax.Independent(distrax.Normal(mean, sd), reinterpreted_batch_ndims=1)


def distribution(posterior: Posterior) -> distrax.Independent:
    """q(phi) of Eq. 10. Samples are reparametrised: gradients reach mean and rho."""
    return diagonal_gaussian(posterior.mean, sd_of(posterior.rho))


class ScaleMixture(NamedTuple):
    """pi N(0, sd1^2) + (1 - pi) N(0, sd2^2) for every weight, independently: a wide part and a spike at zero."""

    weight: float = 0.25  # pi, of the first part
    sd1: float = math.exp(-1)
    sd2: float = math.exp(-7)

    @property
    def sd(self) -> float:
        """The standard deviation of a weight."""
        return (self.weight * self.sd1**2 + (1 - self.weight) * self.sd2**2) ** 0.5


def scale_mixture(prior: ScaleMixture) -> distrax.Independent:
    """p(phi) as a distribution, of vectors of any length: `log_prob` of [W] is a scalar."""
    parts = distrax.Normal(jnp.zeros((1, 2)), jnp.array([[prior.sd1, prior.sd2]]))
    shares = distrax.Categorical(probs=jnp.array([[prior.weight, 1 - prior.weight]]))
    return distrax.Independent(distrax.MixtureSameFamily(shares, parts), reinterpreted_batch_ndims=1)


def sampled_kl(phi: Array, posterior: Posterior, prior: ScaleMixture) -> Array:
    """log q(phi) - log p(phi) -> scalar: an unbiased estimate of KL[q || p] for phi ~ q; may be negative."""
    return distribution(posterior).log_prob(phi) - scale_mixture(prior).log_prob(phi)


# ---- posterior sharpening ----------------------------------------------------------------------------------------


def sharpened(phi: Array, gradient: Array, eta: Array, sigma0: float) -> distrax.Independent:
    """N(phi - eta * g, sigma0^2), whose samples theta are moved towards what explains the data (Eqs. 13-14).

    Args:
      phi: [W] a sample of the posterior.
      gradient: [W] g = d(-log p(D | phi)) / d(phi); two minuses in Eq. 14, so that positive eta raises the likelihood.
      eta: [W] a step size for every weight, learned.
      sigma0: standard deviation of the noise; 0 or more.

    Source: Fortunato et al. 2017, "Bayesian recurrent neural networks", on posterior sharpening.
    """
    chex.assert_equal_shape([phi, gradient, eta])
    return diagonal_gaussian(phi - eta * gradient, sigma0)


def sharpened_kl(gradient: Array, eta: Array, sigma0: float) -> Array:
    """KL[N(phi - eta * g, sigma0^2) || N(phi, sigma0^2)] = |eta * g|^2 / (2 sigma0^2) -> scalar (in Eq. 16)."""
    return jnp.sum(jnp.square(eta * gradient)) / (2 * sigma0**2)


# ---- information gain --------------------------------------------------------------------------------------------


def information_gain(new: Posterior, old: Posterior) -> Array:
    """What an update taught: KL[q_new || q_old] -> scalar, at least 0 (Eqs. 6-7 in VIME's direction)."""
    return distribution(new).kl_divergence(distribution(old))


def natural_gain(posterior: Posterior, gradient: Posterior, step: float = 1.0) -> Array:
    """The gain of a natural-gradient step, to second order: step^2 / 2 * g' H^-1 g -> scalar, at least 0.

    H is the curvature of KL[q_new || q] at q: 1 / sd^2 for a mean, 2 (d sd / d rho)^2 / sd^2 for a rho. Unlike the
    gain of an Adam step, whose length hardly depends on the gradient, it tells surprising data from expected data.

    Args:
      posterior: q.
      gradient: of the negative log-likelihood with respect to mean and rho.
      step: length of the step, as a learning rate.

    Source: VIME (Houthooft et al. 2016), section 2.5 and appendix 1.
    """
    sd, slope = sd_of(posterior.rho), jax.nn.sigmoid(posterior.rho)
    squares = jnp.square(gradient.mean * sd) + 0.5 * jnp.square(gradient.rho * sd / slope)
    return 0.5 * step**2 * jnp.sum(squares)


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
