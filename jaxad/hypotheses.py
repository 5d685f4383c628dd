"""What "normal" means to a detector (AutoAD, Table I, REG): four assumptions about latents and errors.

Each hypothesis is a regulariser while training and, with statistics frozen from the training set, a score
for one instance. The order of `HYPOTHESES` is the order of the hypothesis token in the search space.
Letters: B instances, n training instances, d latent size, K components or clusters.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from jaxad.types import Array, Key, Params

EXACT = jax.lax.Precision.HIGHEST  # covariances from reduced-precision products may lose definiteness


class Hypothesis(NamedTuple):
    """A reading of "normal" as four pure functions; every result is a pytree of arrays of fixed shapes."""

    init: Callable[[Key, Array], Params]  # (key, z [B, d]) -> params; first latents place centres
    loss: Callable[[Params, Array, Array, Array], Array]  # (params, z [B, d], errors [B], step) -> scalar
    fit: Callable[[Params, Array], Any]  # (params, z [n, d]) -> stats, frozen after training
    score: Callable[[Params, Any, Array, Array], Array]  # (params, stats, z [B, d], errors [B]) -> [B]


def _check(z: Array, errors: Array) -> None:
    chex.assert_rank([z, errors], [2, 1])
    chex.assert_equal_shape_prefix([z, errors], 1)


def _squared_distances(z: Array, centres: Array) -> Array:
    """[B, d], [K, d] -> [B, K]. By differences: the expanded square cancels when clusters are tight."""
    return jnp.sum(jnp.square(z[:, None, :] - centres[None, :, :]), axis=-1)


# --- density -------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, kw_only=True)
class DensityConfig:
    """Settings of the density hypothesis; defaults from danieltan07/dagmm."""

    components: int = 4
    hidden: int = 10
    covariance_penalty: float = 0.005
    jitter: float = 1e-6
    relative_jitter: float = 1e-4  # times the mean variance of the component

    def __post_init__(self) -> None:
        _require_positive(self, "components", "hidden", "jitter")
        _require_not_negative(self, "covariance_penalty", "relative_jitter")


class DensityParams(NamedTuple):
    """The estimation network: d -> hidden tanh -> K."""

    hidden_kernel: Array  # [d, hidden]
    hidden_bias: Array  # [hidden]
    output_kernel: Array  # [hidden, K]
    output_bias: Array  # [K]


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

    def init(key: Key, z: Array) -> DensityParams:
        chex.assert_rank(z, 2)
        hidden_key, output_key = jax.random.split(key)
        glorot = jax.nn.initializers.glorot_uniform()
        return DensityParams(
            hidden_kernel=glorot(hidden_key, (z.shape[1], config.hidden)),
            hidden_bias=jnp.zeros(config.hidden),
            output_kernel=glorot(output_key, (config.hidden, config.components)),
            output_bias=jnp.zeros(config.components),
        )

    def estimate(params: DensityParams, z: Array) -> tuple[Mixture, Array]:
        hidden = jnp.tanh(z @ params.hidden_kernel + params.hidden_bias[None])
        log_gamma = jax.nn.log_softmax(hidden @ params.output_kernel + params.output_bias[None])  # [B, K]
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

    def loss(params: DensityParams, z: Array, errors: Array, step: Array) -> Array:
        _check(z, errors)
        mixture, variances = estimate(params, z)
        return jnp.mean(mixture_energy(mixture, z)) + config.covariance_penalty * jnp.sum(1.0 / variances)

    def fit(params: DensityParams, z: Array) -> Mixture:
        chex.assert_rank(z, 2)
        return estimate(params, z)[0]

    def score(params: DensityParams, stats: Mixture, z: Array, errors: Array) -> Array:
        _check(z, errors)
        return mixture_energy(stats, z)

    return Hypothesis(init, loss, fit, score)


# --- cluster -------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClusterConfig:
    """Settings of the cluster hypothesis; the number of clusters from XifengGuo/DCEC."""

    clusters: int = 10
    lloyd_steps: int = 10

    def __post_init__(self) -> None:
        _require_positive(self, "clusters")
        _require_not_negative(self, "lloyd_steps")


class ClusterParams(NamedTuple):
    """Trainable cluster centres."""

    centres: Array  # [K, d]


class ClusterStats(NamedTuple):
    """How much of the training set each cluster holds."""

    log_frequencies: Array  # [K] log f


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
    """Anomalies belong to no cluster of the latents with confidence (DEC / DCEC).

    q_ij proportional to 1 / (1 + |z_i - mu_j|^2), f_j = sum_i q_ij, p_ij proportional to q_ij^2 / f_j.
    Loss: KL(P || Q) = mean_i sum_j p_ij log(p_ij / q_ij), p a constant. Score: the row sum of an instance,
    with f_j of the training latents.
    Departures: the sum over instances is a mean, so that batch sizes compare; the target p is refreshed at
    every step from the batch (DCEC: every 140 steps from the whole set); one k-means++ start with Lloyd steps
    on the first latents (DCEC: 20 starts on a pre-trained embedding).
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
        _check(z, errors)
        log_assignments = log_q(params, z)
        return jnp.mean(divergences(log_assignments, jax.nn.logsumexp(log_assignments, axis=0)))

    def fit(params: ClusterParams, z: Array) -> ClusterStats:
        chex.assert_rank(z, 2)
        return ClusterStats(jax.nn.logsumexp(log_q(params, z), axis=0))

    def score(params: ClusterParams, stats: ClusterStats, z: Array, errors: Array) -> Array:
        _check(z, errors)
        return divergences(log_q(params, z), stats.log_frequencies)

    return Hypothesis(init, loss, fit, score)


# --- centroid ------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, kw_only=True)
class CentroidConfig:
    """Settings of the centroid hypothesis; nu and the margin of the centre from Deep-SVDD-PyTorch."""

    nu: float = 0.1  # fraction of training instances that may lie outside
    warmup_steps: int = 10
    margin: float = 0.1  # no coordinate of the centre is closer to 0

    def __post_init__(self) -> None:
        if not 0 < self.nu <= 1:
            raise ValueError(f"nu={self.nu} is outside (0, 1]: it is the fraction of instances allowed outside")
        _require_not_negative(self, "warmup_steps", "margin")


class CentroidParams(NamedTuple):
    """The centre of the sphere; set once, never trained."""

    centre: Array  # [d]


class CentroidStats(NamedTuple):
    """The squared radius that holds all but nu of the training latents."""

    squared_radius: Array  # scalar


def centroid(config: CentroidConfig | None = None) -> Hypothesis:
    """Anomalies lie outside a small sphere that holds most latents (soft-boundary Deep SVDD).

    Loss: R^2 + mean_i max(0, |z_i - c|^2 - R^2) / nu; score: |z - c|^2 - R^2. c is the mean of the first
    latents, coordinates closer to 0 than 0.1 pushed to +-0.1 (a zero centre invites collapse). R^2 is the
    1 - nu quantile of the batch's |z - c|^2, a constant to the gradient; 0 before `warmup_steps`.
    Departures: the mean and 1 / nu are Deep SVDD's (AutoAD prints a bare sum); no weight decay; warm-up of 10
    steps instead of 10 epochs, as children of a search see about one epoch.
    """
    config = config or CentroidConfig()

    def squared(params: CentroidParams, z: Array) -> Array:
        return jnp.sum(jnp.square(z - jax.lax.stop_gradient(params.centre)[None]), axis=1)

    def init(key: Key, z: Array) -> CentroidParams:
        chex.assert_rank(z, 2)
        mean = jnp.mean(z, axis=0)
        pushed = jnp.where(mean < 0, -config.margin, config.margin)
        return CentroidParams(jnp.where(jnp.abs(mean) < config.margin, pushed, mean))

    def loss(params: CentroidParams, z: Array, errors: Array, step: Array) -> Array:
        _check(z, errors)
        distances = squared(params, z)
        radius = jnp.quantile(jax.lax.stop_gradient(distances), 1 - config.nu)
        radius = jnp.where(step >= config.warmup_steps, radius, 0.0)
        return radius + jnp.mean(jnp.maximum(distances - radius, 0.0)) / config.nu

    def fit(params: CentroidParams, z: Array) -> CentroidStats:
        chex.assert_rank(z, 2)
        return CentroidStats(jnp.quantile(squared(params, z), 1 - config.nu))

    def score(params: CentroidParams, stats: CentroidStats, z: Array, errors: Array) -> Array:
        _check(z, errors)
        return squared(params, z) - stats.squared_radius

    return Hypothesis(init, loss, fit, score)


# --- reconstruction ------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReconstructionConfig:
    """The reconstruction hypothesis has no settings."""


def reconstruction(config: ReconstructionConfig | None = None) -> Hypothesis:
    """Anomalies are reconstructed badly: loss mean_i e_i, score e, with e the mean squared error of an image.

    Adds to the distance of Eq. 2, which may be the same quantity.
    """

    def loss(params: Params, z: Array, errors: Array, step: Array) -> Array:
        _check(z, errors)
        return jnp.mean(errors)

    def score(params: Params, stats: Any, z: Array, errors: Array) -> Array:
        _check(z, errors)
        return errors

    return Hypothesis(init=lambda key, z: (), loss=loss, fit=lambda params, z: (), score=score)


# --- by name -------------------------------------------------------------------------------------------

HYPOTHESES: dict[str, Callable[..., Hypothesis]] = {
    "density": density,
    "cluster": cluster,
    "centroid": centroid,
    "reconstruction": reconstruction,
}

CONFIGS: dict[str, type] = {
    "density": DensityConfig,
    "cluster": ClusterConfig,
    "centroid": CentroidConfig,
    "reconstruction": ReconstructionConfig,
}


def make_hypothesis(name: str, **options: Any) -> Hypothesis:
    """A hypothesis by its name, with options of its config; ValueError for unknown names, options, values."""
    if name not in HYPOTHESES:
        raise ValueError(f"hypothesis {name!r} is unknown: use one of {', '.join(HYPOTHESES)}")
    known = [field.name for field in dataclasses.fields(CONFIGS[name])]
    unknown = [option for option in options if option not in known]
    if unknown:
        raise ValueError(
            f"hypothesis {name!r} has no option {', '.join(unknown)}: it knows {', '.join(known) or 'none'}"
        )
    return HYPOTHESES[name](CONFIGS[name](**options))


def _require_positive(config: Any, *names: str) -> None:
    for name in names:
        if not getattr(config, name) > 0:
            raise ValueError(f"{name}={getattr(config, name)} must be greater than 0")


def _require_not_negative(config: Any, *names: str) -> None:
    for name in names:
        if not getattr(config, name) >= 0:
            raise ValueError(f"{name}={getattr(config, name)} must be 0 or greater")
