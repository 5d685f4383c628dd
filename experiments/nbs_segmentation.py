"""Segment defects from a handful of labelled images by neural batch sampling (NBS), beside simpler ways.

    python experiments/nbs_segmentation.py                                       # painted brick, offline, minutes
    python experiments/nbs_segmentation.py --dataset pairs:crackforest --image-size 64 96
    python experiments/nbs_segmentation.py --dataset mvtec:mvtec/tile --preset paper            # for a GPU
    python experiments/nbs_segmentation.py --repetitions 3                       # with intervals, three times as long
    python experiments/nbs_segmentation.py --setting inductive                   # test on images that no training saw
    python experiments/nbs_segmentation.py --preset smoke                        # see everything happen in a minute
    python experiments/nbs_segmentation.py --resume runs/nbs-20260101-120000

Of every seed all methods have the same labelled, unlabelled and test images. "uniform" and "normal" are NBS with
patches drawn at random, from all images or from normal labelled regions, in place of the learned sampler; "l2" is an
autoencoder trained on all images, "unet" a U-Net trained on the labelled ones. Thresholds, and whether a CRF follows,
are chosen on the labelled images alone. A finished training is never repeated. All is in the run folder: open
report.html, and score new images with `python experiments/detect.py RUN images...`.
"""

import dataclasses
import functools
import time
from typing import Any, Literal, NamedTuple

import jax
import numpy as np

from jaxad import report
from jaxad._utils import compile as backend
from jaxad._utils import files
from jaxad.data.batches import to_float
from jaxad.data.protocols import few_masks
from jaxad.data.protocols.few_masks import LabelledTask
from jaxad.methods import DETECTORS
from jaxad.methods import nbs as sampling
from jaxad.methods.conv_autoencoder import ConvAutoencoderConfig
from jaxad.methods.nbs import CRFConfig, EnvironmentConfig, NBSConfig, NBSInfo
from jaxad.methods.unet_segmenter import UNetSegmenterConfig
from jaxad.metrics import thresholds
from jaxad.metrics.pixel import pixel_scores, summarise_segmentation
from jaxad.report import overlays
from jaxad.runs import cli
from jaxad.runs import folder as runs
from jaxad.runs import segmentation as segmenting
from jaxad.runs.progress import Progress, table
from jaxad.runs.saving import save_detector
from jaxad.training.loop import fit
from jaxad.training.scoring import map_images
from jaxad.types import Detector, State

Method = Literal["nbs", "uniform", "normal", "l2", "unet"]
STRATEGY = {"nbs": "learned", "uniform": "uniform", "normal": "normal"}
SHOWN = 8  # images of a row
MAP_BATCH = 32


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(cli.RunConfig):
    """Segment defects from a handful of labelled images."""

    dataset: str = "painted:brick:64"
    """painted:TEXTURE:SIZE (brick, grass, gravel), pairs:DIR (images/ and masks/), mvtec:DIR/CATEGORY, npz:FILE."""
    labelled: int = 5
    """Images with masks."""
    setting: Literal["transductive", "inductive"] = "transductive"
    """Test on the unlabelled images, as the thesis does, or on images that no training saw."""
    image_size: tuple[int, int] | None = None
    """Resize images to this height and width."""
    limit: int | None = None
    """Use at most so many images in all."""

    preset: Literal["default", "smoke", "paper"] = "default"
    """Where flags are not given: default (minutes on a laptop), smoke (a minute), paper (for a GPU)."""
    methods: tuple[Method, ...] = ("nbs", "uniform", "normal", "l2", "unet")
    """What to compare; the first is the one that is saved and shown."""
    seed: int = 0
    """Decides everything random: same seed, same result."""
    repetitions: int = 1
    """From this seed and those after it, each with labelled images (and painted defects) and weights of its own."""
    nbs: NBSConfig = dataclasses.field(
        default_factory=lambda: NBSConfig(
            environment=EnvironmentConfig(patch=16, shift=6, window=32),
            code=32, width=0.125, predictor_width=0.5, sampler_width=0.5, batch=8, learning_rate=5e-3,
            predictor_updates=6, clone_steps=40, crf=CRFConfig(smooth_sd=1.0, bilateral_sd=20.0),
        )
    )  # fmt: skip
    """Settings of NBS and its variants, whose strategy is their own; its CRF is used for all that give logits."""
    steps: int = 80
    """Training steps of NBS and its variants."""
    evals: int = 2
    """Checkpoints of such a training."""
    l2: ConvAutoencoderConfig = dataclasses.field(
        default_factory=lambda: ConvAutoencoderConfig(widths=(16, 32, 32), latent_dim=32, steps=300)
    )
    """Settings of the l2 autoencoder."""
    unet: UNetSegmenterConfig = dataclasses.field(
        default_factory=lambda: UNetSegmenterConfig(width=0.25, levels=4, steps=300)
    )
    """Settings of the U-Net."""
    batch_size: int = 8
    """Images of a step of the l2 autoencoder and the U-Net."""

    def check(self) -> None:
        """Raise ValueError for values out of range."""
        self.nbs.check()
        self.l2.check()
        for name in ("steps", "evals", "batch_size", "repetitions"):
            if getattr(self, name) < 1:
                raise ValueError(f"--{name.replace('_', '-')} is {getattr(self, name)}; the least is 1")
        if self.steps < self.nbs.profile:
            raise ValueError(f"--steps is {self.steps}; no profile is full before step {self.nbs.profile}")
        if self.evals > self.steps:
            raise ValueError(f"--evals is {self.evals}; the most is --steps {self.steps}")
        if not self.methods or len(set(self.methods)) < len(self.methods):
            raise ValueError(f"--methods are {' '.join(self.methods) or 'none'}; give each once, at least one")

    @property
    def seeds(self) -> tuple[int, ...]:
        """One for each repetition."""
        return tuple(range(self.seed, self.seed + self.repetitions))


PRESETS: dict[str, dict[str, Any]] = {
    "default": {},
    "smoke": {
        "dataset": "painted:gravel:32", "limit": 16, "steps": 24, "methods": ("nbs", "l2", "unet"),
        "nbs": NBSConfig(
            environment=EnvironmentConfig(patch=8, shift=3, window=16), episode=8, batch=4, code=8, width=0.05,
            sampler_width=0.2, predictor_width=0.25, period=8, skip=5, profile=4, clone_steps=20, predictor_batch=4,
            memory=20, crf=CRFConfig(smooth_sd=0.5, bilateral_sd=10.0),
        ),
        "l2": ConvAutoencoderConfig(widths=(8,), latent_dim=8, steps=20),
        "unet": UNetSegmenterConfig(width=0.1, levels=3, steps=20),
    },
    # Sizes and networks of the thesis; what it does not publish is the follow-up's or ours (see NBSConfig).
    "paper": {
        "image_size": (256, 256), "nbs": NBSConfig(), "steps": 9000, "evals": 90, "batch_size": 16,
        "l2": ConvAutoencoderConfig(steps=9000), "unet": UNetSegmenterConfig(width=2.0, levels=5, steps=9000),
    },
}  # fmt: skip


class Trained(NamedTuple):
    """A method after its training."""

    name: str  # in DETECTORS
    settings: Any
    detector: Detector
    state: State


def run(config: Config) -> None:
    """The whole experiment."""
    config.check()
    tasks = {seed: load(config, seed) for seed in config.seeds}
    with config.open_folder("nbs") as folder:
        if config.finds_finished(folder):
            return
        config.say(few_masks.table(tasks[config.seeds[0]]), f"run folder: {folder.path}")
        backend.enable_compilation_cache(config.cache_dir)
        cells = [(seed, method) for seed in config.seeds for method in config.methods]
        done = {(record["seed"], record["method"]) for record in records(folder)}
        with Progress(len(cells), label="trainings", quiet=config.quiet) as progress:
            for number, (seed, method) in enumerate(cells, start=1):
                if (seed, method) not in done:
                    record = train_and_test(config, tasks[seed], folder, method, seed)
                    files.append_line(folder.path / "trainings.jsonl", record)  # last: it says that this is finished
                    note = f"{method}, seed {seed}: F1 {record['test']['f1']['value']:.3f}"
                    progress.update(number, note=note)
        results = conclude(config, tasks, folder)
        show(config, results, folder)


def load(config: Config, seed: int) -> LabelledTask:
    """The task of a seed, known to fit the methods before anything is written."""
    task = few_masks.load_labelled(
        config.dataset, labelled=config.labelled, setting=config.setting, image_size=config.image_size,
        limit=config.limit, seed=seed,
    )  # fmt: skip
    for method in config.methods:
        if method in STRATEGY:
            pile_of(sampled(config, method), task)
    form = jax.ShapeDtypeStruct((1, *task.labelled.images.shape[1:]), np.float32)
    for method, settings in (("l2", config.l2), ("unet", config.unet)):
        if method in config.methods:
            jax.eval_shape(fixed_detector(settings).init, jax.random.key(0), form)
    return task


def sampled(config: Config, method: str) -> NBSConfig:
    """Settings of NBS or one of its variants."""
    return dataclasses.replace(config.nbs, strategy=STRATEGY[method])


def pile_of(settings: NBSConfig, task: LabelledTask) -> sampling.Pile:
    """The images that NBS trains on; ValueError where they do not fit."""
    return sampling.make_pile(settings, task.labelled.images, task.labelled.masks, task.unlabelled.images)


def records(folder: runs.Run) -> list[dict[str, Any]]:
    """What is known of finished trainings."""
    return files.read_lines(folder.path / "trainings.jsonl")


# ---- training and test -------------------------------------------------------------------------------------------


@functools.cache
def fixed_detector(settings: NBSConfig | ConvAutoencoderConfig | UNetSegmenterConfig) -> Detector:
    """One detector, and so one compiled program, for all seeds."""
    return next(entry.build for entry in DETECTORS.values() if entry.config is type(settings))(settings)


def train(config: Config, task: LabelledTask, folder: runs.Run, method: str, seed: int) -> Trained:
    """A method after its training, which has the same key for every method."""
    key, labelled = jax.random.key(seed), task.labelled
    if method in STRATEGY:
        settings = sampled(config, method)
        path = folder.path / "checkpoint" / f"{method}-seed{seed}.safetensors"

        def on_eval(done: int, info: NBSInfo) -> None:
            line = {"method": method, "seed": seed, "done": done, "info": info._asdict()}
            files.append_line(folder.path / "training.jsonl", line)

        state = sampling.train_saved(
            settings, key, pile_of(settings, task), path, steps=config.steps, evals=config.evals, on_eval=on_eval
        )
        return Trained("nbs", settings, fixed_detector(config.nbs), state)  # maps depend on no strategy
    if method == "l2":
        name, settings, told = "conv_autoencoder", config.l2, {}
        images = np.concatenate([labelled.images, task.unlabelled.images])
    else:
        name, settings, told, images = "unet_segmenter", config.unet, {"masks": labelled.masks}, labelled.images
    detector = fixed_detector(settings)
    state, history = fit(detector, key, images, steps=settings.steps, batch_size=config.batch_size, **told)
    if history.diverged:
        raise ValueError(f"{method} diverged with seed {seed}: lower --{method}.learning-rate")
    return Trained(name, settings, detector, state)


def train_and_test(config: Config, task: LabelledTask, folder: runs.Run, method: str, seed: int) -> dict[str, Any]:
    """The record of one training and its one test."""
    began = time.monotonic()
    trained = train(config, task, folder, method, seed)
    labelled, test = task.labelled, task.test
    if method in STRATEGY and config.setting == "transductive":
        maps = np.asarray(jax.jit(sampling.known_logits)(trained.state))
        known, maps = maps[: len(labelled.ids)], maps[len(labelled.ids) :]
    else:
        known, maps = (map_images(trained.detector, trained.state, p.images, MAP_BATCH) for p in (labelled, test))
    readings = segmenting.readings_of(known, labelled.masks, None if method == "l2" else config.nbs.crf)
    mine, labelled_f1 = segmenting.choose_reading(readings, known, labelled.masks, labelled.images)
    predicted = {name: segmenting.read(reading, maps, test.images) for name, reading in readings.items()}
    normal = None
    if task.normal is not None:  # anomaly-free images that no training saw, for the threshold of RPRO
        normal = map_images(trained.detector, trained.state, task.normal.images, MAP_BATCH)
    if seed == config.seeds[0]:
        files.write_array(folder.path / "masks" / f"{method}.npy", predicted[mine])
    if (seed, method) == (config.seeds[0], config.methods[0]):
        keep(config, task, folder, trained, readings[mine], maps)
    return {
        "method": method,
        "seed": seed,
        "reading": mine,
        "threshold": readings[mine].threshold,
        "labelled_f1": labelled_f1,
        "test": summarise_segmentation(maps, predicted[mine], test.masks, normal_maps=normal, seed=seed),
        "readings": {name: pixel_scores(masks, test.masks)._asdict() for name, masks in predicted.items()},
        "images": segmenting.image_rows(test.ids, predicted[mine], test.masks, maps),
        "seconds": time.monotonic() - began,
    }


# ---- the run folder ----------------------------------------------------------------------------------------------


def keep(
    config: Config,
    task: LabelledTask,
    folder: runs.Run,
    trained: Trained,
    reading: segmenting.Reading,
    maps: np.ndarray,
) -> None:
    """The detector, masks as PNG in the order of the test images, overlays, and what the report shows of NBS."""
    kept = trained.state
    if trained.name == "nbs":
        kept = sampling.without_images(trained.settings, kept)
    save_detector(
        folder.best, name=trained.name, config=trained.settings, state=kept,
        image_shape=task.labelled.images.shape[1:], threshold=thresholds.fixed(reading.threshold),
        details={"task": task.name, "seed": config.seeds[0], "map_scale": overlays.colour_scale(maps)},
    )  # fmt: skip
    overlays.write_masks(folder.path / "masks", segmenting.read(reading, maps, task.test.images))
    images, scale = to_float(task.test.images), overlays.colour_scale(maps)
    overlays.write_overlays(folder.path / "overlays", images, maps, scale=scale, numbers=shown_images(task))
    if trained.name == "nbs" and config.setting == "transductive":
        for kind, profiles in sampling.pixel_profiles(trained.state, task.test.masks).items():
            files.write_array(folder.path / "profiles" / f"{kind}.npy", profiles)
    if getattr(trained.settings, "strategy", None) == "learned":
        visits = sampling.labelled_visits(trained.settings, trained.state, to_float(task.labelled.images))
        files.write_array(folder.path / "visits.npy", visits)


def shown_images(task: LabelledTask) -> np.ndarray:
    """Up to eight test images, from those with most anomalous pixels to those with none."""
    order = np.argsort(-task.test.masks.mean((1, 2)), kind="stable")
    return order[np.linspace(0, len(order) - 1, min(SHOWN, len(order))).astype(int)]


def conclude(config: Config, tasks: dict[int, LabelledTask], folder: runs.Run) -> dict[str, Any]:
    """Everything that the run folder keeps when all trainings are known."""
    known = {(record["method"], record["seed"]): record for record in records(folder)}
    found = [known[method, seed] for method in config.methods for seed in config.seeds]
    task = tasks[config.seeds[0]]
    over = "seeds, by Student's t" if len(config.seeds) > 1 else "test images, by bootstrap"
    parts = ("labelled", "unlabelled", "test")
    curves = sampling.joined(files.read_lines(folder.path / "training.jsonl"))
    results = {
        "task": task.details | {"name": task.name, "images": {name: len(getattr(task, name).ids) for name in parts}},
        "method": config.methods[0],
        "seeds": config.seeds,
        "segmentation": segmenting.mean_over_seeds(found[: len(config.seeds)]),
        "intervals": f"Intervals are 95 % intervals over {over}.",
        "comparison": segmenting.over_seeds(found, tuple(report.PIXELS)),
        "trainings": [{name: value for name, value in record.items() if name != "images"} for record in found],
        "sampling": sampling.sampling_rows(curves),
        "seconds": sum(record["seconds"] for record in found),
        "notes": notes(config),
        **runs.environment(),
    }
    files.write_text(folder.path / "predictions.csv", segmenting.image_table(found))
    files.write_text(folder.path / "report.html", page(config, task, folder, results, curves))
    files.write_json(folder.path / "results.json", results)  # last: its presence says that the run is finished
    return files.to_json(results)


def notes(config: Config) -> list[str]:
    """What a reader should know before comparing the figures with others."""
    lines = ["Thresholds, and whether the CRF is used, have the best F1 on the labelled images; no test mask is seen."]
    if config.setting == "transductive":
        lines.append("Transductive: NBS, its variants and l2 train on the test images, without their masks.")
    if config.preset != "paper":
        lines.append("Images, patches and networks are smaller, and steps far fewer, than the thesis's.")
    return lines


def page(
    config: Config, task: LabelledTask, folder: runs.Run, results: dict[str, Any], curves: dict[str, NBSInfo]
) -> str:
    """The report."""
    chosen = shown_images(task)
    rows = [("image", to_float(task.test.images[chosen]))]
    for method in config.methods:
        rows.append((method, np.load(folder.path / "masks" / f"{method}.npy")[chosen, ..., None].astype(float)))
    rows.append(("truth", task.test.masks[chosen][..., None].astype(float)))
    visits, path = [], folder.path / "visits.npy"
    if path.exists():
        counts = np.load(path)[..., None].astype(float)
        visits = [("image", to_float(task.labelled.images)), ("mask", task.labelled.masks[..., None].astype(float))]
        visits.append(("visits", counts / counts.max()))
    profiles = {file.stem: np.load(file) for file in sorted((folder.path / "profiles").glob("*.npy"), reverse=True)}
    return report.render_segmentation(
        config=files.to_json(config) | {"resume": None},
        results=files.to_json(results),
        masks=rows,
        visits=visits,
        curves=curves[config.methods[0]]._asdict() if config.methods[0] in curves else {},
        profiles=profiles,
        program="python experiments/nbs_segmentation.py",
    )


def show(config: Config, results: dict[str, Any], folder: runs.Run) -> None:
    """The result, for the terminal."""
    if config.quiet:
        return
    table(f"test, mean ± sd over {len(config.seeds)} seed(s)", *report.comparison_table(results["comparison"]))
    if results["sampling"]:
        table("in the second half of training", *report.sampling_table(results["sampling"]))
    print(f"report:   {folder.path / 'report.html'}")
    print(f"use it:   python experiments/detect.py {folder.path} IMAGES ...")


if __name__ == "__main__":
    cli.main(run, Config, presets=PRESETS)
