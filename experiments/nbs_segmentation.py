"""Segment defects from a handful of labelled images by neural batch sampling (NBS), beside simpler ways.

    python experiments/nbs_segmentation.py                                       # painted brick, offline, minutes
    python experiments/nbs_segmentation.py --dataset pairs:crackforest --image-size 64 96
    python experiments/nbs_segmentation.py --dataset mvtec:mvtec/tile --preset paper            # for a GPU
    python experiments/nbs_segmentation.py --num-seeds 3                         # with intervals, three times as long
    python experiments/nbs_segmentation.py --setting inductive                   # test on images that no training saw
    python experiments/nbs_segmentation.py --dataset painted:brick:64:single --unseen scratch   # a kind without a mask
    python experiments/nbs_segmentation.py --preset smoke                        # see everything happen in a minute
    python experiments/nbs_segmentation.py --resume runs/nbs-20260101-120000

Of every seed all methods have the same labelled, unlabelled and test images. "uniform" and "normal" are NBS with
patches drawn at random, from all images or from normal labelled regions, in place of the learned sampler; "l2" is an
autoencoder trained on all images, "pca" are principal components of their pixels and "linear_patches" of their
features, all three without masks, "unet" a U-Net trained on the labelled ones. Thresholds, and whether a CRF follows,
are chosen on the labelled images alone. A finished training is never repeated. All is in the run folder: open
report.html, and score new images with `python experiments/detect.py RUN images...`.
"""

import dataclasses
import time
from typing import Any, Literal

from jaxad import data, report
from jaxad._utils import files
from jaxad._utils.validate import check_at_least
from jaxad.data.protocols import few_masks
from jaxad.data.protocols.few_masks import LabelledTask
from jaxad.methods.conv_autoencoder import ConvAutoencoderConfig
from jaxad.methods.nbs import CRFConfig, EnvironmentConfig, NBSConfig, loss_lives, sampling_rows, training_curves
from jaxad.methods.unet_segmenter import UNetSegmenterConfig
from jaxad.runs import cli, segmentation, segmenter_evaluation
from jaxad.runs.defect_kinds import kinds_over_seeds
from jaxad.runs.folder import Run
from jaxad.runs.grid import Record, Records, Tell, fill
from jaxad.runs.progress import table
from jaxad.runs.runner import finish, made_by, say_end, session
from jaxad.runs.segmenters import Method, SegmentersConfig, check_methods, train_segmenter


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(cli.RunConfig, SegmentersConfig, data.FewMasksConfig):
    """Segment defects from a handful of labelled images."""

    preset: Literal["default", "smoke", "paper"] = "default"
    """Settings where flags give none: default (minutes on a laptop), smoke (a minute), paper (for a GPU)."""
    methods: tuple[Method, ...] = ("nbs", "uniform", "normal", "l2", "pca", "linear_patches", "unet")
    """Methods to compare. The first is the one that is saved and shown."""
    seed: int = 0
    """First seed of everything random: the same seed gives the same result."""
    num_seeds: int = 1
    """Number of seeds, each with labelled images (and painted defects) and weights of its own."""

    def check(self) -> None:
        """Raise ValueError for values out of range."""
        super().check()
        check_at_least(self, "num_seeds")
        if not self.methods or len(set(self.methods)) < len(self.methods):
            raise ValueError(f"--methods are {' '.join(self.methods) or 'none'}; give each once, at least one")


PRESETS: dict[str, dict[str, Any]] = {
    "default": {},
    "smoke": {
        "dataset": "painted:gravel:32", "limit": 16, "steps": 24, "methods": ("nbs", "l2", "pca", "unet"),
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
        "image_size": (256, 256), "nbs": NBSConfig(), "steps": 9000, "checkpoints": 90, "batch_size": 16,
        "l2": ConvAutoencoderConfig(steps=9000), "unet": UNetSegmenterConfig(width=2.0, levels=5, steps=9000),
    },
}  # fmt: skip


def run(config: Config) -> None:
    """The whole experiment."""
    config.check()
    seeds = range(config.seed, config.seed + config.num_seeds)
    tasks = {seed: config.load_labelled(seed) for seed in seeds}
    for task in tasks.values():
        check_methods(config, config.methods, task)
    with session(config, "nbs", few_masks.table(tasks[config.seed]), data=tasks) as folder:
        if folder is None:
            return
        cells = {f"{method}-seed{seed}": (method, seed) for seed in seeds for method in config.methods}
        records = Records(folder.path / "cells.jsonl")
        segmenter_evaluation.drop_torn(records, folder.path, tasks[config.seed], config.methods, config.seed)
        fill(
            cells, records, lambda cell, tell: train_and_test(config, tasks[cell[1]], folder, *cell, tell), tells=True,
            label="trainings", quiet=config.quiet, outcome=lambda record: f"F1 {record['test']['f1']['value']:.3f}",
        )  # fmt: skip
        found = [records[f"{method}-seed{seed}"] for method in config.methods for seed in seeds]
        results = conclude(config, tasks[config.seed], folder, found, seeds)
        if not config.quiet:
            table(f"test, mean ± sd over {len(seeds)} seed(s)", *report.comparison_table(results["comparison"]))
            if results["sampling"]:
                table("in the second half of training", *report.sampling_table(results["sampling"]))
        say_end(config, folder)


def train_and_test(config: Config, task: LabelledTask, folder: Run, method: Method, seed: int, tell: Tell) -> Record:
    """The record of one training and its one test; told is how far it has come."""
    began, path = time.monotonic(), folder.path / "checkpoint" / f"{method}-seed{seed}.safetensors"
    watched = method == "nbs" and (method, seed) == (config.methods[0], config.seed)
    keep = segmenter_evaluation.visit_keeper(folder.path, config.nbs, task, config.steps) if watched else None
    look = segmenter_evaluation.on_its_way(tell, config.steps, keep)
    segmenter = train_segmenter(config, method, task, seed=seed, path=path, on_view=look)
    tell("testing")
    evaluated = segmenter_evaluation.evaluate_segmenter(segmenter, task, crf=config.nbs.crf, seed=seed)
    if seed == config.seed:
        segmenter_evaluation.keep_masks(folder, evaluated)
        if method == config.methods[0]:
            segmenter_evaluation.keep_segmenter(folder, task, evaluated, seed=seed)
    return evaluated.record | {"seconds": time.monotonic() - began}


def conclude(config: Config, task: LabelledTask, folder: Run, found: list[Record], seeds: range) -> dict[str, Any]:
    """Everything that the run folder keeps when all trainings are known."""
    parts = {"labelled": task.labelled, "unlabelled": task.unlabelled, "test": task.test}
    curves = training_curves(found)
    results = {
        "task": task.details | {"name": task.name, "images": {name: len(part.ids) for name, part in parts.items()}},
        **segmentation.summary(found, seeds, tuple(report.PIXELS)),
        "kinds": kinds_over_seeds(found),
        "sampling": sampling_rows(curves),
        "notes": segmentation.notes(config.setting, small=config.preset != "paper"),
    }

    def page(plain: dict[str, Any]) -> str:
        shown = curves.get(config.methods[0])
        drawn = segmenter_evaluation.segmentation_pictures(folder.path, task, config.methods)
        drawn["curves"] = {} if shown is None else shown._asdict()
        drawn["lives"] = {} if shown is None else loss_lives(shown, config.nbs.period)
        return report.render_segmentation(results=plain, **drawn, **made_by(config))

    files.write_text(folder.path / "predictions.csv", segmentation.image_table(found))
    return finish(folder, results, page)


if __name__ == "__main__":
    cli.main(run, Config, presets=PRESETS)
