"""Image sets that need no network and no files: digits, textures, and the papers' two kinds of noise."""

from collections.abc import Sequence

import numpy as np

from jaxad.data.image_set import ImageSet, numbered

NOISE = ("gaussian", "uniform")
TEXTURES = ("brick", "grass", "gravel")


def digits() -> ImageSet:
    """scikit-learn's 1,797 handwritten digits, 8x8x1; the 17 grey levels 0..16 are scaled to 0..255."""
    from sklearn.datasets import load_digits

    data = load_digits()
    images = np.rint(data.images * (255 / 16)).astype(np.uint8)[..., None]
    names = tuple(str(digit) for digit in range(10))
    return ImageSet("digits", images, data.target.astype(np.int32), names, None, numbered("digits", len(images)))


def textures(size: int = 32, stride: int | None = None) -> ImageSet:
    """Crops of scikit-image's brick, grass and gravel (512x512 grey), row by row; the class is the texture.

    Args:
      size: side of a crop in pixels, 1..512.
      stride: distance between crops, `size` when None. Crops overlap where it is smaller: the same pixels
        may then fall into training and test, so tasks use the default.

    Returns:
      An ImageSet of 3 * (1 + (512 - size) // stride)**2 crops, 768 at 32x32.
    """
    import skimage.data

    stride = size if stride is None else stride
    if not 1 <= size <= 512:
        raise ValueError(f"texture crop size {size} is outside 1..512, the side of the pictures: choose another")
    if stride < 1:
        raise ValueError(f"texture stride {stride} is too small: at least 1 pixel is needed")
    images, ids = [], []
    for name in TEXTURES:
        picture = getattr(skimage.data, name)()
        for top in range(0, picture.shape[0] - size + 1, stride):
            for left in range(0, picture.shape[1] - size + 1, stride):
                images.append(picture[top : top + size, left : left + size, None])
                ids.append(f"textures/{name}/{size}px/{top},{left}")
    labels = np.repeat(np.arange(3, dtype=np.int32), len(images) // 3)
    return ImageSet("textures", np.stack(images), labels, TEXTURES, None, np.array(ids))


def noise(kind: str, shape: Sequence[int] = (28, 28, 1), *, n: int = 1000, seed: int = 0) -> ImageSet:
    """Noise images, float32 [n, *shape]: "gaussian" is N(0.5, 1) clipped to [0, 1], "uniform" is U[0, 1].

    Source: the synthetic out-of-distribution sets of AutoAD (1,000 images each).
    """
    if kind not in NOISE:
        raise ValueError(f"unknown noise {kind!r}: choose one of {', '.join(NOISE)}")
    if len(shape) != 3 or min(shape) < 1 or n < 1:
        raise ValueError(f"noise needs a shape (height, width, channels) and n >= 1, not {tuple(shape)} and {n}")
    # The kind enters the seed: otherwise both kinds would be functions of the same underlying bits.
    rng = np.random.default_rng([seed, NOISE.index(kind)])
    full = (n, *shape)
    if kind == "gaussian":
        images = np.clip(0.5 + rng.standard_normal(full, np.float32), 0, 1)
    else:
        images = rng.random(full, np.float32)
    return ImageSet(kind, images, np.zeros(n, np.int32), (kind,), None, numbered(f"{kind}/seed{seed}", n))
