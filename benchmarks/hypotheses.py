"""What each hypothesis is worth to random children, and how often it fails them: the same architectures under each.

    python benchmarks/hypotheses.py
    python benchmarks/hypotheses.py --datasets digits:0 digits:3 --children 24 --steps 20 --json hypotheses.json

The children are random architectures of the paper's space. Each is trained once with every hypothesis, from the same
weights and on the same batches, with Adam at the library's rate, with the paper's SGD at 0.1 and lambda 1, and with
that and gradients clipped. Printed are the mean validation AUROC of those that can be scored, how many were better than
with the paper's cluster score, and how many failed (a loss, scores or maps that are not finite, or all equal).
"""

import argparse
import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np
from interleaved import save

import jaxad
from jaxad.nas import supernet, trial
from jaxad.nas.executors.sequential import Sequential
from jaxad.nas.space import SearchSpace
from jaxad.nas.trial import Job, TrialConfig
from jaxad.nn.objectives import HYPOTHESES
from jaxad.nn.objectives.child import ChildConfig

SETTINGS = {
    "Adam": ChildConfig(),
    "Adam, lambda 1": ChildConfig(regulariser=1.0),
    "SGD 0.1, lambda 1": ChildConfig(optimiser="sgd", learning_rate=0.1, regulariser=1.0),
    "SGD 0.1, lambda 1, clip 1": ChildConfig(optimiser="sgd", learning_rate=0.1, regulariser=1.0, clip=1.0),
}


def rewards(task: Any, space: SearchSpace, tokens: np.ndarray, config: TrialConfig) -> dict[str, np.ndarray]:
    """Validation AUROC of every child by hypothesis, NaN where it failed."""
    shared = supernet.init(np.random.default_rng(0), space, task.train.images.shape[3])
    executor = Sequential(trial.put(task.train.images, task.valid.images, task.valid.labels), config)
    found = {}
    for name in HYPOTHESES:
        children = [dataclasses.replace(space.to_architecture(row), hypothesis=name) for row in tokens]
        jobs = [Job(child, supernet.take(shared, child), jax.random.key(7)) for child in children]
        results = [result.reward for result in executor(jobs)]
        found[name] = np.array([float(reward.value) if reward.usable else np.nan for reward in results])
    executor.close()
    return found


def main() -> None:
    """Train every child under every hypothesis and setting, print a table a setting."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--datasets", nargs="+", default=["digits:0", "digits:3"], help="SET:CLASS that is normal")
    parser.add_argument("--children", type=int, default=12, help="architectures a set")
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--image-size", type=int, help="side of the images; by default their own")
    parser.add_argument("--json", type=Path, help="also keep every reward here")
    arguments = parser.parse_args()
    space = SearchSpace(num_layers=arguments.layers)
    results: dict[str, Any] = {}
    for setting, child in SETTINGS.items():
        config = TrialConfig(steps=arguments.steps, batch_size=32, child=child)
        every: dict[str, list[np.ndarray]] = {name: [] for name in HYPOTHESES}
        for number, dataset in enumerate(arguments.datasets):
            source, _, normal = dataset.rpartition(":")
            options = {"image_size": arguments.image_size} if arguments.image_size else {}
            task = jaxad.load_task(source, normal_classes=[normal], anomaly_ratio=0.3, limit=600, **options)
            tokens = np.asarray(space.sample(jax.random.key(number), arguments.children))
            for name, values in rewards(task, space, tokens, config).items():
                every[name].append(values)
        together = {name: np.concatenate(values) for name, values in every.items()}
        results[setting] = {name: values.tolist() for name, values in together.items()}
        print(f"{setting}\n  {'hypothesis':18}{'mean AUROC':>11}{'better than cluster':>21}{'failed':>8}", flush=True)
        for name, values in together.items():
            better = np.nansum(values > together["cluster"])
            failed = f"{np.isnan(values).sum()}/{len(values)}"
            print(f"  {name:18}{np.nanmean(values):11.3f}{better:21.0f}{failed:>8}", flush=True)
        save(arguments.json, results)


if __name__ == "__main__":
    main()
