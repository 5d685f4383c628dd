"""The sections on an adversarial mirrored autoencoder: its R-scores, its latent space and its training."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from jaxad.data import Task
from jaxad.data.batches import to_float
from jaxad.report import plots
from jaxad.report.html import Figure, Section
from jaxad.training.calibration import CALIBRATION_IMAGES, subsample
from jaxad.training.scoring import score_images
from jaxad.types import Key

if TYPE_CHECKING:
    from jaxad.methods.ama import AMAConfig, AMAState

SHOWN = 8  # images in a row

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


def ama_pictures(
    config: AMAConfig,
    state: AMAState,
    task: Task,
    shown: Mapping[str, Any],
    *,
    key: Key,
    plain: tuple[AMAConfig, AMAState] | None = None,
) -> dict[str, Any]:
    """What `ama_sections` shows of a trained AMA: its `images`, `r_scores`, `norms`, `gaussian` and `latent_dim`.

    Args:
      shown: test images as "inputs" and "reconstructions", both [k, H, W, C].
      key: of the synthetic negatives; consumed.
      plain: config and state of an AMA without the mirror, to compare with.
    """
    from jaxad.methods.ama import ama, draw_negatives, make_inference

    view = jax.tree.map(jax.jit, make_inference(config))
    train, labels = subsample(task.train.images[task.train.labels == 0], CALIBRATION_IMAGES), task.test.labels
    groups = {"train": train}
    for kind, name in enumerate(("normal", "anomalous")):
        groups[f"test, {name}"] = task.test.images[labels == kind][:CALIBRATION_IMAGES]
    rebuilt = [("input", shown["inputs"]), ("AMA", shown["reconstructions"])]
    if plain is not None:
        other, weights = plain
        rebuilt.append(("without mirror", jax.jit(make_inference(other).reconstruct)(weights, shown["inputs"])))
    codes = np.asarray(view.encode(state, to_float(train[: 4 * SHOWN])))
    share = np.linspace(0, 1, SHOWN, dtype=np.float32)[:, None]
    between = [(1 - share) * codes[None, 2 * i] + share * codes[None, 2 * i + 1] for i in range(3)]
    images = {
        "rebuilt": rebuilt,
        "interpolated": [(f"pair {i + 1}", view.decode(state, row)) for i, row in enumerate(between)],
    }
    if config.negatives != "none":
        images["negative"] = [(config.negatives, view.decode(state, draw_negatives(config, key, codes, SHOWN)))]
    by_r = ama(config, score="r")
    return {
        "images": images,
        "r_scores": {name: score_images(by_r, state, part) for name, part in groups.items()},
        "norms": {name: np.linalg.norm(view.encode(state, to_float(part)), axis=1) for name, part in groups.items()},
        "gaussian": (float(state.r_mean), float(state.r_sd)),
        "latent_dim": config.latent_dim,
    }
