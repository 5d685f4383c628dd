"""A saved detector as one function of photographs: everything from their bytes to a decision."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxad.data.batches import to_float
from jaxad.data.fitting_jax import fit_bytes, to_channels_bytes
from jaxad.data.tiles import LARGE, Grid
from jaxad.methods import DETECTORS
from jaxad.nn.standard import standardised
from jaxad.runs.detection import fit_of, trained_grid
from jaxad.runs.export_folding import folded
from jaxad.runs.saving import LoadedDetector
from jaxad.types import Array, Detector, State


class Program(NamedTuple):
    """What an artefact is made of."""

    outputs: Callable[[Array], tuple[Array, ...]]  # of photographs [B, H, W, C] uint8, each with an axis B in front
    names: tuple[str, ...]  # of the outputs, in their order
    photograph: tuple[int, int, int]  # (H, W, C)
    threshold: np.float32 | None  # a further output, the same for all

    @property
    def all_names(self) -> tuple[str, ...]:
        """Names of the outputs, the threshold last."""
        return self.names if self.threshold is None else (*self.names, "threshold")

    def __call__(self, photographs: Array) -> tuple[Array, ...]:
        """All outputs."""
        found = tuple(self.outputs(photographs))
        return found if self.threshold is None else (*found, jnp.asarray(self.threshold))


def make_program(loaded: LoadedDetector, photograph: tuple[int, int, int]) -> Program:
    """What a detector makes of photographs of a shape (H, W, C), with its weights inside.

    Returns:
      The program. Its outputs are "score" [B] float32; of a detector that localises "map" [B, h, w] float32, at the
      detector's size; and of one with a threshold "anomalous" [B] bool and "threshold", a float32. A score that is no
      number is anomalous: nothing says that the image is normal.

    Raises:
      ValueError: channels that cannot be those of the training, tiles whose map would have to be reduced.
    """
    # Built anew: what JAX has traced of another's functions would keep the forms that it was traced with.
    detector = DETECTORS[loaded.name].build.__wrapped__(loaded.config)
    state, grid, size = loaded.state, trained_grid(loaded), tuple(loaded.image_shape[:2])
    if grid is not None and max(grid.image) > LARGE:
        raise ValueError(f"the maps of its tiles cover {max(grid.image)} pixels; the limit is {LARGE}: use fewer tiles")
    threshold = None if loaded.threshold is None else _rounded_down(loaded.threshold.value)

    def outputs(photographs: Array) -> tuple[Array, ...]:
        fitted = fit_bytes(photographs, size if grid is None else grid.image, fit_of(loaded))
        images = to_float(to_channels_bytes(fitted, loaded.image_shape.channels))
        found = _scored(detector, state, images) if grid is None else _of_tiles(detector, state, images, grid)
        return found if threshold is None else (*found, ~(found[0] <= threshold))

    names = (*("score", "map")[: 1 + (detector.score_map is not None)], *("anomalous",)[: threshold is not None])
    program = Program(outputs, names, photograph, threshold)
    jax.eval_shape(outputs, jax.ShapeDtypeStruct((1, *photograph), np.uint8))  # refuses what it cannot be given
    return program


def one_by_one(program: Program) -> Program:
    """The same program, which looks at one photograph after another: all shapes in it are known but the batch.

    It is traced here and now, so that whatever converts it meets JAX's own operations and no function to replace.
    """
    photograph = jax.ShapeDtypeStruct(program.photograph, np.uint8)
    of_one = folded(lambda image: [part[0] for part in program.outputs(image[None])], photograph)
    return program._replace(outputs=lambda photographs: tuple(lax.map(lambda image: of_one(image), photographs)))


def _scored(detector: Detector, state: State, images: Array) -> tuple[Array, ...]:
    """Scores [B] and, of a detector that localises, maps [B, h, w] of images [B, h, w, C], from one pass of a stage."""
    stage = detector.stage
    if stage is None:
        found = (detector.score(state, images),)
        return found if detector.score_map is None else (*found, detector.score_map(state, images))
    maps = standardised(stage.assemble(stage.outputs(state.network, images)), state.centre, state.scale)
    found = (stage.inner.score(state.inner, maps),)
    if detector.score_map is None:
        return found
    return *found, stage.enlarge(stage.inner.score_map(state.inner, maps), images.shape[1:3])


def _of_tiles(detector: Detector, state: State, images: Array, grid: Grid) -> tuple[Array, ...]:
    """As `jaxad.runs.detection` has it for a detector of tiles: the highest score, and the mean where maps overlap."""
    height, width = grid.tile
    parts = [_scored(detector, state, images[:, y : y + height, x : x + width]) for y, x in grid.corners]
    score = jnp.max(jnp.stack([part[0] for part in parts]), 0)
    if detector.score_map is None:
        return (score,)
    total, count = jnp.zeros((1, *grid.image)), np.zeros((1, *grid.image), np.float32)
    for part, (y, x) in zip(parts, grid.corners, strict=True):
        around = [(0, 0), (y, grid.image[0] - y - height), (x, grid.image[1] - x - width)]
        total = total + jnp.pad(part[1], around)
        count[:, y : y + height, x : x + width] += 1
    return score, total / count


def _rounded_down(threshold: float) -> np.float32:
    """The float32 by which float32 scores are anomalous if, and only if, they are by the threshold itself."""
    rounded = np.float32(threshold)
    # As Python floats: NumPy would compare the two as float32.
    return np.nextafter(rounded, np.float32(-np.inf)) if float(rounded) > threshold else rounded
