"""Any architecture of the search space as a detector of its own (AutoAD, Eq. 2).

    score = DIST(g(f(x)), x) + lambda * REG(f(x))

The same child as in the search, with weights of its own (and no Flax module: `nn.autoencoder` says why). In training,
batch normalisation uses the batch; a score must not depend on which other images are scored with it, so `calibrate`
freezes the statistics.

Use it to train anew what a search has found, on the same images or others (`--architecture RUN`), or an architecture
that you have chosen by hand.
"""

import dataclasses
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax
from jax import lax

from jaxad.data.batches import batches, map_batches, window
from jaxad.methods.common.on_features import after_stage, reduction_stage
from jaxad.methods.common.patch_features import FeatureConfig, make_feature_stage
from jaxad.methods.registry import detector
from jaxad.nn import autoencoder as network
from jaxad.nn.architecture import Architecture, Layer
from jaxad.nn.layers import Moments
from jaxad.nn.objectives import make_hypothesis
from jaxad.nn.objectives.child import ChildConfig, make_child, make_optimiser
from jaxad.nn.objectives.distances import get_distance
from jaxad.types import Array, Batch, Detector, Key, Params, Stage

CALIBRATION_BATCH = 64  # images whose joint statistics batch normalisation sees, as many as in training


@dataclasses.dataclass(frozen=True, kw_only=True)
class AutoencoderConfig:
    """What is trained, and how. Raises ValueError for values out of range."""

    architecture: Architecture
    """Hypothesis, distance and layers: found by a search, or your own."""
    child: ChildConfig = dataclasses.field(default_factory=ChildConfig)
    """The objective and the optimiser."""
    steps: int = 1000
    """Training steps that the learning-rate schedule is made for."""
    features: FeatureConfig | None = None
    """Features of patches, for an architecture whose input is one of their levels; by default the best there are."""
    side: int | None = None
    """Images with a longer side are reduced to it, for an architecture whose input is pixels; by default they stay."""

    def __post_init__(self) -> None:
        if not isinstance(self.architecture, Architecture):
            raise ValueError(f"architecture is {self.architecture!r}; give a jaxad.nas.space.Architecture")
        if self.steps < 1:
            raise ValueError(f"steps is {self.steps}; the least is 1")
        if self.side is not None and self.side < 1:
            raise ValueError(f"side is {self.side}; the least is 1")
        if self.architecture.input != "pixels" and self.features is None:
            # Settled at once: what is saved has to say what it was trained on.
            object.__setattr__(self, "features", FeatureConfig())


class AutoencoderState(NamedTuple):
    """All that training and scoring need."""

    params: Params  # {"encoder", "decoder", "projection", "hypothesis"}
    opt_state: optax.OptState
    step: Array  # int32, steps trained
    moments: tuple[Moments, ...]  # of each batch normalisation, frozen for scoring
    stats: Any  # of the hypothesis, frozen for scoring


class AutoencoderInfo(NamedTuple):
    """One training step: scalars."""

    loss: Array  # distance + lambda * regulariser
    distance: Array
    regulariser: Array
    gradient_norm: Array


LAYER = Layer(channels=8, kernel=3, pool="average", pool_kernel=3, norm="batch", activation="elu")
TINY = {
    "density": AutoencoderConfig(architecture=Architecture(hypothesis="density", distance="l2", layers=(LAYER,))),
    "centroid": AutoencoderConfig(
        architecture=Architecture(
            hypothesis="centroid", distance="l1", layers=(dataclasses.replace(LAYER, norm="instance"),)
        )
    ),
}


@detector(
    "autoencoder",
    "Any architecture of the search space (Li et al., TNNLS 2022).",
    config=AutoencoderConfig,
    tiny=TINY,
)
def autoencoder(config: AutoencoderConfig | None = None, **fields: Any) -> Detector:
    """The detector of a config, of its fields (`autoencoder(architecture=...)`), or of a config with changed fields.

    `init` starts hypothesis and statistics from its images, so that every state can score; `calibrate` fits them to
    the trained weights, on images [n, H, W, C] known to be normal: moments of batch normalisation as means over
    batches of about 64 (Wu & Johnson 2021, "precise batch norm"; the paper says nothing), then the statistics of the
    hypothesis on all latents. Images may be uint8 there, which takes a quarter of the memory.
    `score` is Eq. 2 for one image, its distance by the architecture's aggregate; `score_map` is the map of the distance
    alone. Images are what the architecture's input says: pixels, or maps of features.
    """
    config = AutoencoderConfig(**fields) if config is None else dataclasses.replace(config, **fields)
    inner = _autoencoder_of_inputs(config)
    if (stage := input_stage(config, inner)) is None:
        return inner
    return after_stage(stage)


def input_stage(config: AutoencoderConfig, inner: Detector | None) -> Stage | None:
    """What makes of images what the architecture sees; None where it sees them as they are."""
    if config.architecture.input == "pixels":
        return None if config.side is None else reduction_stage(config.side, inner)
    return make_feature_stage(dataclasses.replace(config.features, use=config.architecture.input), inner)


def _autoencoder_of_inputs(config: AutoencoderConfig) -> Detector:
    """The same, of what the architecture sees: images [B, H, W, C], or maps of features."""
    architecture = config.architecture
    child = make_child(architecture, config.child)
    optimiser = make_optimiser(config.child, config.steps)
    distance, hypothesis = get_distance(architecture.distance), make_hypothesis(architecture.hypothesis)

    def init(key: Key, images: Array) -> AutoencoderState:
        chex.assert_rank(images, 4)
        params = child.init(key, images)
        return calibrate(AutoencoderState(params, optimiser.init(params), jnp.int32(0), (), ()), images)

    def step(key: Key, state: AutoencoderState, batch: Batch) -> tuple[AutoencoderState, AutoencoderInfo]:
        chex.assert_rank(batch.images, 4)
        gradient = jax.value_and_grad(child.loss, has_aux=True)
        (loss, terms), gradients = gradient(state.params, batch.images, state.step)
        updates, opt_state = optimiser.update(gradients, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        norm = jnp.sqrt(sum(jnp.vdot(leaf, leaf) for leaf in jax.tree.leaves(gradients)))
        info = AutoencoderInfo(loss, terms.distance, terms.regulariser, norm)
        return state._replace(params=params, opt_state=opt_state, step=state.step + 1), info

    def calibrate(state: AutoencoderState, images: Array) -> AutoencoderState:
        chex.assert_rank(images, 4)
        images = jnp.asarray(images)  # NumPy arrays cannot be indexed by traced numbers
        count = batches(images.shape[0], CALIBRATION_BATCH)
        size = batches(images.shape[0], count)  # of equal size: hardly any image is counted twice

        def moments_of(index: Array) -> tuple[Moments, ...]:
            return child.apply(state.params, window(images, index, size)).moments

        moments = _merge(lax.map(moments_of, jnp.arange(count)))

        def latents_of(batch: Array) -> Array:
            return apply(architecture, state._replace(moments=moments), batch, with_decoder=False).latent

        latents = map_batches(latents_of, images, CALIBRATION_BATCH)
        return state._replace(moments=moments, stats=hypothesis.fit(state.params["hypothesis"], latents))

    def score(state: AutoencoderState, images: Array) -> Array:
        chex.assert_rank(images, 4)
        return child.score(state.params, state.stats, images, state.moments)

    def score_map(state: AutoencoderState, images: Array) -> Array:
        chex.assert_rank(images, 4)
        output = child.apply(state.params, images, state.moments)
        return jax.vmap(distance.map)(output.reconstruction, images)

    return Detector(init, step, calibrate, score, score_map, transient=("opt_state",))


def reconstruct(architecture: Architecture, state: AutoencoderState, images: Array) -> Array:
    """What the autoencoder makes of images [B, H, W, C] float32: same shape, not clipped to [0, 1]."""
    chex.assert_rank(images, 4)
    return apply(architecture, state, images).reconstruction


def apply(
    architecture: Architecture, state: AutoencoderState, images: Array, *, with_decoder: bool = True
) -> network.Output:
    """The network with its frozen statistics, see `nn.autoencoder.apply`."""
    return network.apply(
        state.params,
        architecture.layers,
        images,
        extra=architecture.extra,
        moments=state.moments,
        with_decoder=with_decoder,
    )


def _merge(moments: tuple[Moments, ...]) -> tuple[Moments, ...]:
    """Moments of all images from those of batches of equal size, stacked on the first axis."""
    # The variance of a mixture: within batches plus between them, which no cancellation can make negative.
    return tuple(
        Moments(jnp.mean(part.mean, 0), jnp.mean(part.variance, 0) + jnp.var(part.mean, 0)) for part in moments
    )
