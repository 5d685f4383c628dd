"""Methods that learn to segment from a few masks, side by side: how each is made from one set of settings, and trained.

nbs             neural batch sampling: a policy chooses the patches that an autoencoder learns from
uniform         the same with patches drawn at random from all images, in place of the policy
normal          the same with patches drawn from normal regions of the labelled images
l2              an autoencoder trained on all images
pca             principal components of all images, the yardstick
linear_patches  those of features of all their patches, by the best network whose weights are on this machine
unet            a U-Net trained on the labelled images

To l2, pca and linear_patches masks serve to choose the threshold alone.
"""

import dataclasses
import functools
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import numpy as np

from jaxad._utils.validate import check_at_least
from jaxad.data.protocols.few_masks import LabelledTask
from jaxad.methods import DETECTORS
from jaxad.methods import nbs as sampling
from jaxad.methods.classical.pca import PCAConfig
from jaxad.methods.common.patch_features import FeatureConfig
from jaxad.methods.conv_autoencoder import ConvAutoencoderConfig
from jaxad.methods.linear_patches import LinearPatchesConfig
from jaxad.methods.nbs import CRFConfig, EnvironmentConfig, NBSConfig
from jaxad.methods.unet_segmenter import UNetSegmenterConfig
from jaxad.nn.crf import refine
from jaxad.runs import rivals
from jaxad.training.loop import fit
from jaxad.training.scoring import map_images
from jaxad.types import Detector, State

Method = Literal["nbs", "uniform", "normal", "l2", "pca", "linear_patches", "unet"]
STRATEGY = {"nbs": "learned", "uniform": "uniform", "normal": "normal"}
FITTED = ("pca", "linear_patches")  # by one pass
UNTAUGHT = ("l2", *FITTED)  # by masks, but for the threshold
MAP_BATCH = 32
LOOKS = 40  # at a training on its way


@dataclasses.dataclass(frozen=True, kw_only=True)
class SegmentersConfig:
    """Settings of all methods, which the configs of experiments inherit; small enough for a laptop by default."""

    nbs: NBSConfig = dataclasses.field(
        default_factory=lambda: NBSConfig(
            environment=EnvironmentConfig(patch=16, shift=6, window=32),
            code=32, width=0.125, predictor_width=0.5, sampler_width=0.5, batch=8, learning_rate=5e-3,
            predictor_updates=6, clone_steps=40, crf=CRFConfig(smooth_sd=1.0, bilateral_sd=20.0),
        )
    )  # fmt: skip
    """Settings of NBS and its variants, whose strategy is their own. Its CRF serves all methods that give logits."""
    steps: int = 80
    """Training steps of NBS and its variants."""
    checkpoints: int = 2
    """How often such a training is saved on its way."""
    l2: ConvAutoencoderConfig = dataclasses.field(
        default_factory=lambda: ConvAutoencoderConfig(widths=(16, 32, 32), latent_dim=32, steps=300)
    )
    """Settings of the l2 autoencoder."""
    unet: UNetSegmenterConfig = dataclasses.field(
        default_factory=lambda: UNetSegmenterConfig(width=0.25, levels=4, steps=300)
    )
    """Settings of the U-Net."""
    batch_size: int = 8
    """Number of images in one step of the l2 autoencoder and the U-Net."""

    def check(self) -> None:
        """Raise ValueError for values out of range."""
        self.nbs.check()
        self.l2.check()
        check_at_least(self, "steps", "checkpoints", "batch_size")
        if self.steps < self.nbs.profile:
            raise ValueError(f"--steps is {self.steps}; no profile is full before step {self.nbs.profile}")
        if self.checkpoints > self.steps:
            raise ValueError(f"--checkpoints is {self.checkpoints}; the most is --steps {self.steps}")


class Segmenter(NamedTuple):
    """A trained method."""

    method: Method
    name: str  # of its detector, in `DETECTORS`
    config: Any  # of the detector's config class
    detector: Detector
    state: State
    curves: dict[str, np.ndarray]  # fields of the info of NBS: [1, steps]; empty for the others


def check_methods(settings: SegmentersConfig, methods: tuple[Method, ...], task: LabelledTask) -> None:
    """Raise ValueError where images or masks do not fit a method or what refines its maps; nothing is trained."""
    if task.details.get("setting") == "clean" and not set(methods) <= set(UNTAUGHT):
        raise ValueError(
            f"--methods {' '.join(methods)}: --setting clean has no defect to learn from, which leaves --methods "
            f"{' '.join(UNTAUGHT)}"
        )
    form = jax.ShapeDtypeStruct((1, *task.labelled.images.shape[1:]), np.float32)
    if not set(methods) <= set(UNTAUGHT):  # all others may have the CRF behind them
        try:
            jax.eval_shape(
                functools.partial(refine, config=settings.nbs.crf),
                jax.ShapeDtypeStruct(form.shape[:3], np.float32),
                form,
            )
        except ValueError as error:
            raise ValueError(
                f"{error} (--nbs.crf.bilateral-sd, --nbs.crf.colour-sd, --nbs.crf.method exact)"
            ) from error
    for method in methods:
        name, config = _named(settings, method, task)
        if name == "nbs":
            _pool(config, task)
        else:
            jax.eval_shape(_detector(name, config).init, jax.random.key(0), form)


def train_segmenter(
    settings: SegmentersConfig,
    method: Method,
    task: LabelledTask,
    *,
    seed: int,
    path: Path,
    on_view: sampling.OnChunk | None = None,
) -> Segmenter:
    """Train a method; the same key for every method.

    Args:
      path: where NBS is saved on its way, to go on from there.
      on_view: called with NBS on its way, at every checkpoint and `LOOKS` times at least, see `train_nbs`.

    Raises:
      ValueError: what `check_methods` refuses; a training that diverges; a file of other settings.
    """
    (name, config), key, labelled = _named(settings, method, task), jax.random.key(seed), task.labelled
    if name == "nbs":
        detector = _detector(name, dataclasses.replace(config, strategy="learned"))  # maps depend on no strategy
        options = {"path": path, "steps": settings.steps, "checkpoints": settings.checkpoints}
        if on_view is not None:
            options |= {"on_chunk": on_view, "chunk": max(1, settings.steps // LOOKS)}
        trained = sampling.train_nbs_saved(config, key, _pool(config, task), **options)
        return Segmenter(method, name, config, detector, trained.state, trained.curves)
    detector, images, options = _detector(name, config), labelled.images, {"masks": labelled.masks}
    if method in UNTAUGHT:
        images, options = np.concatenate([images, task.unlabelled.images]), {}
    if method in FITTED:
        return Segmenter(method, name, config, detector, rivals.fitted(detector, images, key), {})
    state, history = fit(detector, key, images, steps=config.steps, batch_size=settings.batch_size, **options)
    if history.diverged:
        raise ValueError(f"{method} diverged with seed {seed}: lower --{method}.learning-rate")
    return Segmenter(method, name, config, detector, state, {})


def segmenter_maps(segmenter: Segmenter, task: LabelledTask) -> tuple[np.ndarray, np.ndarray]:
    """Maps of the labelled images [n, H, W] and of those to test on [m, H, W]."""
    if segmenter.name == "nbs" and np.array_equal(task.unlabelled.ids, task.test.ids):  # training has seen them all
        maps = np.asarray(jax.jit(sampling.known_logits, static_argnums=0)(segmenter.config, segmenter.state))
        return maps[: len(task.labelled.ids)], maps[len(task.labelled.ids) :]
    return image_maps(segmenter, task.labelled.images), image_maps(segmenter, task.test.images)


def image_maps(segmenter: Segmenter, images: np.ndarray) -> np.ndarray:
    """Maps [N, H, W] of any images [N, H, W, C]."""
    return map_images(segmenter.detector, segmenter.state, images, MAP_BATCH)


def _named(settings: SegmentersConfig, method: Method, task: LabelledTask) -> tuple[str, Any]:
    """The name of a method's detector, and its config."""
    if method in STRATEGY:
        return "nbs", dataclasses.replace(settings.nbs, strategy=STRATEGY[method])
    match method:
        case "l2":
            return "conv_autoencoder", settings.l2
        case "pca":
            return method, rivals.with_room_for(len(task.labelled.ids) + len(task.unlabelled.ids), PCAConfig())
        case "linear_patches":
            shape = task.labelled.images.shape[1:]
            known = FeatureConfig() if shape[2] in (1, 3) else FeatureConfig(backbone="random")
            return method, LinearPatchesConfig(features=rivals.features_for(known, shape))
    return "unet_segmenter", settings.unet


def _pool(config: NBSConfig, task: LabelledTask) -> sampling.ImagePool:
    """The images that NBS trains on; ValueError where they do not fit."""
    return sampling.make_image_pool(config, task.labelled.images, task.labelled.masks, task.unlabelled.images)


@functools.cache
def _detector(name: str, config: Any) -> Detector:
    """One detector, and so one compiled program, for all seeds."""
    return DETECTORS[name].build(config)
