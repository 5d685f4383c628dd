"""Neural batch sampling (Chu, CMU-RI-TR-20-09, 2020; Chu & Kitani, ECCV 2020): defects from a few labelled images.

An autoencoder that begins anew again and again is trained on patches that a policy chooses. How the reconstruction loss
of a pixel develops tells a small network, trained on the labelled images, whether it is anomalous; how well the network
does is what the policy is rewarded for. A dense CRF draws the edges.

Use it where a handful of images have masks of their defects, many have none, and the defects of the latter are to be
marked.
"""

from jaxad.methods.nbs.config import NBSConfig
from jaxad.methods.nbs.detector import known_logits, nbs, segment, without_images
from jaxad.methods.nbs.environment import EnvironmentConfig
from jaxad.methods.nbs.inspection import (
    current_visits,
    labelled_visits,
    loss_lives,
    pixel_profiles,
    sampling_rows,
    training_curves,
    visit_counts,
)
from jaxad.methods.nbs.state import Best, NBSInfo, NBSState
from jaxad.methods.nbs.training import ImagePool, OnChunk, make_image_pool, train_nbs, train_nbs_saved
from jaxad.nn.crf import CRFConfig, refine

__all__ = [
    "Best",
    "CRFConfig",
    "EnvironmentConfig",
    "ImagePool",
    "NBSConfig",
    "NBSInfo",
    "NBSState",
    "OnChunk",
    "current_visits",
    "known_logits",
    "labelled_visits",
    "loss_lives",
    "make_image_pool",
    "nbs",
    "pixel_profiles",
    "refine",
    "sampling_rows",
    "segment",
    "train_nbs",
    "train_nbs_saved",
    "training_curves",
    "visit_counts",
    "without_images",
]
