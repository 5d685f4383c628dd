"""The settings of neural batch sampling, each with its source."""

import dataclasses
import math
from typing import ClassVar, Literal

from jaxad._utils.validate import check_multipliers
from jaxad.methods.nbs.environment import EnvironmentConfig
from jaxad.nn.crf import CRFConfig

STRATEGIES = ("learned", "uniform", "normal")
JUDGES = ("buffer", "current")
BEST_BY = ("reward", "labelled")


@dataclasses.dataclass(frozen=True, kw_only=True)
class NBSConfig:
    """What is trained, and how. The thesis publishes sizes and networks; other constants are a follow-up's, or ours."""

    labels: ClassVar[str] = "masks"  # what it is taught by, of some of its images; see `jaxad.types.Detector`

    environment: EnvironmentConfig = dataclasses.field(default_factory=EnvironmentConfig)
    """Patches and windows."""
    strategy: Literal["learned", "uniform", "normal"] = "learned"
    """How patches are chosen: by the sampler; uniformly from all images; uniformly from normal labelled patches."""
    episode: int = 32
    """Patches N_e that train the autoencoder in a step (follow-up)."""
    batch: int = 16
    """Patches in a mini-batch of the autoencoder; divides `episode` (ours)."""
    code: int = 200
    """Length K of the autoencoder's code (thesis; 500 for NanoTWICE)."""
    width: float = 1.0
    """Multiplier of the autoencoder's channels; 1 is the size of the thesis, for GPUs."""
    sampler_width: float = 1.0
    """Multiplier of the sampler's channels."""
    predictor_width: float = 2.0
    """Multiplier of the predictor's channels: 1 for MVTec AD, 2 for NanoTWICE and CrackForest (thesis)."""
    learning_rate: float = 1e-3
    """Learning rate of Adam, for all three networks (follow-up)."""
    period: int = 20
    """Steps K after which the autoencoder begins anew (follow-up)."""
    skip: int = 14
    """Steps M after that without an update of the sampler, as losses are too noisy (follow-up)."""
    profile: int = 10
    """Losses in a profile (thesis)."""
    clone_steps: int = 5000
    """Steps T until behaviour cloning has faded out (follow-up)."""
    discount: float = 0.99
    """Discount gamma of returns (ours)."""
    predictor_batch: int = 16
    """Profiles in a mini-batch of the predictor (ours)."""
    predictor_updates: int = 2
    """Updates of the predictor in a step (follow-up)."""
    memory: int = 200
    """Profiles that the buffer holds (ours)."""
    augment: bool = True
    """Change images and buffered profiles by random flips, turns, shifts and shears (follow-up)."""
    judge: Literal["buffer", "current"] = "buffer"
    """Where l_pred is taken, which rewards the sampler: profiles drawn from the buffer, as in Algorithm 1, or those
    that the step itself has made of the labelled images."""
    best_by: Literal["reward", "labelled"] = "reward"
    """What finds the best step: the l_pred that rewards the sampler, as in Algorithm 1, a mean over few profiles drawn
    at random, or that of the profiles that the step has made of all labelled images, the same ones every time."""
    crf: CRFConfig = dataclasses.field(default_factory=CRFConfig)
    """Smooths probabilities to masks; with 0 iterations, the probabilities themselves are cut at 1/2."""

    def check(self) -> None:
        """Raise ValueError for values out of range."""
        self.environment.check()
        self.crf.check()
        for name, options in (("strategy", STRATEGIES), ("judge", JUDGES), ("best_by", BEST_BY)):
            if getattr(self, name) not in options:
                raise ValueError(f"{name} is {getattr(self, name)!r}; choose one of {', '.join(options)}")
        counts = ("episode", "batch", "code", "period", "profile", "clone_steps", "predictor_batch", "memory")
        for name in (*counts, "predictor_updates"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; the least is 1")
        if self.episode % self.batch:
            raise ValueError(f"episode is {self.episode}, batch {self.batch}; give a batch that divides the episode")
        check_multipliers(width=self.width, sampler_width=self.sampler_width, predictor_width=self.predictor_width)
        if not 0 < self.learning_rate < math.inf:
            raise ValueError(f"learning_rate is {self.learning_rate}; give a number above 0")
        if not 0 < self.discount <= 1:
            raise ValueError(f"discount is {self.discount}; give a number above 0 and up to 1")
        if self.period < self.profile:
            raise ValueError(f"period is {self.period}; the least is profile {self.profile}: no profile would be full")
        if self.strategy == "learned" and not self.profile <= self.skip < self.period - 1:
            raise ValueError(
                f"skip is {self.skip}; give profile {self.profile} to {self.period - 2} (period - 2): the sampler "
                "learns from full profiles, before the autoencoder begins anew"
            )

    def check_images(self, shape: tuple[int, ...]) -> None:
        """Raise ValueError for images [H, W, C] that cannot be cut into patches."""
        height, width = shape[:2]
        patch = self.environment.patch
        if patch % 8:
            raise ValueError(f"patch is {patch}; the autoencoder takes a multiple of 8")
        self.environment.check_images(height, width)
        if height % patch or width % patch:
            remedy = f"{max(1, round(height / patch)) * patch}x{max(1, round(width / patch)) * patch}"
            raise ValueError(f"images are {height}x{width}, no whole number of patches of {patch}: resize to {remedy}")
