"""Inspection tasks made of photographs that come with scikit-image: folders in MVTec AD's layout, with masks.

Textures (brick, grass, gravel) are crops, those of training from the left three fifths of the picture, all others from
the rest. Things (astronaut, coffee, rocket, chelsea) are one picture, taken again and again: a bit moved, turned, bent
and lit otherwise each time. The defects are painted by other means than `jaxad.data.made_anomalies`, so that
anomalies made there can be judged by these:

    crack       a dark random walk with branches
    bent        a part of the picture twisted or pushed aside
    foreign     a grainy blob with a soft edge on top
    discolour   a region whose channels are multiplied
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

TEXTURES = ("brick", "grass", "gravel")
THINGS = ("astronaut", "coffee", "rocket", "chelsea")
SIDE, CROP = 256, 128  # pixels of the images, and of what textures are enlarged from
TRAIN, GOOD, EACH = 60, 40, 10  # images: to train on, normal ones held out, and of each kind of defect
VISIBLE, LEAST = 9 / 255, 40  # change that counts as a defect, and pixels of it that there are


def write_task(name: str, folder: Path, seed: int, *, train: int = TRAIN, good: int = GOOD, each: int = EACH) -> Path:
    """The images of a task in `folder`, which is returned; what is there already is left as it is."""
    if (folder / "complete").exists():
        return folder
    rng = np.random.default_rng([seed, *name.encode()])
    picture = load_picture(name)
    for number in range(train):
        _save(folder / "train" / "good" / f"{number:03d}.png", draw_normal(rng, name, picture, training=True))
    for number in range(good):
        _save(folder / "test" / "good" / f"{number:03d}.png", draw_normal(rng, name, picture, training=False))
    for kind in DEFECTS:
        for number in range(each):
            changed, mask = paint(rng, draw_normal(rng, name, picture, training=False), kind)
            _save(folder / "test" / kind / f"{number:03d}.png", changed)
            _save(folder / "ground_truth" / kind / f"{number:03d}_mask.png", mask[..., None].astype(float))
    (folder / "complete").touch()
    return folder


def load_picture(name: str) -> np.ndarray:
    """[H, W, C] in [0, 1]; of things a square whose side is a bit more than an image's."""
    from skimage import data

    picture = np.atleast_3d(getattr(data, name)()).astype(np.float32) / 255
    if name in TEXTURES:
        return picture
    least = min(picture.shape[:2])
    top, left = ((np.array(picture.shape[:2]) - least) // 2).tolist()
    return np.clip(_enlarged(picture[top : top + least, left : left + least], SIDE + 24), 0, 1)


def draw_normal(rng: np.random.Generator, name: str, picture: np.ndarray, *, training: bool) -> np.ndarray:
    """A normal image [SIDE, SIDE, C]."""
    if name in TEXTURES:
        height, width = picture.shape[:2]
        border = 3 * width // 5
        left, right = (0, border) if training else (border, width)
        y, x = rng.integers(0, height - CROP + 1), rng.integers(left, right - CROP + 1)
        image = _enlarged(picture[y : y + CROP, x : x + CROP], SIDE)
    else:
        image = _taken_again(rng, picture)
    light = rng.uniform(0.93, 1.07) + rng.uniform(-0.06, 0.06) * np.linspace(-1, 1, SIDE)[:, None, None]
    return np.clip(image * light + rng.normal(0, 2 / 255, image.shape), 0, 1)


def paint(rng: np.random.Generator, image: np.ndarray, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """An image with a defect, and its mask [SIDE, SIDE]: pixels that differ visibly."""
    while True:
        changed = np.clip(DEFECTS[kind](rng, image), 0, 1)
        mask = (np.abs(changed - image) > VISIBLE).any(-1)
        if mask.sum() >= LEAST:
            return changed, mask


def crack(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Dark walks of 40 to 120 pixels that start at one place, one to three of them."""
    marked, start = np.zeros(image.shape[:2], bool), rng.uniform(0.15, 0.85, 2) * SIDE
    for _ in range(rng.integers(1, 4)):
        turn = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.normal(0, 0.35, rng.integers(40, 120)))
        walk = np.rint(start + np.cumsum(np.stack([np.sin(turn), np.cos(turn)], 1), 0)).astype(int)
        marked[tuple(walk[((walk >= 0) & (walk < SIDE)).all(1)].T)] = True
    soft = ndimage.gaussian_filter(marked.astype(float), rng.uniform(0.5, 1.1))
    return image * (1 - rng.uniform(0.25, 0.6) * np.minimum(soft / soft.max() * 1.5, 1))[..., None]


def bent(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Pixels within a round window moved by up to 5 to 12 pixels, or turned by up to half a radian or more."""
    grid = np.mgrid[:SIDE, :SIDE].astype(float)
    away = grid - rng.uniform(0.2, 0.8, 2)[:, None, None] * SIDE
    window = np.exp(-np.square(away).sum(0) / (2 * rng.uniform(10, 22) ** 2))
    if rng.random() < 0.5:
        angle = rng.uniform(0.5, 1.2) * rng.choice([-1, 1]) * window
        moved = np.stack([np.cos(angle) * away[0] - np.sin(angle) * away[1],
                          np.sin(angle) * away[0] + np.cos(angle) * away[1]]) - away  # fmt: skip
    else:
        direction = rng.uniform(0, 2 * np.pi)
        moved = rng.uniform(5, 12) * window * np.array([np.sin(direction), np.cos(direction)])[:, None, None]
    return _sampled(image, grid + moved)


def foreign(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """A blob 10 to 30 pixels across, of another colour and with grain of its own."""
    colour = rng.uniform(0, 1, image.shape[2]) + ndimage.gaussian_filter(rng.normal(0, 0.3, image.shape), (1.5, 1.5, 0))
    return image + (rng.uniform(0.4, 0.9) * _spot(rng, 5, 15))[..., None] * (colour - image)


def discolour(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """A region 30 to 80 pixels across, whose channels are multiplied by 0.7 to 1.35."""
    gain = np.exp(rng.uniform(0.12, 0.3) * rng.choice([-1, 1], image.shape[2]))
    return image * (1 + _spot(rng, 15, 40)[..., None] * (gain - 1))


DEFECTS: dict[str, Callable[[np.random.Generator, np.ndarray], np.ndarray]] = {
    "crack": crack,
    "bent": bent,
    "foreign": foreign,
    "discolour": discolour,
}


def _spot(rng: np.random.Generator, least: float, most: float) -> np.ndarray:
    """Weights [SIDE, SIDE] of a soft irregular spot with radii between those numbers."""
    away = np.mgrid[:SIDE, :SIDE] - rng.uniform(0.15, 0.85, 2)[:, None, None] * SIDE
    rough = ndimage.gaussian_filter(rng.normal(size=(SIDE, SIDE)), least / 2)
    distance = np.hypot(*(away / rng.uniform(least, most, 2)[:, None, None])) + 0.2 * rough / rough.std()
    return np.clip((1.1 - distance) / 0.25, 0, 1)


def _taken_again(rng: np.random.Generator, picture: np.ndarray) -> np.ndarray:
    """The middle of a thing's picture, moved by up to 5 pixels, turned by up to 2 degrees and slightly bent."""
    centred = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    angle = np.deg2rad(rng.uniform(-2, 2))
    turned = np.stack([np.cos(angle) * centred[0] - np.sin(angle) * centred[1],
                       np.sin(angle) * centred[0] + np.cos(angle) * centred[1]])  # fmt: skip
    bends = ndimage.zoom(rng.normal(0, 1.5, (2, 5, 5)), (1, SIDE / 5, SIDE / 5), order=1)[:, :SIDE, :SIDE]
    places = turned + bends[:, :SIDE, :SIDE] + rng.uniform(-5, 5, 2)[:, None, None] + (picture.shape[0] - 1) / 2
    return _sampled(picture, places)


def _sampled(image: np.ndarray, places: np.ndarray) -> np.ndarray:
    channels = [ndimage.map_coordinates(image[..., c], places, order=1, mode="reflect") for c in range(image.shape[2])]
    return np.stack(channels, -1)


def _enlarged(image: np.ndarray, side: int) -> np.ndarray:
    factors = (side / image.shape[0], side / image.shape[1], 1)
    return ndimage.zoom(image, factors, order=1, grid_mode=True, mode="nearest")


def _save(file: Path, image: np.ndarray) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.rint(image * 255).astype(np.uint8)
    Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(file)
