"""The sections on an adversarial mirrored autoencoder: its R-scores, its latent space and its training."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxad.report import plots
from jaxad.report.html import Figure, Section

# Title of the panel -> {name of the curve: field of the info}.
PANELS = {
    "Wasserstein estimate (Eq. 1)": {"reconstructions": "wasserstein", "interpolations": "interpolation_gap"},
    "Losses": {"critic": "critic_loss", "generator and encoder": "generator_loss"},
    "Gradient penalty": {"penalty": "penalty"},
    "Norm of the codes": {"mean": "code_norm", "standard deviation": "code_norm_sd"},
    "Reconstruction error": {"error": "error"},
}


def ama_sections(
    *,
    images: Mapping[str, Any],
    r_scores: Mapping[str, np.ndarray],
    gaussian: tuple[float, float],
    norms: Mapping[str, np.ndarray],
    latent_dim: int,
    steps: np.ndarray,
    history: Mapping[str, np.ndarray],
) -> list[Section]:
    """What the page of an AMA has beyond that of any detector.

    Args:
      images: "rebuilt", "interpolated" and "negative", each a list of (name, [k, H, W, C]) rows; what is missing is
        left out.
      r_scores, norms: by group of images, such as "train": R (Eq. 5) and norms of the codes.
      gaussian: mean and standard deviation of the fit (Eq. 6).
      steps, history: [n] and, for every field of the info, [seeds, n].
    """

    def figure(drawing: Any, caption: str, wide: bool = False) -> Figure:
        return Figure(drawing=drawing, alt=caption, caption=caption, wide=wide)

    rows = {
        "rebuilt": "Test images and what becomes of them, with and without the mirror (Fig. 2 of the paper).",
        "interpolated": "Between training images: a code moves from one to the next.",
        "negative": "Synthetic negatives: codes where no image should be, decoded.",
    }
    grids = {
        name: figure(plots.image_rows(images[name]), caption, wide=True)
        for name, caption in rows.items()
        if images.get(name)
    }
    mean, sd = gaussian
    typical = math.sqrt(latent_dim)
    scores = plots.densities(r_scores, xlabel="R-score (Eq. 5)", mean=mean, sd=sd)
    codes = plots.densities(norms, xlabel="norm of the code", line=(typical, f"sqrt(d) = {typical:.3g}"))
    caption = "R-scores and the Gaussian fitted to training images (Fig. 4): anomalous is what is far from its middle."
    latent = "Norms of the codes. The paper expects them near sqrt(d); its loss pulls them towards 0."
    panels = {title: {name: history[field] for name, field in curves.items()} for title, curves in PANELS.items()}
    curves = plots.training_curves(steps, panels, lines={"Norm of the codes": (typical, "sqrt(d)")})
    return [
        Section(title="Reconstructions", parts=[grids.get("rebuilt")]),
        Section(title="R-scores", parts=[figure(scores, caption)]),
        Section(title="Latent space", parts=[grids.get("interpolated"), grids.get("negative"), figure(codes, latent)]),
        Section(title="Training", parts=[figure(curves, "What happened while training; a line for every seed.", True)]),
    ]
