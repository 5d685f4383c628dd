"""Find an image anomaly detector for your data: search, retrain the best, test it once, report.

    python experiments/autoad_search.py                                     # bundled textures, offline, minutes
    python experiments/autoad_search.py --dataset fashion_mnist --ood mnist # prepared TFDS sets (TFDS_DATA_DIR)
    python experiments/autoad_search.py --dataset folder:photos --normal-classes good
    python experiments/autoad_search.py --dataset mvtec:DATA/bottle --reward pixel_auroc    # where are defects?
    python experiments/autoad_search.py --preset smoke                      # see everything happen in a minute
    python experiments/autoad_search.py --resume runs/autoad-20260101-120000

What it does: children of a search space (autoencoder architecture x anomaly hypothesis x distance, AutoAD Eq. 2) train
a few steps each on shared weights and are rewarded for how well they rank validation images. The best are retrained
from scratch and validated on the way; the best moment of the best one is tested, once. All is in the run folder: open
report.html.
"""

import dataclasses
from contextlib import closing
from pathlib import Path
from typing import Any, Literal

import jax

from jaxad import data, report
from jaxad._utils import compile as backend
from jaxad._utils import files
from jaxad.methods.autoencoder import reconstruct
from jaxad.nas import loop, trial
from jaxad.nas.analysis.render import summary
from jaxad.nas.analysis.summary import architecture_facts, search_facts
from jaxad.nas.executors.population import make_executor
from jaxad.nas.space import SearchSpace
from jaxad.nas.strategies.autoad import AutoADConfig
from jaxad.nas.strategies.registry import STRATEGIES, make_strategy
from jaxad.nn.architecture import Architecture
from jaxad.nn.objectives.child import ChildConfig
from jaxad.report import controller_parts, overlays
from jaxad.runs import cli
from jaxad.runs import folder as runs
from jaxad.runs.evaluation import evaluate, evaluate_pixels, pictures, predictions
from jaxad.runs.progress import Progress, show_metrics
from jaxad.runs.retraining import Winner, retrain
from jaxad.runs.saving import save_detector
from jaxad.training.scoring import map_images


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(cli.RunConfig, data.TaskConfig):
    """Find an image anomaly detector for your data."""

    # ---- the search
    preset: Literal["default", "smoke", "paper"] = "default"
    """Where flags are not given: default (minutes on a laptop), smoke (under a minute), paper (for a GPU)."""
    strategy: str = "autoad"
    """Who proposes architectures: autoad (the learned controller), random, evolution, or another that is registered."""
    controller: AutoADConfig = dataclasses.field(default_factory=AutoADConfig)
    """Settings of the learned controller."""
    seed: int = 0
    """Decides everything random: same seed, same result."""
    num_layers: int = 3
    """Encoder layers N; the space has (6N + 2)-token architectures."""
    children: int = 30
    """Architectures to try; none is tried twice."""
    population: int = 6
    """Children that start from the same shared weights; their changes are averaged."""
    time_budget: float | None = None
    """Seconds of searching after which the running child is the last."""
    steps: int = 10
    """Training steps of one child."""
    batch_size: int = 64
    """Images of one step."""
    reward: Literal["auroc", "aupr_in", "aupr_out", "pixel_auroc", "rpro"] = "auroc"
    """Validation metric that children compete for: of scores, or of maps by masks (pixel_auroc, rpro)."""
    optimiser: Literal["adam", "sgd"] = "adam"
    """Of children: Adam, or SGD with momentum 0.9."""
    learning_rate: float = 3e-3
    """Of children; divided by 10 at 50 % and 75 % of the steps."""
    regulariser: float = 0.1
    """Weight of the hypothesis against the distance (Eq. 2 has 1)."""
    executor: Literal["auto", "sequential", "vmapped"] = "auto"
    """Children one by one (CPU), or those of equal shape side by side (GPU, TPU)."""

    # ---- after the search
    retrain_top: int = 2
    """So many of the best architectures are retrained from scratch; validation chooses among them."""
    retrain_seeds: int = 1
    """Training seeds of each."""
    retrain_steps: int = 160
    """Training steps of each; validated after 10, 20, 40, ... and the last step, and kept as it was at its best."""
    target_fpr: float = 0.05
    """Share of normal images that the threshold may flag, set on held-out normal images."""

    def check(self) -> None:
        """Raise ValueError for values out of range."""
        for name in ("num_layers", "children", "population", "retrain_top", "retrain_seeds", "retrain_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"--{name.replace('_', '-')} is {getattr(self, name)}; the least is 1")
        if self.time_budget is not None and not self.time_budget > 0:
            raise ValueError(f"--time-budget is {self.time_budget}; give seconds above 0")
        if not 0 < self.target_fpr < 1:
            raise ValueError(f"--target-fpr is {self.target_fpr}; give a share between 0 and 1, such as 0.05")
        self.controller.check()
        STRATEGIES.named(self.strategy)
        if self.strategy == "autoad" and self.controller.keep > self.population:
            raise ValueError(f"--controller.keep is {self.controller.keep}; the most is --population {self.population}")
        trial_config(self)


PRESETS: dict[str, dict[str, Any]] = {
    "default": {},
    "smoke": {
        "dataset": "digits", "num_layers": 2, "children": 4, "population": 2, "steps": 3, "retrain_top": 1,
        "retrain_steps": 20,
    },
    # Section V of the paper: N = 6 layers, 500 epochs of one child each; SGD at 0.1 as its text has it.
    "paper": {
        "num_layers": 6, "children": 500, "population": 1, "steps": 500, "optimiser": "sgd", "learning_rate": 0.1,
        "regulariser": 1.0, "retrain_seeds": 3, "retrain_steps": 20_000, "controller": AutoADConfig.paper(),
    },
}  # fmt: skip

MAY_DIFFER = cli.MAY_DIFFER | {"time_budget"}


def trial_config(config: Config) -> trial.TrialConfig:
    """What the flags say about one child."""
    child = ChildConfig(optimiser=config.optimiser, learning_rate=config.learning_rate, regulariser=config.regulariser)
    return trial.TrialConfig(steps=config.steps, batch_size=config.batch_size, reward=config.reward, child=child)


def run(config: Config) -> None:
    """The whole experiment."""
    # ---- task and folder ---------------------------------------------------------------------------------------
    config.check()
    task = config.load_task(config.seed)
    if trial_config(config).of_pixels and (task.valid.masks is None or not task.valid.masks.any()):
        raise ValueError(f"--reward {config.reward} needs masks, and {task.name} has none: give mvtec:PATH/CATEGORY")
    with config.open_folder("autoad", may_differ=MAY_DIFFER) as folder:
        if config.finds_finished(folder):
            return
        config.say(data.table(task), f"run folder: {folder.path}")
        backend.enable_compilation_cache(config.cache_dir)
        keys = dict(zip(("start", "search", "retrain", "test"), jax.random.split(jax.random.key(config.seed), 4)))

        # ---- search, retrain, test -----------------------------------------------------------------------------
        found = search(config, task, folder, keys)
        winner, candidates = retrained(config, task, folder, found["trials"], keys["retrain"])
        results = test(config, task, folder, found, winner, candidates, keys["test"])
        show(config, results, folder.path)


def search(config: Config, task: data.Task, folder: runs.Run, keys: dict[str, jax.Array]) -> dict[str, Any]:
    """Trials of this and earlier sessions of the run, and what they cost."""
    space = SearchSpace(num_layers=config.num_layers)
    options = dataclasses.asdict(config.controller) if config.strategy == "autoad" else {}
    strategy = loop.jit(make_strategy(config.strategy, space, population=config.population, **options))
    image_shape = task.train.images.shape[1:]
    state = loop.start(keys["start"], strategy, space, image_shape[-1])
    saved = folder.checkpoints.latest(state)
    facts = {"trials": 0, "elapsed": 0.0, "compiles": 0, "stopped": None, "costs": loop.Costs(0.0, 0.0)}
    if saved is not None:
        state, facts = saved.tree, saved.metadata
        config.say(*(f"skipped a damaged checkpoint: {path}" for path in saved.skipped))
    runs.truncate_trials(folder, facts["trials"])
    trials = [loop.Trial(**record) for record in runs.read_trials(folder)]
    if facts["stopped"] is None and len(trials) < config.children:
        masks = task.valid.masks if trial_config(config).of_pixels else None
        images = trial.put(task.train.images, task.valid.images, task.valid.labels, masks)
        compiled = facts["compiles"]
        with (
            closing(make_executor(config.executor, images, trial_config(config))) as executor,
            Progress(
                config.children, label="search", budget=config.time_budget, start=len(trials), quiet=config.quiet
            ) as progress,
        ):

            def on_trial(record: loop.Trial) -> None:
                runs.append_trial(folder, dataclasses.asdict(record))
                trials.append(record)
                best = max((t.reward for t in trials if t.status == "ok"), default=None)
                note = "failed: " + str(record.reason) if record.status == "failed" else f"last {record.reward:.3f}"
                progress.update(len(trials), best=best, note=note)

            def on_info(info: Any, costs: loop.Costs) -> None:
                facts["costs"] = loop.Costs(*map(sum, zip(facts["costs"], costs)))
                if config.strategy == "autoad":
                    files.append_line(folder.path / "controller.jsonl", info)

            def on_population(state: loop.SearchState, count: int, elapsed: float) -> None:
                facts.update(trials=count, elapsed=elapsed, compiles=compiled + executor.compiles)
                runs.sync(folder)
                folder.checkpoints.save(count, state, metadata=facts)

            end = loop.explore(
                strategy,
                space,
                executor,
                state,
                key=keys["search"],
                children=config.children,
                image_shape=image_shape,
                trials=tuple(trials),
                elapsed=facts["elapsed"],
                time_budget=config.time_budget,
                on_trial=on_trial,
                on_info=on_info,
                on_population=on_population,
            )
        facts.update(compiles=compiled + executor.compiles, stopped=end.stopped)
        if end.stopped:
            # The last population counts as far as it got, so that a resumed run ends with the same trials.
            facts.update(trials=len(trials), elapsed=trials[-1].elapsed)
            runs.sync(folder)
            folder.checkpoints.save(len(trials), end.state, metadata=facts)
            config.say(f"the search ended early: {end.stopped}, {len(trials)} of {config.children} children")
    return facts | {"trials": trials, "space": space}


def retrained(
    config: Config, task: data.Task, folder: runs.Run, trials: list[loop.Trial], key: jax.Array
) -> tuple[Winner, list[dict[str, Any]]]:
    """The best architectures, trained from scratch: the one that validation chose, and what was seen of all."""
    candidates = loop.best_trials(trials, config.retrain_top)
    if not candidates:
        reasons = ", ".join(sorted({str(t.reason) for t in trials})) or "no child ended within the time budget"
        raise ValueError(f"no child could be used ({reasons}): lower --learning-rate or raise --time-budget")
    total = len(candidates) * config.retrain_seeds * config.retrain_steps
    with Progress(total, label="retrain", quiet=config.quiet) as progress:
        return retrain(
            task,
            candidates,
            key=key,
            seeds=config.retrain_seeds,
            steps=config.retrain_steps,
            batch_size=config.batch_size,
            child=trial_config(config).child,
            criterion=config.reward,
            folder=folder.path / "checkpoint",
            on_steps=progress.update,
        )


def test(
    config: Config,
    task: data.Task,
    folder: runs.Run,
    found: dict[str, Any],
    winner: Winner,
    candidates: list[dict[str, Any]],
    key: jax.Array,
) -> dict[str, Any]:
    """The one test of the chosen detector, and everything that the run folder keeps of it."""
    detector, state, trials = winner.detector, winner.state, found["trials"]
    image_shape = task.train.images.shape[1:]
    evaluation = evaluate(
        detector, state, task, key=key, target_fpr=config.target_fpr, valid_scores=winner.valid_scores
    )
    pixels = evaluate_pixels(detector, state, task, seed=config.seed)
    results = {
        "task": task.details
        | {"name": task.name, "image_shape": image_shape, "parts": [row._asdict() for row in data.describe(task)]},
        "strategy": config.strategy,
        "seed": config.seed,
        "search": search_facts(
            trials,
            found["space"],
            # A controller that has learned nothing yet is nearly uniform.
            uniform=STRATEGIES[config.strategy].num_uniform(len(trials), config.population),
            **{name: found[name] for name in ("compiles", "stopped")},
            seconds=found["elapsed"],
            costs=loop.Costs(*found["costs"]),
        ),
        "best": architecture_facts(winner.trial, image_shape),
        "retrain": {
            "seeds": config.retrain_seeds,
            "steps": config.retrain_steps,
            "step": winner.step,
            "valid": winner.value,
            "candidates": candidates,
        },
        "threshold": evaluation.threshold._asdict(),
        "test": evaluation.test,
        **({} if pixels is None else {"segmentation": pixels}),
        "notes": notes(config, found, task),
        **runs.environment(),
    }
    scale = overlays.colour_scale(map_images(detector, state, data.held_out_normals(task)))
    save_detector(
        folder.best,
        name="autoencoder",
        config=winner.config,
        state=state,
        image_shape=image_shape,
        threshold=evaluation.threshold,
        details={
            "summary": summary(winner.config.architecture),
            "task": task.name,
            "step": winner.step,
            "valid": winner.value,
            "map_scale": scale,
        },
    )
    files.write_predictions(folder.path / "predictions.csv", predictions(task, evaluation))
    program = jax.jit(reconstruct, static_argnums=0)
    drawn = pictures(
        detector, state, task, evaluation, lambda x: program(winner.config.architecture, state, x), pixels=pixels
    )
    page = report.render_report(
        config=files.to_json(config) | {"resume": None},
        trials=[dataclasses.asdict(t) for t in trials],
        results=files.to_json(results),
        pictures=drawn,
        controller=controller_parts(
            [
                record
                for record in files.read_lines(folder.path / "controller.jsonl")
                if record["num_evaluated"] <= len(trials)
            ],
            found["space"].position_names,
            found["space"].values_by_action,
        ),
    )
    files.write_text(folder.path / "report.html", page)
    files.write_json(folder.path / "results.json", results)  # last: its presence says that the run is finished
    return results


def notes(config: Config, found: dict[str, Any], task: data.Task) -> list[str]:
    """What a reader should know before comparing the figures with others."""
    lines = [
        f"The reward uses {'masks of' if trial_config(config).of_pixels else 'labelled'} validation anomalies of the "
        "same kind as the test anomalies.",
        "Rewards of the search are measured on shared weights after a few steps; the test result is of the "
        "retrained detector.",
    ]
    if found["stopped"]:
        lines.append(f"The search ended early: {found['stopped']}.")
    if int(task.test.labels.sum()) < 30:
        lines.append(f"Only {int(task.test.labels.sum())} test images are anomalous: mind the intervals.")
    return lines


def show(config: Config, results: dict[str, Any], path: Path) -> None:
    """The result, for the terminal."""
    if config.quiet:
        return
    architecture = Architecture.from_json(results["best"]["architecture"])
    print(f"best: {summary(architecture)}")
    show_metrics(results)
    print(f"report:   {path / 'report.html'}")
    print(f"use it:   python experiments/detect.py {path} IMAGES ...")


if __name__ == "__main__":
    cli.main(run, Config, presets=PRESETS)
