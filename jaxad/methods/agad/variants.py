"""AGAD beside itself and its forerunners: what the tables of its paper compare, by name."""

import dataclasses
from typing import Any, Literal

from jaxad.methods.agad.config import LINEAGE, AGADConfig

CHANGES: dict[str, dict[str, Any]] = {
    "no-adcon": {"pseudo_weight": 0.0},  # Tables 3 and 4, "w/o"
    "reconstruction": {"adversarial_weight": 0.0, "pseudo_weight": 0.0, "latent_weight": 0.0},  # parts of the loss
    "reconstruction-adversarial": {"pseudo_weight": 0.0, "latent_weight": 0.0},
    "reconstruction-pseudo": {"adversarial_weight": 0.0, "latent_weight": 0.0},
    "no-latent": {"latent_weight": 0.0},
    "no-adversarial": {"adversarial_weight": 0.0},
    "advprop": {"auxiliary_norm": True},  # Table 5
    "freezebn": {"frozen_norm": True},
    "advprop-freezebn": {"auxiliary_norm": True, "frozen_norm": True},
    "naive": {"generator": "naive"},  # Table 9
    "unet": {"generator": "unet"},
    "unetpp": {"generator": "unetpp"},
    "literal-target": {"anomaly_target": 0},  # readings of the paper
    "contextual-reciprocal": {"contextual_reciprocal": True},
    "tiny-epsilon": {"epsilon": 1e-6},
}
Variant = Literal[
    "no-adcon", "reconstruction", "reconstruction-adversarial", "reconstruction-pseudo", "no-latent", "no-adversarial",
    "advprop", "freezebn", "advprop-freezebn", "naive", "unet", "unetpp", "literal-target",
    "contextual-reciprocal", "tiny-epsilon", "ganomaly", "skip-ganomaly",
]  # fmt: skip
SIZES = ("width", "levels", "latent_dim", "learning_rate", "compute")  # forerunners get those of the AGAD beside them


def variant(config: AGADConfig, name: Variant) -> AGADConfig:
    """The config with one thing changed, or a forerunner of its size.

    Raises ValueError for an unknown name.
    """
    if name in CHANGES:
        return dataclasses.replace(config, **CHANGES[name])
    lineage = LINEAGE.get(name.replace("-", "_"))
    if lineage is None or name == "agad":
        known = (*CHANGES, "ganomaly", "skip-ganomaly")
        raise ValueError(f"there is no variant {name!r} of AGAD; choose from {', '.join(known)}")
    return dataclasses.replace(lineage, **{size: getattr(config, size) for size in SIZES})


def learns_from(config: AGADConfig, name: str, gamma: float | str) -> bool:
    """Whether a variant with this share of labelled anomalies is a detector of its own."""
    if "freezebn" in name:
        return gamma != 0  # there is nothing to freeze for
    # The others learn nothing from labels, and a loss without any term of Eq. 10 does not either.
    learnt = config.adversarial_weight or config.pseudo_weight or config.latent_weight or config.contextual_reciprocal
    return gamma == 0 or (config.anomalies == "fail" and bool(learnt))
