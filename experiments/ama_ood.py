"""Train an adversarial mirrored autoencoder (AMA) on normal images, and test it once.

    python experiments/ama_ood.py                                              # bundled textures, offline, minutes
    python experiments/ama_ood.py --dataset fashion_mnist --ood mnist          # Table 1; prepared TFDS sets
    python experiments/ama_ood.py --dataset mnist --normal-classes 3 --test-split test           # Table 2
    python experiments/ama_ood.py --compare no-mirror no-interpolation no-negatives              # ablations
    python experiments/ama_ood.py --labelled 10                                # semi-supervised: known anomalies train
    python experiments/ama_ood.py --preset smoke                               # see everything happen in a minute
    python experiments/ama_ood.py --resume runs/ama-20260101-120000

A state is chosen twice: by labelled validation images, as the paper does, and without labels, as the last one; both are
tested, by all scores of AMA, the paper's first, and --choose says which is saved. Anomalies are 20 % of the normal test
images, and validation has 50. All is in the run folder: open report.html, and score new images with
`python experiments/detect.py RUN images...`.
"""

import dataclasses
from typing import Any, ClassVar, Literal

import jax

from jaxad import data, report
from jaxad._utils.tree import member
from jaxad._utils.validate import check_at_least, check_share
from jaxad.methods import config_of
from jaxad.methods.ama import AMAConfig, Variant, ama, make_inference, variants
from jaxad.methods.ama.networks import next_size
from jaxad.runs import cli, runner
from jaxad.runs import variants as runs
from jaxad.runs.evaluation import pictures
from jaxad.training.early_stopping import spread_evals


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(cli.TrainingConfig, data.FittedTaskConfig):
    """Train an adversarial mirrored autoencoder and test it once."""

    anomaly_ratio: float = 1 / 6
    """Share of anomalies in validation and test; by default they are 20 % of the normal images, as in the paper."""
    valid_anomalies: int | None = None
    """Put exactly so many anomalies into validation; by default 50, as in the paper, and half those of mvtec:DIR."""

    preset: Literal["default", "smoke", "paper"] = "default"
    """Settings where flags give none: default (minutes on a laptop), smoke (under a minute), paper (for a GPU)."""
    ama: AMAConfig = dataclasses.field(default_factory=lambda: config_of("ama", AMAConfig.laptop))
    """Settings of the method."""
    compare: tuple[Variant, ...] = ("no-mirror",)
    """Variants to train, too: ablations of Table 1, other negatives and shells; other scores are always compared."""
    num_seeds: int = 1
    """Number of trainings of each variant, from different weights."""
    epochs: int | None = None
    """Passes over the training images, which then decide --ama.steps (the paper has 100)."""
    checkpoints: int = 8
    """Number of times that a training is validated and saved on its way."""
    first_checkpoint: float | None = None
    """Share of the steps before the first checkpoint, after which come the others; by default all are evenly spread."""
    choose: Literal["validation", "last"] = "validation"
    """The saved state: the best on labelled validation images, or that of the last step, which needs no labels."""
    overruled_by: ClassVar = {"--ama.steps": "epochs"}

    def check(self) -> None:
        """Raise ValueError for values out of range."""
        super().check()
        check_at_least(self, "num_seeds", "checkpoints", "epochs")
        check_share(self, "first_checkpoint")
        runs.check_variants(self.variants(), lambda ama: (ama.check(), ama.negatives_of(self.batch_size)))
        if self.epochs is None:
            self.evals()

    def variants(self) -> dict[str, AMAConfig]:
        """AMA and what it is compared with."""
        return variants.compared(self.ama, self.compare)

    def evals(self) -> tuple[int, ...]:
        """The steps after which validation images are scored."""
        if self.checkpoints > self.ama.steps:
            raise ValueError(f"--checkpoints is {self.checkpoints}; the most is --ama.steps {self.ama.steps}")
        return spread_evals(self.ama.steps, self.checkpoints, self.first_checkpoint)

    def scheduled(self, images: int) -> "Config":
        """With the steps that the epochs mean for so many training images."""
        steps = self.ama.steps if self.epochs is None else max(1, round(self.epochs * images / self.batch_size))
        ama = variants.in_time(dataclasses.replace(self.ama, steps=steps), self.compare)
        return dataclasses.replace(self, epochs=None, ama=ama)

    def load(self) -> data.Task:
        """The task with images of a size that the networks take, and 50 anomalies in validation as in the paper."""
        return self.load_fitted_task(self.seed, next_size, valid_anomalies=50)


PRESETS: dict[str, dict[str, Any]] = {
    "default": {},
    "smoke": {
        "dataset": "digits", "image_size": 8, "ama": AMAConfig(width=0.05, steps=40, latent_dim=16), "checkpoints": 2,
        "batch_size": 16, "compare": (),
    },
    # Section 4.1 of the paper: 100 epochs of 256 images, validated after each epoch from the 21st on.
    "paper": {
        "image_size": 32, "ama": AMAConfig(schedule_steps=None, shell_draw="volume"), "epochs": 100, "batch_size": 256,
        "checkpoints": 80, "first_checkpoint": 0.21, "num_seeds": 3,
    },
}  # fmt: skip


def run(asked: Config) -> None:
    """The whole experiment."""
    asked.check()
    task = asked.load()
    config = asked.scheduled(len(task.train.images))
    evals = config.evals()  # what does not fit is known before anything is written
    with runner.session(asked, "ama", data.table(task), data=task) as folder:
        if folder is None:
            return
        said = variants.training_notes(asked.ama, config.ama, len(task.train.images), config.batch_size)
        config.say(*said)
        keys = runner.named_keys(config.seed, "train", "test", "pictures")
        trained = runs.train_variants(
            task, config.variants(), ama, key=keys["train"], num_seeds=config.num_seeds, evals=evals,
            batch_size=config.batch_size, folder=folder.path / "checkpoint", quiet=config.quiet,
            trained_as=variants.trained_as,
            advice=lambda settings: f"lower --ama.learning-rate, which is {settings.learning_rate:g}",
        )  # fmt: skip
        config.say("testing ...")
        main, seed = trained["ama"], trained["ama"].seed(config.choose)
        options = {"key": keys["test"], "target_fpr": config.target_fpr}
        state, evaluation, by_choice = runs.choose_tested(main, task, config.choose, **options)
        results = runner.task_results(
            task, evaluation, method="ama", seed=config.seed, training=main.facts(evals[-1], config.batch_size),
            chosen_by=config.choose, chosen_seed=seed, test_by_choice=by_choice,
            plain=True, variants=runs.compare_variants(task, trained, variants.scored),
            notes=[*said, *runs.choice_notes(config.num_seeds, by_choice), *runner.few_anomalies(task)],
        )  # fmt: skip
        runner.keep(folder, task, main.config, state, evaluation, chosen_by=config.choose)

        def page(results: dict[str, Any]) -> str:
            rebuilt, other = jax.jit(make_inference(main.config).reconstruct), trained.get("no-mirror")
            shown = pictures(main.detector, state, task, evaluation, lambda images: rebuilt(state, images))
            plain = other and (other.config, member(other.states[config.choose], seed))
            parts = report.ama_pictures(main.config, state, task, shown, key=keys["pictures"], plain=plain)
            sections = report.ama_sections(**parts, steps=main.steps, history=main.curves)
            made = {"sections": sections, **runner.made_by(config)}
            return report.render_training(method="AMA", results=results, pictures=shown, **made)

        runs.show_variants(runner.finish(folder, results, page), quiet=config.quiet)
        runner.say_end(config, folder)


if __name__ == "__main__":
    cli.main(run, Config, presets=PRESETS)
