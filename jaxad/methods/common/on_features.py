"""Detectors whose first part is fixed: a network's features, or smaller images, before what is fitted or trained.

score(x) = inner score of (f(x) - mean) / sd        f: features of patches, mean and sd over the training images at
                                                    each place, or at all (`jaxad.nn.standard`)
"""

import chex
import jax

from jaxad.data.batches import map_batches
from jaxad.methods.common.host import reduced
from jaxad.methods.common.patch_features import FeatureConfig, make_feature_stage
from jaxad.methods.common.upsample import to_pixels
from jaxad.nn.standard import standard, standardised
from jaxad.types import Array, Batch, Detector, Info, Key, Params, Stage, StagedState

FEATURE_BATCH = 8  # images that pass a stage together inside compiled programs


def on_features(inner: Detector, features: FeatureConfig, *, blur: float = 0.0) -> Detector:
    """The detector of images [B, H, W, C] that `inner` is of their standardised patch features [B, h, w, F].

    Args:
      inner: whose `score_map`, where it has one, is enlarged to the images' size.
      features: which features.
      blur: smoothing of anomaly maps, a standard deviation as a share of the image's longer side.
    """
    return after_stage(make_feature_stage(features, inner), blur=blur)


def after_stage(stage: Stage, *, blur: float = 0.0) -> Detector:
    """The detector whose fixed first part is this stage."""
    inner = stage.inner
    stage = stage._replace(enlarge=lambda maps, size: to_pixels(maps, size, blur))

    @jax.jit  # traced once for what makes the state and what scores with it
    def raw(network: Params, images: Array) -> Array:
        return stage.assemble(stage.outputs(network, images))

    def maps_of(state: StagedState, images: Array) -> Array:
        return standardised(raw(state.network, images), state.centre, state.scale)

    def init(key: Key, images: Array) -> StagedState:
        chex.assert_rank(images, 4)
        network_key, inner_key = jax.random.split(key)
        network = stage.init(network_key, images)
        maps = map_batches(lambda batch: raw(network, batch), images, FEATURE_BATCH)
        centre, scale = standard(maps, stage.standardise)
        return StagedState(network, centre, scale, inner.init(inner_key, standardised(maps, centre, scale)))

    def step(key: Key, state: StagedState, batch: Batch) -> tuple[StagedState, Info]:
        trained, info = inner.step(key, state.inner, Batch(maps_of(state, batch.images), batch.labels))
        return state._replace(inner=trained), info

    def calibrate(state: StagedState, images: Array) -> StagedState:
        chex.assert_rank(images, 4)
        maps = map_batches(lambda batch: maps_of(state, batch), images, FEATURE_BATCH)
        return state._replace(inner=inner.calibrate(state.inner, maps))

    def score(state: StagedState, images: Array) -> Array:
        return inner.score(state.inner, maps_of(state, images))

    def score_map(state: StagedState, images: Array) -> Array:
        return stage.enlarge(inner.score_map(state.inner, maps_of(state, images)), images.shape[1:3])

    transient = tuple(f"inner.{name}" for name in inner.transient)
    return Detector(init, step, calibrate, score, inner.score_map and score_map, transient, stage)


def reduction_stage(side: int, inner: Detector) -> Stage:
    """Images with neither side longer than `side` pixels as the fixed first part of a detector."""
    return Stage(
        f"reduced to {side}",
        init=lambda key, images: (),
        outputs=lambda params, images: (reduced(images, side),),
        assemble=lambda outputs: outputs[0],
        inner=inner,
        standardise=None,
    )
