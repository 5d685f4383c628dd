"""Large images in overlapping tiles, and maps of the tiles put together to a map of the image."""

import math
from typing import Literal, NamedTuple

import numpy as np
from PIL import Image

LARGE = 1000  # pixels of the longer side above which "auto" cuts an image, and that an assembled map has at most
OVERLAP = 0.25  # of neighbouring tiles, as a share of a tile's side: a defect on the edge of one is whole in the next

Tiling = int | Literal["auto"] | None  # tiles along each side; None and 1 leave images whole


class Grid(NamedTuple):
    """Where tiles of equal size lie on an image; in pixels, row by row."""

    image: tuple[int, int]  # (height, width) of the image
    tile: tuple[int, int]  # (height, width) of each tile
    tops: tuple[int, ...]
    lefts: tuple[int, ...]

    @property
    def corners(self) -> list[tuple[int, int]]:
        """(top, left) of every tile."""
        return [(top, left) for top in self.tops for left in self.lefts]


def tiles_wanted(size: tuple[int, int], tiling: Tiling) -> int:
    """How many tiles along each side an image (height, width) is cut into: by "auto" as many as it has thousands."""
    return math.ceil(max(size) / LARGE) if tiling == "auto" else tiling or 1


def grid_of(size: tuple[int, int], n: int, *, overlap: float = OVERLAP, ratio: float = 1.0) -> Grid:
    """The smallest tiles of one shape, n along each side, that cover an image and overlap by a share of their side.

    Along a side that one tile covers there is only one, so that of an elongated image no tile comes twice.

    Args:
      size: (height, width) of the image.
      n: tiles along each side.
      overlap: least overlap of neighbours, in [0, 1).
      ratio: width of a tile by its height, kept as far as the image is large enough.

    Raises:
      ValueError: n below 1, an overlap or a ratio out of range.
    """
    if n < 1 or not 0 <= overlap < 1 or not ratio > 0:
        raise ValueError(f"{n} tiles, overlap {overlap}, ratio {ratio}: give at least 1, [0, 1) and a positive ratio")
    height, width = size
    least = n - (n - 1) * overlap  # sides of a tile along a side of the image
    tall = max(height / least, width / least / ratio)
    tile = min(height, math.ceil(tall - 1e-9)), min(width, math.ceil(tall * ratio - 1e-9))
    tops, lefts = (
        tuple(np.unique(np.rint(np.linspace(0, whole - part, n)).astype(int)).tolist())
        for whole, part in zip(size, tile)
    )
    return Grid((height, width), tile, tops, lefts)


def cut(image: np.ndarray, grid: Grid) -> list[np.ndarray]:
    """The tiles [h, w, C] of an image [H, W, C], views of it; ValueError for another size than the grid's."""
    if image.shape[:2] != grid.image:
        raise ValueError(f"image has {image.shape[:2]} pixels, but the grid is of {grid.image}: make one of its size")
    height, width = grid.tile
    return [image[top : top + height, left : left + width] for top, left in grid.corners]


def assemble(maps: np.ndarray, grid: Grid, *, longest: int = LARGE) -> np.ndarray:
    """The map of an image from the maps of its tiles, their mean where tiles overlap.

    Args:
      maps: [k, h, w] float, of any size, as many as the grid has tiles.
      longest: pixels that the longer side of the result has at most.

    Returns:
      [H, W] float32, as large as the image or, in the same ratio, as `longest` allows.
    """
    if len(maps) != len(grid.corners):
        raise ValueError(f"there are {len(maps)} maps of {len(grid.corners)} tiles; give one for each")
    scale = min(1.0, longest / max(grid.image))
    size = tuple(max(1, round(side * scale)) for side in grid.image)
    total, count = np.zeros(size, np.float32), np.zeros(size, np.float32)
    for part, corner in zip(maps, grid.corners):
        where = tuple(map(_span, corner, grid.tile, size, (scale, scale)))
        total[where] += resize_map(part, tuple(span.stop - span.start for span in where))
        count[where] += 1
    return total / count


def _span(start: int, length: int, whole: int, scale: float) -> slice:
    """Pixels of the smaller map that pixels of the image become; at least one."""
    first = min(round(start * scale), whole - 1)
    return slice(first, max(min(round((start + length) * scale), whole), first + 1))


def resize_map(anomaly_map: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A map [h, w] in another size (height, width) by pillow's bilinear filter, float32: values are not bounded."""
    anomaly_map = np.ascontiguousarray(anomaly_map, np.float32)
    if anomaly_map.shape == tuple(size):
        return anomaly_map
    return np.asarray(Image.fromarray(anomaly_map).resize(size[::-1], Image.Resampling.BILINEAR))
