"""What the score of a trained architecture goes by: test AUROC of its parts, and of how much there is in an image.

    python experiments/tables.py --budget laptop --tables autoad-4 --output runs/tables
    python benchmarks/score_parts.py runs/tables/train_detector-*
    python benchmarks/score_parts.py RUN --json parts.json

A run is a folder of `jaxad train --detector autoencoder`, or of a table's row that does this. Its score is
DIST + lambda REG (AutoAD, Eq. 2). Printed is the AUROC on its test images of

    score        both together, as the run has it
    distance     DIST alone
    regulariser  REG alone
    zeros        the distance to images of zeros, for which nothing is trained: how much there is to reconstruct
    relative     DIST over that distance: the share of an image that was not reconstructed

and the rank correlation of DIST with the distance to zeros. Where `zeros` is far below 0.5 anomalies have less in them
that can be reconstructed wrongly, and a distance that goes by it ranks them below normal images.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from interleaved import save
from scipy.stats import spearmanr

from jaxad.data.batches import as_float, map_batches
from jaxad.methods.autoencoder import AutoencoderConfig, AutoencoderState
from jaxad.metrics.image import auroc
from jaxad.nn.objectives.child import make_child
from jaxad.nn.objectives.distances import get_distance
from jaxad.runs import cli, saving
from jaxad.runs.programs import train
from jaxad.runs.progress import table
from jaxad.types import Array

COLUMNS = ("score", "distance", "regulariser", "zeros", "relative", "correlation")


def parts(config: AutoencoderConfig, state: AutoencoderState, images: np.ndarray) -> dict[str, np.ndarray]:
    """Of every image [n, H, W, C]: DIST, REG, their sum, and what there was to reconstruct."""
    child, distance = make_child(config.architecture, config.child), get_distance(config.architecture.distance)

    def of_batch(images: Array) -> Array:
        terms = child.parts(state.params, state.stats, images, state.moments)
        zeros = jax.vmap(distance.score)(jnp.zeros_like(images), images)
        return jnp.stack([terms.distance, terms.regulariser, zeros], axis=1)

    found, regulariser, zeros = np.asarray(map_batches(of_batch, as_float(images), 64)).T
    score = found + config.child.regulariser * regulariser
    return {
        "score": score, "distance": found, "regulariser": regulariser, "zeros": zeros,
        "relative": found / np.maximum(zeros, 1e-6),
    }  # fmt: skip


def measure(folder: Path) -> tuple[str, dict[str, float]]:
    """What a run was of, and each part's AUROC, with the correlation."""
    loaded = saving.load(folder / "best", trainable=False)
    if not isinstance(loaded.config, AutoencoderConfig) or loaded.config.architecture.input != "pixels":
        raise SystemExit(f"{folder} holds a {loaded.name}: give runs of an autoencoder of pixels")
    task = train.Config(**cli.stored_settings(train.Config, folder)).load()
    found = parts(loaded.config, loaded.state, task.test.images)
    values = {name: float(auroc(part, task.test.labels)) for name, part in found.items()}
    return task.name, values | {"correlation": float(spearmanr(found["distance"], found["zeros"]).statistic)}


def main(flags: Sequence[str] | None = None) -> None:
    """Measure every run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folders of finished runs")
    parser.add_argument("--json", type=Path, help="also keep everything here")
    arguments = parser.parse_args(flags)
    found = {str(folder): measure(folder) for folder in arguments.runs}
    save(arguments.json, {name: {"task": task, **values} for name, (task, values) in found.items()})
    lines = [(name, task, *(f"{values[column]:.3f}" for column in COLUMNS)) for name, (task, values) in found.items()]
    table("test AUROC of the parts of a score", ("run", "task", *COLUMNS), lines)


if __name__ == "__main__":
    main()
