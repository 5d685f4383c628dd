"""Defects painted on bundled real textures, with exact masks: segmentation data that needs no network and no files.

Crops of scikit-image's brick, grass or gravel; on most of them one or two defects:

    blob      an ellipse, darker or lighter, its texture still visible
    scratch   a thin wandering line, darker or lighter
    patch     an ellipse of another texture, brought to the brightness and contrast of what it covers

Outside its mask an image equals its crop, bit for bit. Crops do not overlap, so images share no pixel.
"""

import numpy as np

from jaxad.data.image_set import ImageSet, take
from jaxad.data.sources.registry import Request, source
from jaxad.data.sources.textures import TEXTURES, textures

KINDS = ("blob", "scratch", "patch")
DEFECTIVE = 0.7  # share of images that have defects
SINGLE = "single"  # how sets are called whose images have one defect at most
CONTRAST = (0.25, 0.5)  # by how much a blob or scratch is darker or lighter, as a share of the range


def painted(
    texture: str, size: int = 64, *, seed: int = 0, defective: float = DEFECTIVE, single: bool = False
) -> ImageSet:
    """All crops of a texture, in a random order, most with painted defects.

    Args:
      texture: "brick", "grass" or "gravel".
      size: side of a crop in pixels, 16..256.
      seed: of the order, of what is painted where.
      defective: share of images with defects, in (0, 1].
      single: whether these have one defect each, so that their class says all there is; by default some have two.

    Returns:
      An ImageSet of (512 // size)^2 grey images: class 0 "good", then the kinds of defects (an image with two is of
      its first).
    """
    if texture not in TEXTURES:
        raise ValueError(f"no texture {texture!r} to paint on: choose one of {', '.join(TEXTURES)}")
    if not 16 <= size <= 256:
        raise ValueError(f"painted crops of {size} pixels are outside 16..256: choose another size")
    if not 0 < defective <= 1:
        raise ValueError(f"defective is {defective}; give a share of images above 0 and up to 1")
    crops = textures(size)
    rng = np.random.default_rng([seed, TEXTURES.index(texture)])
    own = rng.permutation(np.flatnonzero(crops.labels == TEXTURES.index(texture)))
    others = np.flatnonzero(crops.labels != TEXTURES.index(texture))
    images, masks = crops.images[own].copy(), np.zeros((len(own), size, size), np.uint8)
    labels = np.zeros(len(own), np.int32)
    for k in range(round(defective * len(own))):
        first, *more = rng.choice(len(KINDS), size=1 if single else rng.integers(1, 3), replace=False)
        labels[k] = 1 + first
        for kind in (first, *more):
            _paint(KINDS[kind], images[k], masks[k], crops.images[rng.choice(others)], rng)
    order = rng.permutation(len(own))
    name = f"painted:{texture}:{size}{f':{SINGLE}' if single else ''}"
    ids = np.char.add(f"{name}/seed{seed}/", crops.ids[own])
    return ImageSet(name, images[order], labels[order], ("good", *KINDS), masks[order], ids[order])


@source(
    "painted",
    "painted:TEXTURE:SIZE",
    "Crops of brick, grass or gravel (64 pixels), on some of them painted defects, with masks.",
    parts=("train", "test"),
    defects=True,
)
def read_painted(request: Request) -> ImageSet:
    """Two thirds of the good crops are the part "train", all others the part "test"."""
    texture, _, form = request.argument.partition(":")
    size, *more = form.split(":")
    if (size and not size.isdecimal()) or more not in ([], [SINGLE]):
        raise ValueError(
            f"{request.spec!r} is no painted set: write painted:TEXTURE, painted:TEXTURE:SIZE or "
            f"painted:TEXTURE:SIZE:{SINGLE} (one defect an image)"
        )
    if request.sizing.image_size not in (None, "auto"):
        raise ValueError(f"{request.spec} has no image_size; write its size as painted:{texture}:SIZE")
    if request.split not in ("train", "test"):
        raise ValueError(f"painted sets have no part {request.split!r}: choose train or test")
    share = DEFECTIVE if request.defective is None else request.defective
    dataset = painted(texture, int(size or 64), seed=request.seed, defective=share, single=bool(more))
    good = np.flatnonzero(dataset.labels == 0)
    train = np.isin(np.arange(len(dataset.ids)), good[: 2 * len(good) // 3])
    if not train.any():
        raise ValueError(f"{request.spec} has {len(train)} crops, too few to set good ones aside: write a smaller SIZE")
    return request.sample(take(dataset, train if request.split == "train" else ~train))


def _paint(kind: str, image: np.ndarray, mask: np.ndarray, other: np.ndarray, rng: np.random.Generator) -> None:
    """Paint one defect on an image [H, W, 1] uint8, in place, and add its pixels to the mask [H, W]."""
    where = _line(len(mask), rng) if kind == "scratch" else _ellipse(len(mask), rng)
    inside = image[where].astype(float)
    if kind == "patch":
        material = other[where].astype(float)
        painted = inside.mean() + (material - material.mean()) * inside.std() / max(material.std(), 1.0)
    else:
        change = 255 * rng.uniform(*CONTRAST)
        lighter = inside.mean() < 127 if rng.random() < 0.75 else inside.mean() >= 127  # mostly where there is room
        painted = 0.7 * (inside - inside.mean()) + inside.mean() + (change if lighter else -change)
    image[where] = np.rint(painted).clip(0, 255).astype(np.uint8)
    mask[where] = 1


def _ellipse(size: int, rng: np.random.Generator) -> np.ndarray:
    """[size, size] booleans: an ellipse with a wavy edge, its centre well inside."""
    y, x = np.mgrid[:size, :size] - rng.uniform(0.2, 0.8, 2).reshape(2, 1, 1) * size
    turn, (a, b) = rng.uniform(0, np.pi), rng.uniform(0.06, 0.16, 2) * size
    along, across = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    angle = np.arctan2(across / b, along / a)
    edge = 1 + 0.2 * np.sin(rng.integers(2, 6) * angle + rng.uniform(0, 2 * np.pi))
    return np.hypot(along / a, across / b) <= edge


def _line(size: int, rng: np.random.Generator) -> np.ndarray:
    """[size, size] booleans: a line that wanders, two to four pixels wide at 64."""
    points = np.empty((2 * size, 2))
    points[0], direction = rng.uniform(0.2, 0.8, 2) * size, rng.uniform(0, 2 * np.pi)
    steps = int(rng.uniform(0.4, 0.9) * size * 2)
    for k in range(1, steps):
        direction += rng.normal(0, 0.08)
        points[k] = points[k - 1] + 0.5 * np.array([np.sin(direction), np.cos(direction)])
    y, x = np.mgrid[:size, :size]
    # Pixel by pixel the distance to the nearest point; lines are short.
    squares = (y[..., None] - points[:steps, 0]) ** 2 + (x[..., None] - points[:steps, 1]) ** 2
    return squares.min(-1) <= (rng.uniform(1.0, 2.0) * size / 64) ** 2 + 0.25
