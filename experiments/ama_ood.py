"""Train an adversarial mirrored autoencoder (AMA) on normal images, and test it once.

    python experiments/ama_ood.py                                              # bundled textures, offline, minutes
    python experiments/ama_ood.py --dataset fashion_mnist --ood mnist          # Table 1; prepared TFDS sets
    python experiments/ama_ood.py --dataset mnist --normal-classes 3 --test-split test           # Table 2
    python experiments/ama_ood.py --compare no-mirror no-interpolation no-negatives r-score      # ablations
    python experiments/ama_ood.py --preset smoke                               # see everything happen in a minute
    python experiments/ama_ood.py --resume runs/ama-20260101-120000

A state is chosen twice: by labelled validation images, as the paper does, and without labels, as the last one; both are
tested, and --choose says which is saved. Anomalies are 20 % of the normal test images, and validation has 50. All is in
the run folder: open report.html, and score new images with `python experiments/detect.py RUN images...`.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import numpy as np

from jaxad import data, report
from jaxad._utils import compile as backend
from jaxad._utils import files
from jaxad.data.batches import to_float
from jaxad.data.fitting import fit_size
from jaxad.methods.ama import AMAConfig, Variant, ama, draw_negatives, variant
from jaxad.methods.ama.inference import views
from jaxad.methods.ama.networks import next_size
from jaxad.metrics import image as metrics
from jaxad.runs import cli
from jaxad.runs import folder as runs
from jaxad.runs.evaluation import Evaluation, evaluate, pictures, predictions
from jaxad.runs.progress import Progress, table
from jaxad.runs.saving import save_detector
from jaxad.training.calibration import calibrate_population, subsample
from jaxad.training.early_stopping import Selection, best_values
from jaxad.training.loop import History
from jaxad.training.resumable import fit_selected_saved
from jaxad.training.scoring import score_images
from jaxad.types import Detector, State


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(cli.RunConfig, data.TaskConfig):
    """Train an adversarial mirrored autoencoder and test it once."""

    anomaly_ratio: float = 1 / 6
    """Anomalous share of validation and test: by default anomalies are 20 % of the normal images, as in the paper."""
    valid_anomalies: int | None = None
    """Exactly so many anomalies in validation; by default 50, as in the paper, and half the test of mvtec:DIR."""
    fit: Literal["resize", "pad"] = "resize"
    """How images of other sizes become squares of 8, 16, 32 ... pixels."""

    # ---- training
    preset: Literal["default", "smoke", "paper"] = "default"
    """Where flags are not given: default (minutes on a laptop), smoke (under a minute), paper (for a GPU)."""
    ama: AMAConfig = dataclasses.field(default_factory=lambda: AMAConfig(width=0.125, steps=200, latent_dim=64))
    """Settings of the method."""
    compare: tuple[Variant, ...] = ("no-mirror",)
    """Train these variants, too: ablations of Table 1, Sipple's negatives (Table 3), those of the authors' code."""
    seed: int = 0
    """Decides everything random: same seed, same result."""
    train_seeds: int = 1
    """Trainings of each variant, from different weights."""
    epochs: int | None = None
    """Passes over the training images, which then decide --ama.steps (the paper: 100)."""
    batch_size: int = 32
    """Images of one step."""
    evals: int = 8
    """How often the training is validated; each time it is also saved."""
    first_look: float | None = None
    """Share of the steps before the first look, where the others are spread to the end; by default all evenly."""
    choose: Literal["validation", "last"] = "validation"
    """The saved state: the best look at labelled validation images, or the last step, which needs no labels."""
    target_fpr: float = 0.05
    """Share of normal images that the threshold may flag, set on held-out normal images."""

    def check(self) -> None:
        """Raise ValueError for values out of range."""
        for name in ("train_seeds", "batch_size", "evals", "epochs"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"--{name.replace('_', '-')} is {getattr(self, name)}; the least is 1")
        for name in ("target_fpr", "first_look"):
            if getattr(self, name) is not None and not 0 < getattr(self, name) < 1:
                flag = name.replace("_", "-")
                raise ValueError(f"--{flag} is {getattr(self, name)}; give a share between 0 and 1, such as 0.05")
        for name, settings in self.variants().items():
            try:
                settings.check()
                settings.negatives_of(self.batch_size)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from error
        if self.epochs is None:
            self.eval_steps()

    def variants(self) -> dict[str, AMAConfig]:
        """AMA and what it is compared with."""
        return {"ama": self.ama} | {name: variant(self.ama, name) for name in self.compare}

    def eval_steps(self) -> tuple[int, ...]:
        """The steps after which validation images are scored."""
        steps = self.ama.steps
        if self.evals > steps:
            raise ValueError(f"--evals is {self.evals}; the most is --ama.steps {steps}")
        first = max(1, steps / self.evals if self.first_look is None else self.first_look * steps)
        evals = np.unique(np.linspace(first, steps, self.evals).round().astype(int))
        return tuple(evals.tolist()) if self.evals > 1 else (steps,)

    def scheduled(self, images: int) -> "Config":
        """With the steps that the epochs mean for so many training images."""
        if self.epochs is None:
            return self
        steps = max(1, round(self.epochs * images / self.batch_size))
        return dataclasses.replace(self, epochs=None, ama=dataclasses.replace(self.ama, steps=steps))


PRESETS: dict[str, dict[str, Any]] = {
    "default": {},
    "smoke": {
        "dataset": "digits", "image_size": 8, "ama": AMAConfig(width=0.05, steps=40, latent_dim=16), "evals": 2,
        "batch_size": 16, "compare": (),
    },
    # Section 4.1 of the paper: 100 epochs of 256 images, a look after each epoch from the 21st on.
    "paper": {
        "image_size": 32, "ama": AMAConfig(), "epochs": 100, "batch_size": 256, "evals": 80, "first_look": 0.21,
        "train_seeds": 3,
    },
}  # fmt: skip

VALID_ANOMALIES = 50  # of the paper
CURVE = 200  # points of a training curve
SHOWN = 8  # images in a row
FITTED = 1024  # training images that calibrate the score and stand for training in the pictures


class Trained(NamedTuple):
    """A variant after its trainings, with a leading axis of seeds."""

    config: AMAConfig
    detector: Detector
    selection: Selection
    states: dict[str, State]  # calibrated, by how they were chosen: "validation" and "last"
    seconds: float  # of all trainings
    steps: np.ndarray  # of the training curves
    curves: dict[str, np.ndarray]  # fields of the info that are numbers: [seeds, points]


def load(config: Config) -> data.Task:
    """The task with images of a size that the networks take."""
    side = config.image_size
    if side is not None and side != next_size(side):
        raise ValueError(f"--image-size is {side}; the networks take 8, 16, 32 ...: give {next_size(side)}")
    asked: dict[str, Any] = {}
    if config.fit == "pad":
        asked["image_size"] = None  # the border goes around the images as they are
    if config.valid_anomalies is None and not config.dataset.startswith("mvtec:"):
        asked["valid_anomalies"] = VALID_ANOMALIES
    task = dataclasses.replace(config, **asked).load_task(config.seed)
    return data.check_task(fit_size(task, side or next_size(max(task.train.images.shape[1:3])), how=config.fit))


def run(config: Config) -> None:
    """The whole experiment."""
    config.check()
    task = load(config)
    scheduled = config.scheduled(len(task.train.images))
    scheduled.eval_steps()  # epochs that are too few for the evaluations are known before anything is written
    with config.open_folder("ama") as folder:
        if config.finds_finished(folder):
            return
        config.say(data.table(task), f"run folder: {folder.path}")
        backend.enable_compilation_cache(config.cache_dir)
        config = scheduled
        keys = dict(zip(("train", "test", "pictures"), jax.random.split(jax.random.key(config.seed), 3)))
        trained = train(config, task, folder, keys["train"])
        results = test(config, task, folder, trained, keys)
        show(config, results, folder.path)


# ---- training ----------------------------------------------------------------------------------------------------


def train(config: Config, task: data.Task, folder: runs.Run, key: jax.Array) -> dict[str, Trained]:
    """AMA and its variants, all from the same seeds; a variant that differs in its score alone shares the training."""
    wanted = config.variants()
    trained_as = {name: dataclasses.replace(settings, score="a") for name, settings in wanted.items()}
    trainings = [name for name in wanted if name == "ama" or trained_as[name] != trained_as["ama"]]
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, np.arange(config.train_seeds))
    trained: dict[str, Trained] = {}
    total = config.train_seeds * config.ama.steps
    with Progress(total * len(trainings), label="train", quiet=config.quiet) as progress:
        for index, name in enumerate(trainings):

            def on_steps(done: int, _: Any, before: int = index * total, name: str = name) -> None:
                progress.update(before + done, note=name)

            trained[name] = train_variant(config, task, folder, name, wanted[name], keys, on_steps)
            progress.update((index + 1) * total, note=name)
    for name, settings in wanted.items():
        if name not in trained:
            trained[name] = trained["ama"]._replace(config=settings, detector=ama(settings))
    return {name: trained[name] for name in wanted}


def train_variant(
    config: Config, task: data.Task, folder: runs.Run, name: str, settings: AMAConfig, keys: jax.Array, on_steps: Any
) -> Trained:
    """One variant from all seeds; it is saved at every evaluation."""
    detector, evals = ama(settings), config.eval_steps()

    def on_eval(selection: Selection, history: History) -> None:
        if history.diverged.all():
            start, stop = (0, *evals)[selection.num_evals - 1 :][:2]
            raise ValueError(
                f"{name}: all trainings diverged between steps {start} and {stop}: lower "
                f"--ama.learning-rate, which is {settings.learning_rate:g}"
            )

    selection, seconds, steps, curves = fit_selected_saved(
        detector, keys, task.train.images, task.valid.images, task.valid.labels,
        evals=evals, batch_size=config.batch_size, on_eval=on_eval, on_chunk=on_steps,
        chunk=max(1, min(20, evals[0])), calibration_images=FITTED, points=CURVE,
        path=folder.path / "checkpoint" / f"{name}.safetensors",
    )  # fmt: skip
    if not (best_values(selection.values) >= 0).all():
        seeds = ", ".join(map(str, np.flatnonzero(best_values(selection.values) < 0)))
        raise ValueError(
            f"{name}: at no look had training seed {seeds} scores that are finite and differ: lower "
            f"--ama.learning-rate, which is {settings.learning_rate:g}"
        )
    last = calibrate_population(detector, selection.state, task.train.images)
    states = {"validation": selection.best, "last": last}
    return Trained(settings, detector, selection, states, seconds, steps, curves)


# ---- test --------------------------------------------------------------------------------------------------------


def test(
    config: Config, task: data.Task, folder: runs.Run, trained: dict[str, Trained], keys: dict[str, jax.Array]
) -> dict[str, Any]:
    """Everything that the run folder keeps of the trained detectors, each tested once."""
    main = trained["ama"]
    # Without labels no seed is better than another.
    seeds = {"validation": int(best_values(main.selection.values).argmax()), "last": 0}
    config.say("testing ...")
    evaluations = {}
    for chosen, seed in seeds.items():
        state = member(main.states[chosen], seed)
        scores = score_images(main.detector, state, task.valid.images)
        if np.isfinite(scores).all() and np.ptp(scores) > 0:
            # The same resamples for both: their difference is that of the states.
            options = {"key": keys["test"], "target_fpr": config.target_fpr, "valid_scores": scores}
            evaluations[chosen] = evaluate(main.detector, state, task, **options)
    if config.choose not in evaluations:
        raise ValueError("the last state has no scores that are finite and differ: --choose validation, or train less")
    seed = seeds[config.choose]
    state, evaluation = member(main.states[config.choose], seed), evaluations[config.choose]
    results = {
        "task": task.details
        | {"name": task.name, "image_shape": task.train.images.shape[1:]}
        | {"parts": [row._asdict() for row in data.describe(task)]},
        "method": "ama",
        "seed": config.seed,
        "training": {
            "steps": config.ama.steps, "batch_size": config.batch_size, "seeds": config.train_seeds,
            "seconds": main.seconds, "evals": main.selection.values,
        },
        "chosen_by": config.choose,
        "chosen_seed": seed,
        "threshold": evaluation.threshold._asdict(),
        "test": evaluation.test,
        "test_by_choice": {chosen: e.test for chosen, e in evaluations.items()},
        "variants": compare(task, trained),
        "notes": notes(config, task, evaluations),
        **runs.environment(),
    }  # fmt: skip
    save_detector(
        folder.best,
        name="ama",
        config=main.config,
        state=state,
        image_shape=task.train.images.shape[1:],
        threshold=evaluation.threshold,
        details={"task": task.name, "chosen_by": config.choose, "fit": config.fit},
    )
    files.write_predictions(folder.path / "predictions.csv", predictions(task, evaluation))
    files.write_text(
        folder.path / "report.html",
        page(config, task, results, trained, seed, state, evaluation, keys["pictures"]),
    )
    files.write_json(folder.path / "results.json", results)  # last: its presence says that the run is finished
    return results


def compare(task: data.Task, trained: dict[str, Trained]) -> dict[str, dict[str, dict[str, list[float]]]]:
    """Test metrics of every variant and way to choose: {variant: {chosen: {metric: a value for each seed}}}."""
    measures = metrics.CRITERIA | {"fpr95": metrics.fpr_at_tpr, "f1_max": lambda *both: metrics.f1_max(*both).f1}

    def tested(variant: Trained, states: State) -> dict[str, list[float]]:
        seeds = range(len(variant.selection.values))
        scores = [score_images(variant.detector, member(states, seed), task.test.images) for seed in seeds]
        return {name: [float(measure(s, task.test.labels)) for s in scores] for name, measure in measures.items()}

    return {
        name: {chosen: tested(variant, states) for chosen, states in variant.states.items()}
        for name, variant in trained.items()
    }


def notes(config: Config, task: data.Task, evaluations: Mapping[str, Evaluation]) -> list[str]:
    """What a reader should know before comparing the figures with others."""
    epochs = config.ama.steps * config.batch_size / len(task.train.images)
    lines = [
        "Choosing by validation uses labelled anomalies of the kind that is tested; the last step uses none.",
        f"Widths are {config.ama.width:g} times those of the paper, and {config.ama.steps:,} steps of "
        f"{config.batch_size} images are {epochs:.3g} epochs; the paper has 100.",
    ]
    if config.train_seeds > 1:
        lines.append(
            f"By validation the best of {config.train_seeds} training seeds is tested, without labels the first; means "
            "over all of them are below."
        )
    if "last" not in evaluations:
        lines.append("The last state of training has no scores that are finite and differ; it was not tested.")
    if int(task.test.labels.sum()) < 30:
        lines.append(f"Only {int(task.test.labels.sum())} test images are anomalous: mind the intervals.")
    return lines


def page(
    config: Config,
    task: data.Task,
    results: dict[str, Any],
    trained: dict[str, Trained],
    seed: int,
    state: State,
    evaluation: Evaluation,
    key: jax.Array,
) -> str:
    """The report."""
    main = trained["ama"]
    view = jax.tree.map(jax.jit, views(main.config))
    train, labels = subsample(task.train.images, FITTED), task.test.labels
    groups = {"train": train, "test, normal": task.test.images[labels == 0][:FITTED]}
    groups |= {"test, anomalous": task.test.images[labels == 1][:FITTED]}
    shown = pictures(main.detector, state, task, evaluation, lambda images: view.reconstruct(state, images))
    rebuilt = [("input", shown["inputs"]), ("AMA", shown["reconstructions"])]
    if "no-mirror" in trained:
        other = trained["no-mirror"]
        plain = jax.jit(views(other.config).reconstruct)(member(other.states[config.choose], seed), shown["inputs"])
        rebuilt.append(("without mirror", plain))
    codes = view.encode(state, to_float(train[: 4 * SHOWN]))
    share = np.linspace(0, 1, SHOWN, dtype=np.float32)[:, None]
    images = {
        "rebuilt": rebuilt,
        "interpolated": [
            (f"pair {i + 1}", view.decode(state, (1 - share) * codes[2 * i] + share * codes[2 * i + 1]))
            for i in range(3)
        ],
    }
    if config.ama.negatives != "none":
        drawn = draw_negatives(config.ama, key, codes, SHOWN)
        images["negative"] = [(config.ama.negatives, view.decode(state, drawn))]
    sections = report.ama_sections(
        images=images,
        r_scores={name: score_images(r_detector(main), state, part) for name, part in groups.items()},
        gaussian=(float(state.r_mean), float(state.r_sd)),
        norms={name: np.linalg.norm(view.encode(state, to_float(part)), axis=1) for name, part in groups.items()},
        latent_dim=config.ama.latent_dim,
        steps=main.steps,
        history=main.curves,
    )
    return report.render_training(
        method="AMA",
        config=files.to_json(config) | {"resume": None},
        results=files.to_json(results),
        pictures=shown,
        sections=sections,
        program="python experiments/ama_ood.py",
    )


def r_detector(trained: Trained) -> Detector:
    """The same detector with R as its score."""
    return ama(trained.config, score="r")


def member(states: State, seed: int) -> State:
    """The state of one seed."""
    return jax.tree.map(lambda leaf: leaf[seed], states)


# ---- the terminal ------------------------------------------------------------------------------------------------


def show(config: Config, results: dict[str, Any], path: Path) -> None:
    """The result, for the terminal."""
    if config.quiet:
        return
    names = ("auroc", "aupr_in", "aupr_out", "fpr95", "f1_max")
    rows = [
        (name, chosen, *(f"{test[name][part]:.4f}" for part in ("value", "low", "high")))
        for chosen, test in results["test_by_choice"].items()
        for name in names
    ]
    table("test, once for each way to choose the state", ("metric", "chosen by", "value", "95 % low", "high"), rows)
    freedom = min(1, config.train_seeds - 1)  # of one seed there is no spread
    rows = [
        (name, chosen, f"{np.mean(found['auroc']):.4f}", f"{np.std(found['auroc'], ddof=freedom):.4f}")
        for name, by_choice in results["variants"].items()
        for chosen, found in by_choice.items()
    ]
    table("test AUROC over training seeds", ("variant", "chosen by", "mean", "sd"), rows)
    print(f"report:   {path / 'report.html'}")
    print(f"use it:   python experiments/detect.py {path} IMAGES ...")


if __name__ == "__main__":
    cli.main(run, Config, presets=PRESETS)
