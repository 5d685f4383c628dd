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
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxad._utils import compile as backend
from jaxad._utils import files
from jaxad.data.images import resize
from jaxad.methods.autoencoder import autoencoder
from jaxad.methods.common.patch_features import FeatureConfig, make_features
from jaxad.methods.common.refinement import grad_cam, principal_object, refine
from jaxad.metrics.pixel import pixel_auroc
from jaxad.nn import efficientnet, pretrained
from jaxad.nn.architecture import Architecture, Layer
from jaxad.report.common import made_parts
from jaxad.report.html import Figure, Section, Table, Text, page
from jaxad.report.plots import image_rows
from jaxad.runs import cli
from jaxad.runs import folder as runs
from jaxad.runs.progress import Progress, table
from jaxad.training.augment import random_transforms, warp
from jaxad.training.loop import fit
from jaxad.training.scoring import map_images
from jaxad.types import Array, Key


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(cli.RunConfig):
    """Refine error maps, and measure what that does."""

    preset: Literal["default", "smoke"] = "default"
    """Where flags are not given: default (minutes), smoke (seconds)."""
    backbone: Literal["auto", "efficientnet_lite0", "random"] = "auto"
    """The classifier: with pretrained weights, with random ones, or auto, pretrained where they are installed."""
    side: int = 96
    """Pixels of a side of what the autoencoder sees."""
    views: int = 64
    """Of each photograph, turned, shifted and sheared, to train on."""
    steps: int = 300
    """Training steps of the autoencoder."""
    draws: int = 8
    """Of each photograph, with foreign things in other places, to test on."""
    seed: int = 0
    """Decides everything random: same seed, same result."""

    def check(self) -> None:
        """Raise ValueError for values out of range."""
        for name, least in (("side", 32), ("views", 1), ("steps", 1), ("draws", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"--{name} is {getattr(self, name)}; the least is {least}")


PRESETS: dict[str, dict[str, Any]] = {
    "default": {},
    "smoke": {"side": 32, "views": 4, "steps": 3, "draws": 1, "backbone": "random"},
}
CLASSIFIED = 224  # pixels of a side of what the classifier sees
RADIUS, JITTER = 0.07, 0.04  # of a foreign disc and of its place, in sides of the photograph
LAYERS = tuple(
    Layer(channels=channels, kernel=3, pool="average", pool_kernel=3, norm="none", activation="elu")
    for channels in (16, 32)
)
MAPS = ("error", "error x (1 - L)", "error x s", "refined (Eq. 20)")


class Scene(NamedTuple):
    """A photograph, and where in it (row, column, in sides) a foreign thing is put."""

    on: tuple[float, float]  # the thing that the photograph shows
    off: tuple[float, float]  # its background


SCENES = {
    "chelsea": Scene((0.35, 0.55), (0.9, 0.08)),
    "coffee": Scene((0.38, 0.48), (0.1, 0.9)),
    "astronaut": Scene((0.65, 0.35), (0.15, 0.93)),
    "flower": Scene((0.45, 0.45), (0.15, 0.12)),
}


def photographs() -> np.ndarray:
    """[4, 224, 224, 3] uint8, the middle squares of the photographs of `SCENES`."""
    from skimage import data
    from sklearn.datasets import load_sample_image

    made = []
    for name in SCENES:
        image = load_sample_image("flower.jpg") if name == "flower" else getattr(data, name)()
        side = min(image.shape[:2])
        top, left = ((length - side) // 2 for length in image.shape[:2])
        made.append(resize(image[None, top : top + side, left : left + side], CLASSIFIED)[0])
    return np.stack(made)


def disturbed(photos: np.ndarray, draws: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Photographs with foreign discs, and masks of those on the thing and on the background: [4 draws, ...] each.

    A disc is a piece of another photograph.
    """
    images, on, off = [], [], []
    rows, columns = np.mgrid[:CLASSIFIED, :CLASSIFIED] / CLASSIFIED
    for index, scene in enumerate(SCENES.values()):
        for _ in range(draws):
            image = photos[index].copy()
            other = photos[rng.choice([i for i in range(len(photos)) if i != index])]
            shift = rng.integers(0, CLASSIFIED, 2)
            masks = []
            for place in scene:
                row, column = np.asarray(place) + rng.uniform(-JITTER, JITTER, 2)
                masks.append(np.hypot(rows - row, columns - column) <= RADIUS)
                image[masks[-1]] = np.roll(other, shift, (0, 1))[masks[-1]]
            images.append(image)
            on.append(masks[0])
            off.append(masks[1])
    return np.stack(images), np.stack(on), np.stack(off)


# ---- what is known of photographs ------------------------------------------------------------------------------


class Knowledge(NamedTuple):
    """A network that knows things."""

    name: str
    features: Callable[[Array], Array]  # [B, 224, 224, 3] in [0, 1] -> places, for the segmentation
    last: Callable[[Array], Array]  # -> the last convolutional layer [B, h, w, F]
    head: Callable[[Array], Array]  # of that -> logits


def knowledge(config: Config, key: Key) -> Knowledge:
    """The network that was asked for. ValueError where its weights are not on this machine."""
    name, keys = config.backbone, jax.random.split(key)
    if name == "auto":
        try:
            pretrained.find("efficientnet_lite0")
            name = "efficientnet_lite0"
        except ValueError:
            name = "random"
    features = make_features(FeatureConfig(backbone=name, levels=3))
    example = jnp.zeros((1, CLASSIFIED, CLASSIFIED, 3))
    params = features.init(keys[0], example)
    if name == "random":
        width = jax.eval_shape(features.apply, params, example).shape[-1]
        dense = jax.random.normal(keys[1], (width, 10)) / np.sqrt(width)

        def places(images: Array) -> Array:
            return features.apply(params, images)

        return Knowledge(name, places, places, lambda maps: jnp.mean(maps, (1, 2)) @ dense)
    weights = efficientnet.from_state_dict(pretrained.load(name))
    return Knowledge(
        name,
        lambda images: features.apply(params, images),
        lambda images: efficientnet.stages(weights, images, [len(efficientnet.BLOCKS) - 1])[0],
        lambda maps: efficientnet.head(weights, maps),
    )


def learnt(config: Config, photos: np.ndarray, key: Key) -> Callable[[np.ndarray], np.ndarray]:
    """Error maps [B, side, side] of images, by an autoencoder that has learnt the photographs."""
    keys = jax.random.split(key)
    views = jnp.repeat(jnp.asarray(photos, jnp.float32) / 255, config.views, 0)
    turned = jax.jit(lambda key, views: warp(views, random_transforms(key, len(views))))(keys[0], views)
    train = resize(np.clip(np.asarray(turned), 0, 1), config.side)
    architecture = Architecture(hypothesis="reconstruction", distance="l2", layers=LAYERS)
    detector = autoencoder(architecture=architecture, steps=config.steps)
    with Progress(config.steps, label="train", quiet=config.quiet) as progress:
        options = {"steps": config.steps, "batch_size": min(16, len(train)), "chunk": 20}
        state, history = fit(
            detector,
            keys[1],
            train,
            on_chunk=lambda done, info: progress.update(done, note=f"{info.loss:.4f}"),
            **options,
        )
    if history.diverged:
        raise ValueError("the autoencoder diverged: give other --steps or --seed")
    state = jax.jit(detector.calibrate, compiler_options=backend.kernel_options() or None)(state, train)
    return lambda images: map_images(detector, state, resize(images, config.side), 16)


# ---- the experiment --------------------------------------------------------------------------------------------


def run(config: Config) -> None:
    """The whole experiment."""
    config.check()
    keys = jax.random.split(jax.random.key(config.seed))
    knows = knowledge(config, keys[0])
    with config.open_folder("refinement") as folder:
        if config.finds_finished(folder):
            return
        config.say(f"classifier: {knows.name}", f"run folder: {folder.path}")
        backend.enable_compilation_cache(config.cache_dir)
        started = time.monotonic()
        photos = photographs()
        images, on, off = disturbed(photos, config.draws, np.random.default_rng(config.seed))
        errors = learnt(config, photos, keys[1])(images)
        maps, parts = refined(config, knows, images, errors)
        on, off = (resize(m[..., None].astype(np.float32), config.side)[..., 0] > 0.5 for m in (on, off))
        results = {
            "classifier": knows.name,
            "seed": config.seed,
            "images": len(images),
            "maps": {name: measured(values, on, off) for name, values in maps.items()},
            "seconds": time.monotonic() - started,
            "notes": notes(knows),
            **runs.environment(),
        }
        shown = slice(0, None, config.draws)  # one of each photograph
        write(folder, config, results, images[shown], {k: v[shown] for k, v in (maps | parts).items()})
        show(config, results, folder)


def refined(
    config: Config, knows: Knowledge, images: np.ndarray, errors: np.ndarray
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The four maps [N, side, side], and the maps L and s that they are made with."""

    def to_size(maps: Array) -> Array:
        return jnp.clip(jax.image.resize(maps, (maps.shape[0], config.side, config.side), "linear"), 0, 1)

    cam = jax.jit(lambda images: to_size(grad_cam(knows.last, knows.head, images)))
    places = jax.jit(knows.features)
    recognised, thing = [], []
    for start in range(0, len(images), config.draws):  # a photograph at a time
        batch = jnp.asarray(images[start : start + config.draws], jnp.float32) / 255
        recognised.append(cam(batch))
        thing.append(to_size(principal_object(np.asarray(places(batch)))))
    recognised, thing = jnp.concatenate(recognised), jnp.concatenate(thing)
    made = (errors, refine(errors, recognised), refine(errors, None, thing), refine(errors, recognised, thing))
    parts = {"L, recognised by": recognised, "s, the thing": thing}
    return dict(zip(MAPS, map(np.asarray, made))), {name: np.asarray(part) for name, part in parts.items()}


def measured(maps: np.ndarray, on: np.ndarray, off: np.ndarray) -> dict[str, Any]:
    """How well maps find what is foreign on the thing, image by image.

    "auroc": of its pixels against all others of the image; "ratio": mean of its pixels over those of what is foreign on
    the background, None where the latter are all 0; "background": how much of a map's sum lies on that.
    """
    aurocs = [pixel_auroc(m[None], mask[None]) for m, mask in zip(maps, on)]
    there, elsewhere = maps[on].mean(), maps[off].mean()
    shares = [m[mask].sum() / max(m.sum(), 1e-12) for m, mask in zip(maps, off)]
    return {
        "auroc": {"mean": float(np.mean(aurocs)), "sd": float(np.std(aurocs, ddof=1))},
        "auroc_of_each": {
            name: float(np.mean(part)) for name, part in zip(SCENES, np.split(np.array(aurocs), len(SCENES)))
        },
        "ratio": float(there / elsewhere) if elsewhere > 0 else None,
        "background": float(np.mean(shares)),
    }


def notes(knows: Knowledge) -> list[str]:
    """What a reader should know before comparing the figures with others."""
    lines = ["Photographs and places of foreign things were chosen by hand, before any map was seen."]
    if knows.name == "random":
        lines.append("L and s come from random weights: no pretrained ones were used, and they mean little.")
    return lines


def write(
    folder: runs.Run, config: Config, results: dict[str, Any], images: np.ndarray, maps: dict[str, np.ndarray]
) -> None:
    """The page and, last, the results."""
    scale = {name: np.quantile(values, 0.995) if name.startswith("error") else 1.0 for name, values in maps.items()}
    scale[MAPS[-1]] = scale[MAPS[0]]  # refined maps are darker: on the scale of what they were made of
    rows = [("photograph", resize(images, config.side).astype(np.float32) / 255)]
    rows += [(name, (values / scale[name]).clip(0, 1)[..., None]) for name, values in maps.items()]
    caption = "Foreign things on what a photograph shows and on its background, and where maps see them."
    drawing = image_rows(rows, titles=tuple(SCENES))
    sections = [
        Section(title="Maps", parts=[Figure(drawing=drawing, alt=caption, caption=caption, wide=True)]),
        Section(title="Figures", parts=[Table(columns=COLUMNS, rows=rows_of(results)), *map(_text, results["notes"])]),
        Section(
            title="How this was made",
            parts=made_parts(files.to_json(config) | {"resume": None}, results, "python experiments/refinement.py"),
        ),
    ]
    before, after = (results["maps"][name]["auroc"]["mean"] for name in (MAPS[0], MAPS[-1]))
    verdict = f"AUROC of foreign pixels on the thing: {before:.3f} by errors alone, {after:.3f} refined"
    title = "Refined error maps"
    files.write_text(folder.path / "report.html", page(title, f"{verdict} ({results['classifier']}).", sections))
    files.write_json(folder.path / "results.json", results)


COLUMNS = ("map", "AUROC", "sd", *SCENES, "on thing / on background", "share on background")


def rows_of(results: dict[str, Any]) -> list[tuple[Any, ...]]:
    """A row for every map."""
    return [
        (name, m["auroc"]["mean"], m["auroc"]["sd"], *m["auroc_of_each"].values(), m["ratio"], m["background"])
        for name, m in results["maps"].items()
    ]


def _text(note: str) -> Text:
    return Text(text=note, tone="quiet")


def show(config: Config, results: dict[str, Any], folder: runs.Run) -> None:
    """The result, for the terminal."""
    if not config.quiet:
        table(f"{results['images']} images, classifier {results['classifier']}", COLUMNS, rows_of(results))
        print(f"report:   {folder.path / 'report.html'}")


if __name__ == "__main__":
    cli.main(run, Config, presets=PRESETS)
