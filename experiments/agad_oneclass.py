"""Train AGAD on one class at a time, all others anomalous, with no or a few labelled anomalies, and test each once.

    python experiments/agad_oneclass.py                                        # bundled digits, offline, minutes
    python experiments/agad_oneclass.py --dataset fashion_mnist --test-split test --classes 0 1 2 3 --gammas 0 0.05
    python experiments/agad_oneclass.py --compare no-adcon ganomaly            # ablation of Table 4, and a forerunner
    python experiments/agad_oneclass.py --dataset folder:XRAY/train --test-folder XRAY/test --classes normal  # Table 3
    python experiments/agad_oneclass.py --dataset folder:PARTS --classes good --gammas all     # use all known defects
    python experiments/agad_oneclass.py --preset smoke                         # see everything happen in a minute
    python experiments/agad_oneclass.py --resume runs/agad-20260101-120000

A gamma is the anomalous share of the training images: the user's labelled defects. Every class, gamma, seed and variant
is a detector of its own, a cell of the table; cells that are finished are never repeated. All train for the same fixed
number of steps: nothing is chosen by validation or test. All is in the run folder: open report.html, and score new
images with `python experiments/detect.py RUN images...`; saved is the detector of the first class, largest gamma.
"""

import dataclasses
from typing import Any, Literal

import jax
import numpy as np

from jaxad import data, report
from jaxad.methods import config_of
from jaxad.methods.agad import AGADConfig, AGADState, Variant, agad, auroc_by_batches, learns_from, variant
from jaxad.runs import cli, one_class, runner
from jaxad.runs.evaluation import evaluate
from jaxad.runs.folder import Run
from jaxad.runs.grid import Record
from jaxad.runs.one_class import Cell, KeptCell
from jaxad.runs.progress import table
from jaxad.runs.variants import check_variants
from jaxad.types import Key

LAPTOP = config_of("agad", AGADConfig.laptop)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(one_class.OneClassConfig):
    """Train AGAD on one class at a time and test every detector once."""

    preset: Literal["default", "smoke", "paper"] = "default"
    """Settings where flags give none: default (minutes on a laptop), smoke (under a minute), paper (for a GPU)."""
    agad: AGADConfig = LAPTOP
    """Settings of the method."""
    compare: tuple[Variant, ...] = ("no-adcon",)
    """Variants to train, too: ablations of Tables 4, 5 and 9, parts of the loss, readings, and forerunners."""
    diagnose: bool = False
    """Also score with the statistics of test batches, as the code of GANomaly does, to see what that would change."""

    def check(self) -> None:
        """Raise ValueError for values out of range."""
        super().check()
        if len(set(self.compare)) < len(self.compare):
            raise ValueError(f"--compare names something twice: {', '.join(self.compare)}")
        check_variants(self.variants(), lambda settings: settings.check())

    def variants(self) -> dict[str, AGADConfig]:
        """AGAD and what it is compared with."""
        return {"agad": self.agad} | {name: variant(self.agad, name) for name in self.compare}


PRESETS: dict[str, dict[str, Any]] = {
    "default": {},
    "smoke": {"classes": ("0", "1"), "steps": 40, "compare": (), "checkpoints": 2},
    # Section 4 of the paper; 100 epochs of some 6,000 images are about 2,350 steps of 256. MNIST needs
    # --agad.generator naive (footnote 4).
    "paper": {
        "dataset": "fashion_mnist", "test_split": "test", "image_size": 32,
        "gammas": (0.0, 0.01, 0.05, 0.1, 0.2), "agad": AGADConfig(), "steps": 2350, "batch_size": 256, "num_seeds": 3,
    },
}  # fmt: skip


def run(config: Config) -> None:
    """The whole experiment."""
    config.check()
    sets, variants = config.load_sets(config.seed), config.variants()
    cells = config.cells(variants, sets.classes, learns_from)
    detectors = {name: agad(settings) for name, settings in variants.items()}
    example = jax.ShapeDtypeStruct((1, *sets.train.images.shape[1:]), np.float32)
    for detector in detectors.values():  # sizes that do not fit are known before anything is written
        jax.eval_shape(detector.init, jax.random.key(0), example)
    config.check_tasks(sets)
    first = config.task(sets, cells[0])
    with runner.session(config, "agad", data.table(first), f"{len(cells)} detectors", data=sets) as folder:
        if folder is None:
            return
        keys = runner.named_keys(config.seed, "train", "test")

        def diagnosis(cell: Cell, task: data.Task, state: AGADState, test: Record) -> Record:
            options = {"images": task.test.images, "labels": task.test.labels, "seed": config.seed}
            found = auroc_by_batches(variants[cell.variant], state, **options) if config.diagnose else {}
            return {"auroc_by_statistics": found | {"running": test["auroc"]["value"]}} if found else {}

        # The report shows one for each gamma, chosen before anything is known of them.
        shown = [Cell("agad", gamma, sets.classes[0], 0) for gamma in config.gammas]
        records = one_class.fill_cells(config, sets, cells, detectors, folder.path, keys, keep=shown, more=diagnosis)
        parts = {cell: (folder.path, cell, detectors["agad"], config.task(sets, cell)) for cell in shown}
        kept = {cell: one_class.load_kept(*found) for cell, found in parts.items()}
        conclude(config, sets, folder, records, kept, keys["test"])


def conclude(
    config: Config, sets: data.ClassSets, folder: Run, records: list[Record], shown: dict[Cell, KeptCell], key: Key
) -> None:
    """Everything that the run folder keeps when all cells are known, and the tables for the terminal."""
    best = max(shown, key=lambda cell: one_class.size(cell.gamma))
    found = one_class.table_results(config, sets, records)
    task = config.task(sets, best)
    options = {"target_fpr": config.target_fpr, "resamples": config.resamples, "key": one_class.class_key(key, task)}
    evaluation = evaluate(agad(config.agad), shown[best].state, task, **options)
    results = {
        "task": runner.task_facts(task), "method": "agad", "shown": best.normal, "saved": best._asdict(),
        "threshold": evaluation.threshold._asdict(), "notes": notes(config, sets, task, found["groups"]), **found,
    }  # fmt: skip
    runner.keep(folder, task, config.agad, shown[best].state, evaluation, gamma=best.gamma, chosen_by="last")

    def page(results: dict[str, Any]) -> str:
        models = {f"gamma {data.gamma_name(cell.gamma)}": kept for cell, kept in shown.items()}
        return report.render_one_class(
            results=results,
            rebuilt=report.agad_pictures(config.agad, {name: kept.state for name, kept in models.items()}, task),
            scores={name: report.scores_by_class(kept.scores, task, sets) for name, kept in models.items()},
            curves={name: (kept.steps, kept.curves) for name, kept in models.items()},
            **runner.made_by(config),
        )

    results = runner.finish(folder, results, page)
    if not config.quiet:
        table("test AUROC in %, mean and sd over classes", *report.auroc_table(found["groups"], sets.classes))
        if config.diagnose:
            table("the same by statistics of batch normalisation", *report.statistics_table(results["groups"]))
    runner.say_end(config, folder)


def notes(config: Config, sets: data.ClassSets, task: data.Task, groups: list[Record]) -> list[str]:
    """What a reader should know before comparing the figures with others."""
    epochs = config.steps * config.batch_size / len(task.train.images)
    return [
        f"Every detector trains for {config.steps:,} steps ({epochs:.0f} times the images of its class) and is tested "
        "once, as it is after the last; the paper does not say how long it trains.",
        "Scores use running statistics of batch normalisation. The code that AGAD extends uses those of the test "
        "batch, which makes a score depend on the images it is scored with; --diagnose shows the difference.",
        *one_class.protocol_notes(config, sets, groups),
    ]


if __name__ == "__main__":
    cli.main(run, Config, presets=PRESETS)
