"""Masks in MATLAB's .mat files, as CrackForest publishes them (Shi et al., IEEE T-ITS 2016)."""

from pathlib import Path

import numpy as np

from jaxad.data.formats.stored import Stored

SUFFIX = ".mat"
LABELS = {1: 0, 2: 255, 3: 0, 4: 255}
"""What stands for pavement (0) and crack (255) in `groundTruth.Segmentation`: 1 is pavement, 3 pavement that cracks
enclose, 2 and 4 are cracks; the usual "above 1" would mark what cracks enclose."""


def read_mask(file: Path) -> Stored:
    """The mask of a file as an image of 0 and 255; ValueError where it holds another content."""
    from scipy.io import loadmat  # of the hundreds of packages of SciPy only where it is needed

    content = loadmat(file, simplify_cells=True)
    truth = content.get("groundTruth")
    labels = truth.get("Segmentation") if isinstance(truth, dict) else None
    if not isinstance(labels, np.ndarray) or labels.ndim != 2:
        names = ", ".join(name for name in content if not name.startswith("__")) or "nothing"
        raise ValueError(f"it holds {names}, and no matrix groundTruth.Segmentation: save masks as PNG")
    unknown = sorted(set(np.unique(labels).tolist()) - set(LABELS))
    if unknown:
        raise ValueError(f"its labels are {unknown[:5]}, where 1 to 4 are known: save masks as PNG")
    table = np.zeros(max(LABELS) + 1, np.uint8)
    table[list(LABELS)] = list(LABELS.values())
    return Stored(table[labels.astype(int)][..., None], "uint8")
