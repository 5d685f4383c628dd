"""What neural batch sampling keeps between steps, and what it tells about each.

Of every network these are its variables: {"params"}, and of the predictor {"params", "batch_stats"}.
"""

from typing import NamedTuple

import optax

from jaxad.methods.nbs.buffer import Buffer
from jaxad.types import Array, Params


class Best(NamedTuple):
    """What segmenting any image needs, as it was when the loss that `NBSConfig.best_by` names was lowest."""

    loss: Array  # by which it was found; infinite before there was any
    step: Array  # int32
    sampler: Params
    predictor: Params  # with its running averages
    snapshots: Params  # the L autoencoders behind the profiles, stacked, the newest last


class Training(NamedTuple):
    """What steps alone need, and what they know of the N images that they train on."""

    strategy: Array  # int32, the place of the config's strategy among `STRATEGIES`
    sampler: Params
    autoencoder: Params
    predictor: Params  # with its running averages
    optimisers: dict[str, optax.OptState]  # of every network's params
    profiles: Array  # [N, H, W, L], of all images, the newest loss last
    snapshots: Params
    filled: Array  # int32, losses in the profiles since the autoencoder began
    buffer: Buffer
    best_profiles: Array  # [N, H, W, L], those of the best step
    step: Array  # int32, steps done


class NBSState(NamedTuple):
    """What scoring needs, and what only training does: a detector is saved without the latter."""

    best: Best
    opt_state: Training


class NBSInfo(NamedTuple):
    """One step: scalars; NaN where a step did not come to it."""

    reconstruction: Array  # mean squared error of the episode's patches, before each update
    prediction: Array  # l_pred, by which the sampler is rewarded
    clone: Array  # mean R_clone of the labelled episode
    cover: Array  # mean R_cover of the labelled episode
    clone_weight: Array  # beta
    entropy: Array  # of the policy, in nats
    jumps: Array  # share of actions that change the image
    anomalous_patches: Array  # share of the training patches on labelled images that hold an anomalous pixel
    anomalous_pixels: Array  # share of anomalous pixels in these patches
    normal_loss: Array  # mean loss of normal pixels of labelled images
    anomalous_loss: Array  # and of anomalous ones
    improved: Array  # 1 where this is the best step so far
