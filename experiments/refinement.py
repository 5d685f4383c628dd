"""Refine the error maps of an autoencoder (AutoAD, Eq. 20 and Fig. 4), on photographs that come with the libraries.

    python experiments/refinement.py                       # pretrained features where they are installed
    python experiments/refinement.py --backbone random     # without

An autoencoder learns four photographs, turned, shifted and sheared. Then something foreign is put on the thing that
each of them shows, and the same on its background. Both are reconstructed badly; the first is to be found, the second
not. The map of errors is taken as it is, times 1 - L, what the classifier does not recognise the thing by (Grad-CAM),
times s, where the thing is, and times both. Without pretrained weights L and s come from random ones, and mean little.

The paper has s from DeepLabV3 and L from VGG-16; here both come from EfficientNet-lite0, s from its features alone.
"""

import dataclasses
import time
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from jaxad import report
from jaxad._utils.memory import check_memory
from jaxad._utils.validate import check_at_least
from jaxad.data.foreign import SCENES, disturb, photographs
from jaxad.data.images import resize
from jaxad.methods.autoencoder import autoencoder
from jaxad.methods.common.knowledge import SIDE, make_knowledge, measure_maps, refined_maps
from jaxad.nn.architecture import Architecture, Layer
from jaxad.runs import cli
from jaxad.runs.progress import Progress, table
from jaxad.runs.runner import finish, made_by, say_end, session
from jaxad.training.augment import random_transforms, warp
from jaxad.training.calibration import calibrate
from jaxad.training.loop import fit
from jaxad.training.scoring import map_images
from jaxad.types import Key


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(cli.RunConfig):
    """Refine error maps, and measure what that does."""

    preset: Literal["default", "smoke"] = "default"
    """Settings where flags give none: default (minutes), smoke (seconds)."""
    backbone: Literal["auto", "efficientnet_lite0", "random"] = "auto"
    """Weights of the classifier: pretrained, random, or auto, which is pretrained where these are installed."""
    side: int = 96
    """Pixels of a side of what the autoencoder sees."""
    views: int = 64
    """Number of views of each photograph, turned, shifted and sheared, to train on."""
    steps: int = 300
    """Training steps of the autoencoder."""
    draws: int = 8
    """Number of times that each photograph is tested, with foreign things in other places."""
    seed: int = 0
    """Seed of everything random: the same seed gives the same result."""

    def check(self) -> None:
        """Raise ValueError for values out of range."""
        check_at_least(self, "side", least=32)
        check_at_least(self, "views", "steps", "draws")
        views = len(SCENES) * self.views
        needed = views * self.side**2 * 3 * np.dtype(np.float32).itemsize
        said = f"{views} views of {self.side}x{self.side} pixels"
        check_memory(needed, said, "give a smaller --side, or fewer --views")


PRESETS: dict[str, dict[str, Any]] = {
    "default": {},
    "smoke": {"side": 32, "views": 4, "steps": 3, "draws": 1, "backbone": "random"},
}
LAYERS = tuple(
    Layer(channels=channels, kernel=3, pool="average", pool_kernel=3, norm="none", activation="elu")
    for channels in (16, 32)
)


def learn(config: Config, photos: np.ndarray, key: Key) -> Callable[[np.ndarray], np.ndarray]:
    """Error maps [B, side, side] of images, by an autoencoder that has learnt the photographs."""
    keys = jax.random.split(key)
    views = jnp.repeat(jnp.asarray(photos, jnp.float32) / 255, config.views, 0)
    turned = jax.jit(lambda key, views: warp(views, random_transforms(key, len(views))))(keys[0], views)
    train = resize(np.clip(np.asarray(turned), 0, 1), config.side)
    architecture = Architecture(hypothesis="reconstruction", distance="l2", layers=LAYERS)
    detector = autoencoder(architecture=architecture, steps=config.steps)
    with Progress(config.steps, label="train", quiet=config.quiet) as progress:
        state, history = fit(
            detector, keys[1], train, steps=config.steps, batch_size=min(16, len(train)), chunk=20,
            on_chunk=lambda done, info: progress.update(done, note=f"{info.loss:.4f}"),
        )  # fmt: skip
    if history.diverged:
        raise ValueError("the autoencoder diverged: give other --steps or --seed")
    state = calibrate(detector, state, train)
    return lambda images: map_images(detector, state, resize(images, config.side), 16)


def run(config: Config) -> None:
    """The whole experiment."""
    config.check()
    keys = jax.random.split(jax.random.key(config.seed))
    knowledge = make_knowledge(config.backbone, keys[0])
    photos = photographs(SIDE)
    images, on, off = disturb(photos, config.draws, np.random.default_rng(config.seed))
    with session(config, "refinement", f"classifier: {knowledge.name}", data=photos) as folder:
        if folder is None:
            return
        started = time.monotonic()
        errors = learn(config, photos, keys[1])(images)
        maps, parts = refined_maps(knowledge, images, errors, config.draws)  # a photograph at a time
        on, off = (resize(mask[..., None].astype(np.float32), config.side)[..., 0] > 0.5 for mask in (on, off))
        notes = ["Photographs and places of foreign things were chosen by hand, before any map was seen."]
        if knowledge.name == "random":
            notes.append("L and s come from random weights: no pretrained ones were used, and they mean little.")
        results = {
            "classifier": knowledge.name,
            "seed": config.seed,
            "images": len(images),
            "maps": {name: measure_maps(values, on, off, tuple(SCENES)) for name, values in maps.items()},
            "seconds": time.monotonic() - started,
            "notes": notes,
        }
        shown = slice(0, None, config.draws)  # one of each photograph

        def page(results: dict[str, Any]) -> str:
            drawn = {name: values[shown] for name, values in (maps | parts).items()}
            pictures = dict(zip(SCENES, images[shown]))
            return report.render_refinement(results=results, photographs=pictures, maps=drawn, **made_by(config))

        results = finish(folder, results, page)
        if not config.quiet:
            title = f"{len(images)} images, classifier {knowledge.name}"
            table(title, *report.refinement_table(results))
        say_end(config, folder, scores=False)


if __name__ == "__main__":
    cli.main(run, Config, presets=PRESETS)
