"""Photographs that come with scikit-image and scikit-learn, and foreign things put on what they show and beside it."""

from typing import NamedTuple

import numpy as np

from jaxad._utils.memory import check_memory
from jaxad.data.images import resize

RADIUS, JITTER = 0.07, 0.04  # of a foreign disc and of its place, in sides of the photograph


class Scene(NamedTuple):
    """A photograph, and where in it (row, column, in sides) a foreign thing is put."""

    on: tuple[float, float]  # the thing that the photograph shows
    off: tuple[float, float]  # its background


SCENES = {
    "chelsea": Scene((0.35, 0.55), (0.9, 0.08)),
    "coffee": Scene((0.38, 0.48), (0.1, 0.9)),
    "astronaut": Scene((0.65, 0.35), (0.15, 0.93)),
    "flower": Scene((0.45, 0.45), (0.15, 0.12)),
}
"""Chosen by hand, before anything was computed on them."""


def photographs(side: int) -> np.ndarray:
    """[4, side, side, 3] uint8, the middle squares of the photographs of `SCENES`."""
    from skimage import data
    from sklearn.datasets import load_sample_image

    made = []
    for name in SCENES:
        image = load_sample_image("flower.jpg") if name == "flower" else getattr(data, name)()
        square = min(image.shape[:2])
        top, left = ((length - square) // 2 for length in image.shape[:2])
        made.append(resize(image[None, top : top + square, left : left + square], side)[0])
    return np.stack(made)


class Disturbed(NamedTuple):
    """Photographs with two foreign discs each, one photograph after another, every one several times."""

    images: np.ndarray  # [N, S, S, 3] uint8
    on: np.ndarray  # [N, S, S] bool, the disc on the thing that the photograph shows
    off: np.ndarray  # [N, S, S] bool, the disc on its background


def disturb(photos: np.ndarray, draws: int, rng: np.random.Generator) -> Disturbed:
    """Every photograph [4, S, S, 3] of `SCENES` `draws` times, with a piece of another one in two places.

    Raises:
      ValueError: more than fit into memory.
    """
    side = photos.shape[1]
    needed = draws * (photos.size + 2 * photos[..., 0].size)
    check_memory(needed, f"{draws} draws of {len(photos)} photographs of {side}x{side} pixels", "give fewer draws")
    images, on, off = [], [], []
    rows, columns = np.mgrid[:side, :side] / side
    for index, scene in enumerate(SCENES.values()):
        for _ in range(draws):
            image = photos[index].copy()
            other = photos[rng.choice([i for i in range(len(photos)) if i != index])]
            shift = rng.integers(0, side, 2)
            masks = []
            for place in scene:
                row, column = np.asarray(place) + rng.uniform(-JITTER, JITTER, 2)
                masks.append(np.hypot(rows - row, columns - column) <= RADIUS)
                image[masks[-1]] = np.roll(other, shift, (0, 1))[masks[-1]]
            images.append(image)
            on.append(masks[0])
            off.append(masks[1])
    return Disturbed(np.stack(images), np.stack(on), np.stack(off))
