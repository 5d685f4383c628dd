"""The density hypothesis (AutoAD, Table I; DAGMM, Zong et al. 2018): normal is where a Gaussian mixture has mass."""

import dataclasses
from typing import NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxad.nn.initializers import glorot_uniform
from jaxad.nn.network import make_network
from jaxad.nn.objectives.base import EXACT, Hypothesis, check, require_not_negative, require_positive
from jaxad.types import Array, Key, Params


@dataclasses.dataclass(frozen=True, kw_only=True)
class DensityConfig:
    """Settings of the density hypothesis; defaults from danieltan07/dagmm."""

    components: int = 4
    hidden: int = 10
    covariance_penalty: float = 0.005
    jitter: float = 1e-6
    relative_jitter: float = 1e-4  # times the mean variance of the component

    def __post_init__(self) -> None:
        require_positive(self, "components", "hidden", "jitter")
        require_not_negative(self, "covariance_penalty", "relative_jitter")


class EstimationNetwork(nn.Module):
    """Logits [B, K] of the components that latents [B, d] belong to (DAGMM, section 3.3).

    Attributes:
      hidden: units of tanh.
      components: K.
    """

    hidden: int
    components: int

    @nn.compact
    def __call__(self, z: Array, *, train: bool = False) -> Array:
        hidden = jnp.tanh(nn.Dense(self.hidden, kernel_init=glorot_uniform(), name="hidden")(z))
        return nn.Dense(self.components, kernel_init=glorot_uniform(), name="output")(hidden)


class Mixture(NamedTuple):
    """A Gaussian mixture, ready to be evaluated."""

    log_weights: Array  # [K] log phi
    means: Array  # [K, d] mu
    choleskys: Array  # [K, d, d] lower triangles of Sigma


def mixture_energy(mixture: Mixture, z: Array) -> Array:
    """Energy -log sum_k phi_k N(z; mu_k, Sigma_k) (AutoAD, Table I; DAGMM Eq. 6): z [B, d] -> [B]."""
    chex.assert_rank([z, mixture.means, mixture.choleskys], [2, 2, 3])
    chex.assert_equal(z.shape[1], mixture.means.shape[1])
    centred = jnp.transpose(z[None, :, :] - mixture.means[:, None, :], (0, 2, 1))  # [K, d, B]
    whitened = jax.scipy.linalg.solve_triangular(mixture.choleskys, centred, lower=True)
    half_log_det = jnp.sum(jnp.log(jnp.diagonal(mixture.choleskys, axis1=1, axis2=2)), axis=1)
    constant = mixture.log_weights - half_log_det - 0.5 * z.shape[1] * np.log(2 * np.pi)  # [K]
    return -jax.nn.logsumexp(constant[:, None] - 0.5 * jnp.sum(jnp.square(whitened), axis=1), axis=0)


def density(config: DensityConfig | None = None) -> Hypothesis:
    """Anomalies lie where a Gaussian mixture of the latents has little mass (DAGMM).

    Energy E(z) = -log sum_k phi_k |2 pi Sigma_k|^(-1/2) exp(-(z - mu_k)' Sigma_k^-1 (z - mu_k) / 2), with
    phi, mu, Sigma from soft assignments gamma of the batch. Loss: mean energy + 0.005 sum_kj 1 / Sigma_kjj.
    Score: energy under the mixture of the training latents.
    Departures: no dropout in the estimation network (few steps, deterministic scores); latent only, as
    AutoAD has it (DAGMM adds two reconstruction features); Sigma gets 1e-6 I plus 1e-4 of its mean variance,
    because a float32 Cholesky of fewer instances than dimensions fails with the constant alone.
    """
    config = config or DensityConfig()
    network = make_network(EstimationNetwork(config.hidden, config.components))

    def init(key: Key, z: Array) -> Params:
        chex.assert_rank(z, 2)
        return network.init(key, z)["params"]

    def estimate(params: Params, z: Array) -> tuple[Mixture, Array]:
        log_gamma = jax.nn.log_softmax(network.apply({"params": params}, z))  # [B, K]
        # A softmax over instances is gamma / sum gamma without ever dividing by an empty component.
        share = jax.nn.softmax(log_gamma, axis=0)
        means = jnp.einsum("bk,bd->kd", share, z, precision=EXACT)
        centred = z[:, None, :] - means[None]
        covariances = jnp.einsum("bk,bkd,bke->kde", share, centred, centred, precision=EXACT)
        mean_variance = jnp.mean(jnp.diagonal(covariances, axis1=1, axis2=2), axis=1)
        jitter = config.jitter + config.relative_jitter * mean_variance
        covariances = covariances + jitter[:, None, None] * jnp.eye(z.shape[1])[None]
        log_weights = jax.nn.logsumexp(log_gamma, axis=0) - np.log(z.shape[0])
        mixture = Mixture(log_weights, means, jnp.linalg.cholesky(covariances))
        return mixture, jnp.diagonal(covariances, axis1=1, axis2=2)

    def loss(params: Params, z: Array, errors: Array, step: Array) -> Array:
        check(z, errors)
        mixture, variances = estimate(params, z)
        return jnp.mean(mixture_energy(mixture, z)) + config.covariance_penalty * jnp.sum(1.0 / variances)

    def fit(params: Params, z: Array) -> Mixture:
        chex.assert_rank(z, 2)
        return estimate(params, z)[0]

    def score(params: Params, stats: Mixture, z: Array, errors: Array) -> Array:
        check(z, errors)
        return mixture_energy(stats, z)

    return Hypothesis(init, loss, fit, score)
