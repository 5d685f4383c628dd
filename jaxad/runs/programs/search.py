"""Find an image anomaly detector for your data: search, retrain the best, test it once, report.

    jaxad search                                                  # bundled textures, offline, minutes
    jaxad search --dataset fashion_mnist --ood mnist              # prepared TFDS sets (TFDS_DATA_DIR)
    jaxad search --dataset folder:photos --normal-classes good
    jaxad search --dataset mvtec:DATA/bottle --reward pixel_auroc # where are defects?
    jaxad search --strategy autoad                                # the learned controller proposes
    jaxad search --preset smoke                                   # see everything happen in a minute
    jaxad search --resume runs/autoad-20260101-120000

Children of a search space (architecture x hypothesis x distance, AutoAD Eq. 2) train on shared weights, the best of
them from scratch, and quick detectors, the rivals, beside them. What validation prefers of all is tested: report.html.
"""

import dataclasses
from typing import Any, ClassVar, Literal

from jaxad import data
from jaxad.nas.analysis.render import summary
from jaxad.nas.strategies.autoad import AutoADConfig
from jaxad.runs import cli, league, workers
from jaxad.runs.growing import grow
from jaxad.runs.runner import say_end, session
from jaxad.runs.search import SearchConfig, search


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(SearchConfig, workers.HostsConfig, cli.RunConfig, data.TaskConfig):
    """Find an image anomaly detector for your data."""

    preset: Literal["default", "smoke", "paper"] = "default"
    """Settings where flags give none: default (minutes on a laptop), smoke (under a minute), paper (for a GPU)."""
    program: ClassVar = "jaxad search"


PRESETS: dict[str, dict[str, Any]] = {
    "default": {},
    "smoke": {
        "dataset": "digits", "num_layers": 2, "children": 4, "population": 2, "steps": 3, "retrain_top": 1,
        "retrain_steps": 20,
    },
    # Section V of the paper: N = 3 (V-E), SGD at 0.1; its 500 epochs are read as 500 children of 500 steps each.
    "paper": {
        "space": "paper", "num_layers": 3, "strategy": "autoad", "controller": AutoADConfig.paper(),
        "children": 500, "population": 10, "time_budget": None, "steps": 500, "batch_size": 64,
        "optimiser": "sgd", "learning_rate": 0.1, "regulariser": 1.0, "num_seeds": 3, "retrain_steps": 20_000,
    },
}  # fmt: skip
MAY_DIFFER = cli.MAY_DIFFER | workers.MAY_DIFFER | {"time_budget", "children"}


def run(config: Config) -> None:
    """The whole experiment."""
    config.check()
    config.check_hosts(config, config.executor)
    if config.hosts > 1:
        config.say(f"host {config.host} of {config.hosts} waits for the others at {config.coordinator}")
    with workers.company(config) as searches:
        if searches:
            _search(config)


def _search(config: Config) -> None:
    task = config.load_task(config.seed)
    config.check(task)
    with session(config, "autoad", data.table(task), data=task, may_differ=MAY_DIFFER, grow=grow) as folder:
        if folder is not None:
            found = search(task, config, output=folder, quiet=config.quiet)
            league.show(found.league, config.reward, quiet=config.quiet)
            config.say(found.results["verdict"], f"best child: {summary(found.child.architecture)}")
            say_end(config, folder, found.results)


def main() -> None:
    """What the command and the script call."""
    cli.main(run, Config, presets=PRESETS)
