"""Crops of three textures that come with scikit-image."""

import numpy as np

from jaxad.data.image_set import ImageSet
from jaxad.data.sources.registry import Request, source

TEXTURES = ("brick", "grass", "gravel")


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


@source(
    "textures",
    "textures:SIZE",
    "Crops of scikit-image's brick, grass and gravel, of that side in pixels (32).",
    normal=("brick",),
    anomaly_ratio=0.2,  # at 5 % the held-out parts of so small a set would hold a handful of anomalies
)
def read_textures(request: Request) -> ImageSet:
    """Crops side by side."""
    size = request.argument or "32"
    if not size.isdecimal():
        raise ValueError(
            f"{request.spec!r} is no texture set: write textures or textures:SIZE, with the crop side in pixels"
        )
    return request.sample(textures(int(size)))
