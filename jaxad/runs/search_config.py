"""What a search is told."""

import dataclasses
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from jaxad._utils.validate import check_at_least, check_seed, check_share, spelled
from jaxad.data import Task
from jaxad.data.fitting import SMALL
from jaxad.methods import learners
from jaxad.methods.common.patch_features import FeatureConfig
from jaxad.nas.space import SearchSpace
from jaxad.nas.space_choices import SpaceChoices
from jaxad.nas.strategies.autoad import AutoADConfig
from jaxad.nas.strategies.registry import STRATEGIES
from jaxad.nas.trial import MIN_BATCH, TrialConfig
from jaxad.nn.objectives.child import ChildConfig
from jaxad.runs.rivals import check_rivals
from jaxad.runs.workers import WorkersConfig

SPACES = ("auto", "paper", "features")
ANY_IMAGE = (28, 28, 1)  # of no task in particular


@dataclasses.dataclass(frozen=True, kw_only=True)
class SearchConfig(WorkersConfig, SpaceChoices):
    """How to find a detector; the defaults take minutes on a laptop. Flags of `jaxad search` are these fields.

    Those of the search space come first; `SearchSpace.of` makes it of them.
    """

    # ---- the search
    space: Literal["auto", "paper", "features"] = "auto"
    """Search space: the paper's, of pixels, one of features, or auto: that of features for images beyond 64 pixels.
    Flags from --num-layers to --extra change it, whatever kind it is."""
    features: FeatureConfig = dataclasses.field(default_factory=FeatureConfig)
    """Network whose features children and rivals see."""
    rivals: tuple[str, ...] = ("auto",)
    """Baselines that are fitted beside the search, the best of them returned if it is better: auto, none, or names."""
    strategy: Annotated[str, STRATEGIES] = "evolution"
    """Who proposes architectures: evolution, autoad (the learned controller), random, or another that is registered."""
    controller: AutoADConfig = dataclasses.field(default_factory=AutoADConfig)
    """Settings of the learned controller, strategy autoad."""
    seed: int = 0
    """Seed of everything random: the same seed gives the same result."""
    children: int = 30
    """Number of architectures to try; none is tried twice."""
    population: int = 6
    """Children trained per step of the controller from the same shared weights; their weight updates are averaged."""
    ahead: int = 0
    """Populations that begin while one is waited for, so that its slowest child leaves no worker without work: they
    miss what the last ones have taught, always the same, whoever trains them. For evolution and random search."""
    time_budget: float | None = 300.0
    """Seconds of searching after which the running child is the last, half as many of retraining; None: no limit."""
    steps: int = 10
    """Training steps of one child."""
    batch_size: int | None = None
    """Images of one training step; by default 64, and 16 of features, each of which has hundreds of places."""
    reward: Literal["auroc", "aupr_in", "aupr_out", "pixel_auroc", "rpro"] = "auroc"
    """Validation metric that children compete for: of their scores, or of their maps by masks (pixel_auroc, rpro)."""
    optimiser: Literal["adam", "sgd"] = "adam"
    """Optimiser of children: Adam, or SGD with momentum 0.9."""
    learning_rate: float = 3e-3
    """Learning rate of children, divided by 10 at 50 % and at 75 % of their steps."""
    regulariser: float = 0.1
    """Weight of the hypothesis relative to the distance (Eq. 2 of AutoAD has 1)."""
    clip: float | None = None
    """Largest absolute value of a gradient of a child, such as 0.1; None clips nothing, as the paper."""
    statistics: Literal["training", "batch"] = "training"
    """What batch normalisation of children goes by when they are rewarded: a batch of training images, as in a detector
    (training), or each batch of validation images, whose order then matters (batch)."""
    executor: Literal["auto", "sequential", "vmapped"] = "auto"
    """Who trains children: one by one (best on a CPU), or those of equal shape side by side (best on a GPU or TPU)."""

    # ---- after the search
    retrain_top: int = 2
    """Number of the best architectures that train from scratch; validation chooses among them."""
    num_seeds: int = 1
    """Random seeds per retrained architecture, each with initial weights of its own."""
    retrain_steps: int = 160
    """Training steps from scratch; validated after 10, 20, 40, ... and the last, and kept as it was at its best."""
    choose_by: Literal["auto", "reward"] = "auto"
    """What validation chooses by between the best child and the rivals: the reward, or, where that is of images and
    validation has masks of real anomalies, the mean of it and of the pixel AUROC (auto), which on average chooses
    better by both. Masks of made anomalies have no say: with them it chooses worse."""
    target_fpr: float = 0.05
    """Share of normal images that the threshold may flag; it is set on held-out normal images."""

    def check(self, task: Task | None = None) -> None:
        """Raise ValueError for values out of range, and for those that do not fit the task."""
        check_at_least(self, "num_layers", "children", "population", "retrain_top", "num_seeds", "retrain_steps")
        check_at_least(self, "ahead", least=0)
        if self.time_budget is not None and not self.time_budget > 0:
            raise ValueError(f"{spelled(self, 'time_budget')} is {self.time_budget}; give seconds above 0")
        check_share(self, "target_fpr")
        self.check_workers(self.executor)
        check_seed(self.seed, spelled(self, "seed"))
        if self.choose_by not in ("auto", "reward"):
            raise ValueError(f"{spelled(self, 'choose_by')} is {self.choose_by!r}; choose auto or reward")
        if self.space not in SPACES:
            raise ValueError(f"{spelled(self, 'space')} is {self.space!r}; choose one of {', '.join(SPACES)}")
        self.search_space(ANY_IMAGE if task is None else task.train.images.shape[1:])
        check_rivals(self.rivals)
        STRATEGIES.named(self.strategy)
        self.controller.check()
        untouched = self.controller in (AutoADConfig(), AutoADConfig.paper())
        if STRATEGIES[self.strategy].config is not AutoADConfig and not untouched:
            mine, name = spelled(self, "controller"), spelled(self, "strategy")
            raise ValueError(
                f"{mine} has settings of strategy autoad, and {name} is {self.strategy}: give {name} autoad"
            )
        if self.strategy_options() and self.ahead:
            name, strategy = spelled(self, "ahead"), spelled(self, "strategy")
            raise ValueError(
                f"{name} is {self.ahead}, and {strategy} {self.strategy} has to be told before it is asked again: "
                f"leave out {name}"
            )
        if self.strategy_options() and self.controller.keep > self.population:
            name, most = spelled(self, "controller.keep"), spelled(self, "population")
            raise ValueError(f"{name} is {self.controller.keep}; the most is {most} {self.population}")
        settings = self.trial_config()
        if task is not None and task.train.labels.any():
            raise ValueError(
                f"{task.name} has {task.train.labels.sum()} labelled anomalies to train on, from which no "
                f"search learns: leave them out, or train one of {', '.join(learners('anomalies'))}"
            )
        if task is not None and settings.of_pixels and (task.valid.masks is None or not task.valid.masks.any()):
            reward = spelled(self, "reward")
            raise ValueError(f"{reward} {self.reward} needs masks, and {task.name} has none: give mvtec:PATH/CATEGORY")

    def is_by_pixels(self, task: Task) -> bool:
        """Whether the pixel AUROC has a say in what is returned."""
        masked = task.valid.masks is not None and bool(task.valid.masks.any()) and not task.details.get("made")
        return self.choose_by == "auto" and masked and not self.trial_config().of_pixels

    def strategy_options(self) -> dict[str, Any]:
        """Options of the strategy: those of the field of its class of options, none where there is no such field."""
        kind = STRATEGIES[self.strategy].config
        fields = [getattr(self, field.name) for field in dataclasses.fields(self)]
        return next((dataclasses.asdict(value) for value in fields if kind and isinstance(value, kind)), {})

    def search_space(self, image_shape: Sequence[int]) -> SearchSpace:
        """The space for images [H, W, C]: lists that are not given are those of its kind."""
        kind = self.space
        if kind == "auto":
            kind = "features" if max(image_shape[:2]) > SMALL else "paper"
        if kind != "features":
            return SearchSpace.of(self)
        return SearchSpace.features(
            **{field.name: getattr(self, field.name) for field in dataclasses.fields(SpaceChoices)}
        )

    def trial_config(self, task: Task | None = None) -> TrialConfig:
        """How one child trains and is rewarded, in batches of at most as many images as a task has to train on."""
        child = ChildConfig(
            optimiser=self.optimiser, learning_rate=self.learning_rate, regulariser=self.regulariser, clip=self.clip
        )  # fmt: skip
        size = self.batch_size
        if size is None:
            shape = ANY_IMAGE if task is None else task.train.images.shape[1:]
            size = 64 if self.search_space(shape).inputs == ("pixels",) else 16
        if task is not None:
            size = min(size, max(MIN_BATCH, len(task.train.images)))
        return TrialConfig(
            steps=self.steps, batch_size=size, reward=self.reward, statistics=self.statistics,
            child=child,
        )  # fmt: skip
