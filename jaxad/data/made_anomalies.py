"""Anomalies made of normal images, with masks of what was changed, for tasks that have none of their own.

    patch      a piece from elsewhere, pasted (CutPaste; Li et al., CVPR 2021)
    texture    another image, or the same in other colours, blended in where Perlin noise is high (DRAEM; Zavrtanik et
               al., ICCV 2021)
    scratch    a thin wandering line, darker or lighter
    blur       a region that is out of focus
    stain      a region that is darker, lighter or of another colour

Sizes are shares of the image's. The function of a kind takes a generator, an image [H, W, C] float32 in [0, 1] and
other normal images [N, H, W, C], uint8 or float in [0, 1], and returns the changed image.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from jaxad.data.images import to_dtype

VISIBLE = 8.5 / 255  # the change of a pixel, in any channel, above which it belongs to the mask: 9 of 255 levels
LEAST = 5e-4  # share of the pixels, and one at least, that an anomaly has
REDRAWS = 20

Make = Callable[[np.random.Generator, np.ndarray, np.ndarray], np.ndarray]


class Made(NamedTuple):
    """Anomalous images."""

    images: np.ndarray  # [n, H, W, C], of the type of the normal ones
    masks: np.ndarray  # [n, H, W] uint8, 1 where a pixel differs visibly
    kinds: list[str]  # [n], of `KINDS`
    bases: np.ndarray  # [n] indices of the normal images that were changed


def make_anomalies(normal: np.ndarray, count: int, *, seed: int | tuple[int, ...] = 0) -> Made:
    """Makes anomalies of normal images, in turns of each image and of each kind.

    Which one a number gives depends on the seed and the images alone, not on how many are made.

    Args:
      normal: [N, H, W, C] uint8, or floats in [0, 1].
      count: how many to make.
      seed: one number or several.
    """
    seeds = (seed,) if isinstance(seed, int) else seed
    names, images, masks, kinds = list(KINDS), [], [], []
    for i in range(count):
        rng = np.random.default_rng([*seeds, i])
        image, mask, kind = make_anomaly(rng, normal[i % len(normal)], normal, names[i % len(names)])
        images.append(image)
        masks.append(mask)
        kinds.append(kind)
    return Made(np.stack(images), np.stack(masks), kinds, np.arange(count) % len(normal))


def make_anomaly(
    rng: np.random.Generator, image: np.ndarray, others: np.ndarray, kind: str
) -> tuple[np.ndarray, np.ndarray, str]:
    """A changed copy of an image, its mask, and its kind.

    The mask [H, W] has exactly the pixels of which a channel changed by more than `VISIBLE`, at least one and one in
    2,000. What changes fewer (a piece of the same grey, blur of a plain image) is drawn again; a stain replaces what
    never changes more.

    Args:
      image: [H, W, C] uint8 or float in [0, 1].
      others: [N, H, W, C] normal images to take pieces of; the image may be among them.
      kind: one of `KINDS`.

    Raises:
      ValueError: an unknown kind.
    """
    if kind not in KINDS:
        raise ValueError(f"no anomaly {kind!r} can be made; choose one of {', '.join(KINDS)}")
    before = to_dtype(image, np.float32)
    for made in [kind] * REDRAWS + ["stain"] * REDRAWS:
        changed = to_dtype(KINDS[made](rng, before, others).clip(0, 1), image.dtype)
        mask = (np.abs(to_dtype(changed, np.float32) - before) > VISIBLE).any(-1)
        if mask.sum() >= max(1, LEAST * mask.size):
            return changed, mask.astype(np.uint8), made
    raise ValueError(f"no change of an image of mean {before.mean():g} is visible: it is too small or not finite")


def paste_patch(rng: np.random.Generator, image: np.ndarray, others: np.ndarray) -> np.ndarray:
    """A rectangle of 2 to 10 % of the area, of this or another image, pasted elsewhere, a bit darker or lighter."""
    size = np.array(image.shape[:2])
    area, ratio = rng.uniform(0.02, 0.10) * size.prod(), np.exp(rng.uniform(np.log(0.3), np.log(3.3)))
    h, w = np.rint(np.sqrt([area * ratio, area / ratio])).astype(int).clip(1, size)
    donor = image if rng.random() < 0.5 else _another(rng, others)
    (top, left), (to_top, to_left) = rng.integers(0, size - [h, w] + 1, (2, 2))
    changed = image.copy()
    changed[to_top : to_top + h, to_left : to_left + w] = donor[top : top + h, left : left + w] * rng.uniform(0.8, 1.2)
    return changed


def blend_texture(rng: np.random.Generator, image: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Another image, moved and turned over, or this one in other colours, in spots of 2 to 12 % of the area."""
    height, width, channels = image.shape
    if rng.random() < 0.5:
        texture = np.roll(_another(rng, others), (rng.integers(height), rng.integers(width)), (0, 1))
        texture = texture[:: rng.choice([-1, 1]), :: rng.choice([-1, 1])]
    else:
        mixed = image[..., rng.permutation(channels)]
        texture = (1 - mixed if rng.random() < 0.5 else mixed**2) + rng.uniform(-0.2, 0.2, channels)
    noise = perlin(rng, height, width, cells=int(2 ** rng.integers(1, 4)))
    spots = noise > np.quantile(noise, 1 - rng.uniform(0.02, 0.12))
    opacity = rng.uniform(0.5, 1.0)
    return np.where(spots[..., None], (1 - opacity) * image + opacity * texture, image)


def scratch(rng: np.random.Generator, image: np.ndarray, others: np.ndarray) -> np.ndarray:
    """A line 0.3 to 0.9 sides long and 0.5 to 1.5 % of a side thick, that bends a little."""
    from scipy import ndimage  # nothing else in `jaxad.data` needs it, and it takes a fifth of a second

    del others
    size = np.array(image.shape[:2])
    side = size.min()
    steps = max(2, int(rng.uniform(0.3, 0.9) * 2 * side))  # of half a pixel
    direction = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.normal(0, 0.5 / np.sqrt(side), steps))
    moves = np.stack([np.sin(direction), np.cos(direction)], 1)
    points = np.rint(rng.uniform(0.2, 0.8, 2) * size + 0.5 * np.cumsum(moves, 0)).astype(int)
    blank = np.ones(size, bool)
    blank[tuple(points[((points >= 0) & (points < size)).all(1)].T)] = False
    around = image[~blank].mean() if not blank.all() else image.mean()
    lighter = rng.random() < (0.85 if around < 0.5 else 0.15)  # mostly where there is room
    colour = around + rng.uniform(0.6, 1.0) * ((1 - around) if lighter else -around)
    thick = rng.uniform(0.005, 0.015) * side
    soft = np.clip(thick / 2 + 0.5 - ndimage.distance_transform_edt(blank), 0, 1)
    return image + (rng.uniform(0.5, 0.9) * soft)[..., None] * (colour - image)


def blur(rng: np.random.Generator, image: np.ndarray, others: np.ndarray) -> np.ndarray:
    """A region out of focus, by a Gaussian of 2 to 5 % of a side."""
    from scipy import ndimage

    del others
    sd = max(1.0, rng.uniform(0.02, 0.05) * min(image.shape[:2]))
    return image + _region(rng, *image.shape[:2])[..., None] * (ndimage.gaussian_filter(image, (sd, sd, 0)) - image)


def stain(rng: np.random.Generator, image: np.ndarray, others: np.ndarray) -> np.ndarray:
    """A region whose brightness, or colour where there is one, is another by 0.1 to 0.4 of the range."""
    del others
    region, channels = _region(rng, *image.shape[:2])[..., None], image.shape[2]
    inside = (region * image).sum((0, 1)) / max(region.sum(), 1e-6)
    change = rng.uniform(0.1, 0.4) * np.where(inside < 0.5, 1, -1)  # where there is room
    if channels > 1 and rng.random() < 0.5:
        change = change * rng.permutation(np.linspace(0.1, 1, channels))
    return image + region * change


KINDS: dict[str, Make] = {
    "patch": paste_patch,
    "texture": blend_texture,
    "scratch": scratch,
    "blur": blur,
    "stain": stain,
}
"""Every kind of anomaly by name, in the order in which they are made."""


def perlin(rng: np.random.Generator, height: int, width: int, cells: int) -> np.ndarray:
    """Gradient noise [height, width] around 0 with so many cells along each side (Perlin, SIGGRAPH 1985)."""
    angles = rng.uniform(0, 2 * np.pi, (cells + 1, cells + 1))
    y, x = np.meshgrid(*((np.arange(n) + 0.5) / n * cells for n in (height, width)), indexing="ij")
    row, column = y.astype(int), x.astype(int)
    v, u = y - row, x - column

    def corner(down: int, right: int) -> np.ndarray:
        angle = angles[row + down, column + right]
        return np.sin(angle) * (v - down) + np.cos(angle) * (u - right)

    fade_v, fade_u = (t**3 * (t * (6 * t - 15) + 10) for t in (v, u))
    above, below = (corner(down, 0) * (1 - fade_u) + corner(down, 1) * fade_u for down in (0, 1))
    return above * (1 - fade_v) + below * fade_v


def _another(rng: np.random.Generator, others: np.ndarray) -> np.ndarray:
    """One of the images, as float32."""
    return to_dtype(others[rng.integers(len(others))], np.float32)


def _region(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Weights [height, width] in [0, 1]: an ellipse with a wavy, soft edge, 10 to 35 % of a side across."""
    centre = rng.uniform(0.15, 0.85, 2) * [height, width]
    y, x = np.mgrid[:height, :width] + 0.5 - centre[:, None, None]
    turn, (a, b) = rng.uniform(0, np.pi), np.maximum(rng.uniform(0.05, 0.175, 2) * min(height, width), 1.0)
    along, across = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    angle = np.arctan2(across / b, along / a)
    edge = 1 + 0.15 * np.sin(rng.integers(2, 6) * angle + rng.uniform(0, 2 * np.pi))
    return np.clip((edge - np.hypot(along / a, across / b)) / 0.2 + 0.5, 0, 1)
