"""Heat maps: what a detector saw, where it found an anomaly, and both on top of each other."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from jaxad._utils.files import write_atomic
from jaxad.report.plots import displayable
from jaxad.report.plots.style import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SCALE_QUANTILE = 0.995  # of pixels; a few outliers must not darken everything else
OPACITY = 0.75  # of the hottest pixels on top of the image
LONGEST = 1600  # pixels of a side that are still drawn one by one
LEAST_DPI = 100
PANEL = 2.0  # inches of height that a panel has at least, below two lines of title


def colour_scale(maps: np.ndarray) -> float:
    """Where the colours of anomaly maps [..., H, W] end: the 99.5 % quantile of all finite pixels; always positive.

    Over maps of held-out normal images it makes ordinary errors visible and anomalies glow; store it as the
    `map_scale` of a saved detector. The maps of one comparison share one scale.
    """
    maps = np.asarray(maps, np.float32)
    maps = maps[np.isfinite(maps)]
    top = float(np.quantile(maps, SCALE_QUANTILE)) if maps.size else 0.0
    return top if top > 0 else 1.0


@style
def overlay(image: np.ndarray, anomaly_map: np.ndarray, *, scale: float, title: str = "") -> Figure:
    """Image, map and overlay side by side, with a colour bar.

    Args:
      image: [H, W, C] float32 in [0, 1].
      anomaly_map: [H, W]; colours go from 0 to `scale`, and what lies above is as hot as it gets.
      scale: the same for all pictures that are compared.

    Raises:
      ValueError: shapes that do not belong together, or a scale that is not positive.
    """
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

    image, anomaly_map = np.asarray(image), np.asarray(anomaly_map, np.float32)
    if image.ndim != 3 or anomaly_map.shape != image.shape[:2]:
        raise ValueError(f"image {image.shape} and map {anomaly_map.shape} do not fit; give [H, W, C] and its [H, W]")
    if not 0 < scale < np.inf:
        raise ValueError(f"colour scale is {scale}; give a positive number, such as colour_scale(maps)")
    shown = np.clip(displayable(image[None], LONGEST)[0], 0, 1)
    heat = displayable(anomaly_map[None, :, :, None], LONGEST)[0]
    wide = min(max(image.shape[1] / image.shape[0], 0.4), 2.5)
    # So many dots an inch that a pixel of the image is not smaller than one of the picture.
    dots = max(LEAST_DPI, shown.shape[0] / PANEL, shown.shape[1] / (PANEL * wide))
    figure = Figure(figsize=(3 * 2.4 * wide + 0.9, 2.75), dpi=dots, layout="constrained")
    axes = figure.subplots(1, 3)
    height, width = heat.shape
    for ax, name in zip(axes, ("image", "anomaly map", "overlay")):
        ax.set(title=name, xticks=[], yticks=[], aspect="equal", xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
        ax.grid(visible=False)
        ax.spines[:].set_visible(False)
    colours = {"norm": Normalize(0, scale), "cmap": "inferno"}
    extend = "max" if np.nanmax(heat, initial=0) > scale else "neither"
    bar = figure.colorbar(ScalarMappable(**colours), ax=axes, pad=0.01, aspect=14, extend=extend)
    bar.outline.set_visible(False)
    if title:
        room = int(12 * figure.get_figwidth())  # letters of a line; of a long path the end tells most
        lines = title.encode("utf-8", "replace").decode().split("\n")
        lines = [line if len(line) <= room else f"…{line[1 - room :]}" for line in lines]
        figure.suptitle("\n".join(lines), fontsize=9, x=0.01, ha="left")
    figure.draw_without_rendering()  # places everything; with images it would resample them all once more
    figure.set_layout_engine("none")
    axes[0].imshow(shown, cmap="gray", vmin=0, vmax=1, interpolation="none")
    axes[1].imshow(heat, interpolation="none", **colours)
    axes[2].imshow(shown, cmap="gray", vmin=0, vmax=1, interpolation="none")
    axes[2].imshow(heat, alpha=OPACITY * np.clip(heat / scale, 0, 1), interpolation="none", **colours)
    return figure


def png(figure: Figure, compress_level: int = 6) -> bytes:
    """A drawing as PNG, as its `savefig` writes it, which would draw everything twice.

    Args:
      compress_level: 1, quick, to 9, small.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer, pil_kwargs={"compress_level": compress_level})
    return buffer.getvalue()


def write_overlays(folder: Path, images: np.ndarray, maps: np.ndarray, *, scale: float, numbers: Sequence[int]) -> None:
    """Write `overlay` of those of the images [N, H, W, C] and maps [N, H, W] with these numbers, as NUMBER.png."""
    for number in numbers:
        picture = png(overlay(images[number], maps[number], scale=scale))
        write_atomic(folder / f"{number:04d}.png", [picture])


def write_masks(folder: Path, masks: np.ndarray) -> None:
    """Write masks [N, H, W] as NUMBER.png, white where they are 1."""
    from PIL import Image

    for number, mask in enumerate(masks):
        buffer = io.BytesIO()
        Image.fromarray(np.where(mask, 255, 0).astype(np.uint8)).save(buffer, "PNG")
        write_atomic(folder / f"{number:04d}.png", [buffer.getvalue()])
