"""What one trial of a search is: which images a child sees in which order, and what it is rewarded for.

Shared by all executors, so that they differ in how they compute and in nothing else.
"""

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import chex
import jax
import jax.image
import jax.numpy as jnp
import numpy as np

from jaxad._utils.memory import is_of_memory
from jaxad.data.batches import batch_order as batch_order  # under these names executors ask for them
from jaxad.data.batches import batches as batches
from jaxad.data.batches import to_float as to_float
from jaxad.data.batches import window as window
from jaxad.metrics.image import CRITERIA
from jaxad.metrics.pixel_jax import PIXEL_CRITERIA, PixelTruth, pixel_truth
from jaxad.nn.architecture import Architecture
from jaxad.nn.objectives.child import ChildConfig
from jaxad.types import Array, Key, Params

WORST_REWARD = 0.0  # of a child that fails: the lower bound of all rewards
REWARDS = (*CRITERIA, *PIXEL_CRITERIA)
STATISTICS = ("training", "batch")
MIN_BATCH = 8  # below this a child that does not fit into memory fails


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrialConfig:
    """How every child of a search is trained and rewarded. Raises ValueError for values out of range."""

    steps: int = 20
    """Training steps of one child."""
    batch_size: int = 64
    """Images of a training step, and of a scoring step."""
    reward: str = "auroc"
    """Validation metric: auroc, aupr_in or aupr_out of scores, or pixel_auroc or rpro of maps."""
    fit_images: int = 256
    """Training images whose latents fix the statistics of a hypothesis before scoring."""
    statistics: str = "training"
    """What batch normalisation goes by in scoring: a batch of training images, as in a detector, so that no reward
    depends on the order of validation images (training), or each batch of these (batch). The paper says nothing."""
    child: ChildConfig = dataclasses.field(default_factory=ChildConfig)
    """The objective and the optimiser."""

    def __post_init__(self) -> None:
        for name, least in (("steps", 1), ("batch_size", MIN_BATCH), ("fit_images", 1)):
            value = getattr(self, name)
            if not isinstance(value, int) or value < least:
                raise ValueError(f"{name} is {value!r}; give a whole number from {least} upwards")
        if self.statistics not in STATISTICS:
            raise ValueError(f"statistics is {self.statistics!r}; choose one of {', '.join(STATISTICS)}")
        if self.reward not in REWARDS:
            raise ValueError(f"reward is {self.reward!r}; choose one of {', '.join(REWARDS)}")

    @property
    def of_pixels(self) -> bool:
        """Whether maps are rewarded, and not scores."""
        return self.reward in PIXEL_CRITERIA


class TrialData(NamedTuple):
    """What children of one input see, on the device as it was stored (uint8 stays uint8, float16 float16)."""

    train: Array  # [N, H, W, C]
    valid: Array  # [M, H, W, C]
    valid_labels: Array  # [M] int32, 1 = anomalous
    valid_pixels: PixelTruth | None = None  # what maps are measured against, where they are rewarded


def put(
    train: np.ndarray, valid: np.ndarray, valid_labels: np.ndarray, valid_masks: np.ndarray | None = None
) -> TrialData:
    """Bring what children of one input see to the device, once.

    Args:
      train, valid: images [N, H, W, C] and [M, H, W, C], or feature maps of any range, float16 or float32.
      valid_labels: [M], 1 = anomalous.
      valid_masks: [M, H', W'], for rewards of pixels, which are measured at their resolution.
    """
    chex.assert_rank([train, valid, valid_labels], [4, 4, 1])
    pixels = None
    if valid_masks is not None:
        chex.assert_shape(valid_masks, (valid.shape[0], None, None))
        pixels = pixel_truth(valid_masks)
    return TrialData(jnp.asarray(train), jnp.asarray(valid), jnp.asarray(valid_labels, jnp.int32), pixels)


class TrialKeys(NamedTuple):
    """The randomness of one child."""

    order: Key  # of its training images
    hypothesis: Key  # of its first centres and mixture


def trial_keys(key: Key) -> TrialKeys:
    """The purposes of a child's key, which is consumed."""
    return TrialKeys(*jax.random.split(key))


class Reward(NamedTuple):
    """What a child has earned."""

    value: Array  # scalar in [0, 1]
    loss: Array  # of the last training step
    usable: Array  # False where loss, scores or maps are not finite, or all of their values are equal


def reward_of(outputs: Array, truth: Array | PixelTruth, loss: Array, criterion: str) -> Reward:
    """The reward of raw scores [M] by labels [M], or of maps [M, h, w] by masks; the worst for useless ones.

    Maps of another size than the masks become as large as these by bilinear interpolation between the centres of their
    pixels, as maps of a detector do that are laid over an image.

    Args:
      loss: of the last training step.
      criterion: one of `REWARDS`.
    """
    usable = jnp.isfinite(loss) & jnp.all(jnp.isfinite(outputs)) & (jnp.max(outputs) > jnp.min(outputs))
    outputs = jnp.where(usable, outputs, 0.0)
    if criterion in PIXEL_CRITERIA and outputs.shape != truth.masks.shape:
        outputs = jax.image.resize(outputs, truth.masks.shape, "linear", antialias=False)
    value = (CRITERIA | PIXEL_CRITERIA)[criterion](outputs, truth)
    return Reward(jnp.where(usable, value, WORST_REWARD), loss, usable)


def truth_of(data: TrialData, config: TrialConfig) -> Array | PixelTruth:
    """What outputs are rewarded by; ValueError where these are maps and there are no masks."""
    if not config.of_pixels:
        return data.valid_labels
    if data.valid_pixels is None:
        raise ValueError(f"reward is {config.reward}, which needs masks of the validation images; give them to put")
    return data.valid_pixels


def fit_windows(config: TrialConfig, images: int, batch_size: int) -> tuple[int, int]:
    """How many windows of training images the statistics of a hypothesis take, and how many images are in them."""
    count = batches(min(config.fit_images, images), batch_size)
    return count, min(count * batch_size, images)  # the last window may begin again with the first image


# ---- what executors take and give --------------------------------------------------------------------------------


class Job(NamedTuple):
    """A child to train."""

    architecture: Architecture
    params: Params  # its part of the shared weights, on the host
    key: Key  # consumed


class Result(NamedTuple):
    """What an executor returns for a job: parameters and reward, or the reason why there are none."""

    params: Params | None  # trained, on the host, structured as the job's
    reward: Reward | None  # host scalars
    reason: str | None  # "out of memory ..." where the child could not be run
    batch_size: int  # that it was run with
    seconds: float  # wall-clock of training and scoring, without waiting for compilation


Executor = Callable[[Sequence[Job]], Iterator[Result]]


def halving_batches(
    run: Callable[[int], tuple[Params, Reward]], batch_size: int, prepare: Callable[[int], None] = lambda size: None
) -> Result:
    """Run a child; where it does not fit into memory, try again with half the batch, down to `MIN_BATCH`.

    `prepare` is called before each try and is not timed: it waits for what has to be compiled.
    """
    seconds, full = 0.0, batch_size
    while True:
        try:
            prepare(batch_size)
            started = time.perf_counter()
            try:
                params, reward = run(batch_size)
            finally:
                seconds += time.perf_counter() - started
            return Result(params, reward, None, batch_size, seconds)
        except jax.errors.JaxRuntimeError as error:
            if not is_of_memory(error):
                raise
        if batch_size // 2 < MIN_BATCH:
            reason = f"out of memory at batch sizes {full} down to {batch_size}"
            return Result(None, None, reason, batch_size, seconds)
        batch_size //= 2
