"""The cluster hypothesis (AutoAD, Table I; DEC, Xie et al. 2016): normal is what surely belongs to one cluster."""

import dataclasses
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from jaxad.nn.objectives.base import EXACT, Hypothesis, check, require_not_negative, require_positive
from jaxad.types import Array, Key


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClusterConfig:
    """Settings of the cluster hypothesis; the number of clusters from XifengGuo/DCEC."""

    clusters: int = 10
    lloyd_steps: int = 10

    def __post_init__(self) -> None:
        require_positive(self, "clusters")
        require_not_negative(self, "lloyd_steps")


class ClusterParams(NamedTuple):
    """Trainable cluster centres."""

    centres: Array  # [K, d]


class ClusterStats(NamedTuple):
    """How much of the training set each cluster holds."""

    log_frequencies: Array  # [K] log f


class NearestStats(NamedTuple):
    """How far training instances lie from their clusters."""

    scale: Array  # [] mean squared distance to the nearest centre


def _squared_distances(z: Array, centres: Array) -> Array:
    """[B, d], [K, d] -> [B, K]. By differences: the expanded square cancels when clusters are tight."""
    return jnp.sum(jnp.square(z[:, None, :] - centres[None, :, :]), axis=-1)


def _kmeans_centres(key: Key, z: Array, clusters: int, lloyd_steps: int) -> Array:
    """k-means++ seeds followed by Lloyd steps; an empty cluster keeps its centre. Works for B < K too."""
    first_key, noise_key = jax.random.split(key)
    z = jnp.asarray(z)  # NumPy arrays cannot be indexed by traced numbers
    tiny = jnp.finfo(jnp.float32).tiny  # all instances chosen already: draw any of them again
    chosen = z[jax.random.randint(first_key, (), 0, z.shape[0])]
    seeds = jnp.tile(chosen[None], (clusters, 1))
    nearest = jnp.sum(jnp.square(z - chosen[None]), axis=1)
    # Drawing in proportion to the squared distance, by the Gumbel-max trick.
    noise = jax.random.gumbel(noise_key, (clusters - 1, z.shape[0]))

    def draw(carry, numbered_noise):
        seeds, nearest = carry
        number, noise = numbered_noise
        chosen = z[jnp.argmax(jnp.log(jnp.maximum(nearest, tiny)) + noise)]
        nearest = jnp.minimum(nearest, jnp.sum(jnp.square(z - chosen[None]), axis=1))
        return (seeds.at[number].set(chosen), nearest), None

    (seeds, _), _ = jax.lax.scan(draw, (seeds, nearest), (jnp.arange(1, clusters), noise))

    def lloyd(_, centres):
        member = jax.nn.one_hot(jnp.argmin(_squared_distances(z, centres), axis=1), clusters)  # [B, K]
        size = jnp.sum(member, axis=0)[:, None]
        means = jnp.matmul(member.T, z, precision=EXACT) / jnp.maximum(size, 1.0)
        return jnp.where(size > 0, means, centres)

    return jax.lax.fori_loop(0, lloyd_steps, lloyd, seeds)


def cluster(config: ClusterConfig | None = None) -> Hypothesis:
    """Anomalies belong to no cluster of the latents with confidence (DEC / DCEC), as AutoAD's Table I has it.

    q_ij proportional to 1 / (1 + |z_i - mu_j|^2), f_j = sum_i q_ij, p_ij proportional to q_ij^2 / f_j.
    Loss: KL(P || Q) = mean_i sum_j p_ij log(p_ij / q_ij), p a constant. Score: the row sum of an instance,
    with f_j of the training latents.
    Departures: the sum over instances is a mean, so that batch sizes compare; the target p is refreshed at
    every step from the batch (DCEC: every 140 steps from the whole set); one k-means++ start with Lloyd steps
    on the first latents (DCEC: 20 starts on a pre-trained embedding).
    The score sees how evenly an instance lies between clusters, and not how far from all of them: where every q_ij is
    1/K, as far away, p_ij is nearly q_ij, and the divergence nearly 0, which is the least there is. `nearest_cluster`
    is the same hypothesis with a score that grows with the distance.
    """
    config = config or ClusterConfig()

    def log_q(params: ClusterParams, z: Array) -> Array:
        return jax.nn.log_softmax(-jnp.log1p(_squared_distances(z, params.centres)), axis=1)

    def divergences(log_assignments: Array, log_frequencies: Array) -> Array:
        log_target = jax.nn.log_softmax(2 * log_assignments - log_frequencies[None], axis=1)
        log_target = jax.lax.stop_gradient(log_target)
        return jnp.sum(jnp.exp(log_target) * (log_target - log_assignments), axis=1)

    def init(key: Key, z: Array) -> ClusterParams:
        chex.assert_rank(z, 2)
        return ClusterParams(_kmeans_centres(key, z, config.clusters, config.lloyd_steps))

    def loss(params: ClusterParams, z: Array, errors: Array, step: Array) -> Array:
        check(z, errors)
        log_assignments = log_q(params, z)
        return jnp.mean(divergences(log_assignments, jax.nn.logsumexp(log_assignments, axis=0)))

    def fit(params: ClusterParams, z: Array) -> ClusterStats:
        chex.assert_rank(z, 2)
        return ClusterStats(jax.nn.logsumexp(log_q(params, z), axis=0))

    def score(params: ClusterParams, stats: ClusterStats, z: Array, errors: Array) -> Array:
        check(z, errors)
        return divergences(log_q(params, z), stats.log_frequencies)

    return Hypothesis(init, loss, fit, score)


def nearest_cluster(config: ClusterConfig | None = None) -> Hypothesis:
    """Anomalies lie far from every cluster of the latents: `cluster` in training, with a bounded and monotone score.

    Score: d / (d + s) in [0, 1), where d is the squared distance of an instance to the nearest centre and s the mean
    of that over the training latents: one less Student's kernel of DEC's q_ij, in units of the clusters' own width.
    """
    trained = cluster(config)

    def nearest(params: ClusterParams, z: Array) -> Array:
        return jnp.min(_squared_distances(z, params.centres), axis=1)

    def fit(params: ClusterParams, z: Array) -> NearestStats:
        chex.assert_rank(z, 2)
        return NearestStats(jnp.mean(nearest(params, z)))

    def score(params: ClusterParams, stats: NearestStats, z: Array, errors: Array) -> Array:
        check(z, errors)
        distances = nearest(params, z)
        # Latents that are their centres have no width: whatever is elsewhere is then as far as can be.
        return distances / (distances + jnp.maximum(stats.scale, jnp.finfo(jnp.float32).tiny))

    return Hypothesis(trained.init, trained.loss, fit, score)
