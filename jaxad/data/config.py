"""Tasks as flags, which the configs of experiments inherit."""

import dataclasses
from collections.abc import Callable
from typing import Annotated, Any, Literal

from jaxad.data.fitting import fit_size
from jaxad.data.loading import load_task
from jaxad.data.protocols.few_masks import LabelledTask, Setting, load_labelled
from jaxad.data.sources.registry import SOURCES, source_of
from jaxad.data.task import Task, check_task


@dataclasses.dataclass(frozen=True, kw_only=True)
class TaskConfig:
    """What to find anomalies in. An experiment changes a default by naming the field again, with or without help."""

    dataset: Annotated[str, SOURCES] = "textures:16"
    """Normal images, in one of the forms listed above."""
    ood: tuple[str, ...] = ()
    """Anomalous image sets, in the same forms; they are resized to the normal ones."""
    normal_classes: tuple[str, ...] = ()
    """Classes of the dataset that are normal, by name or number; all others are anomalous."""
    data_dir: str | None = None
    """Folder of prepared TFDS sets; by default what TFDS_DATA_DIR says."""
    image_size: int | None = None
    """Resize all images to this side."""
    limit: int | None = None
    """Use at most so many normal images over the three parts; with --test-split over train and validation."""
    anomaly_ratio: float | None = None
    """Share of anomalies in validation and test; by default 0.05, and 0.2 for the small bundled sets."""
    valid_anomalies: int | None = None
    """Put exactly so many anomalies into validation; by default as many as the anomaly ratio says."""
    test_split: str | None = None
    """Test on this part of a TFDS or IDX set, such as test, as it is published; by default on a fifth of train."""

    def load_task(self, seed: int) -> Task:
        """The task, drawn by `seed`, checked before anything is computed or written.

        Raises:
          ValueError: what `load_task` and `check_task` refuse.
        """
        anomaly_ratio = self.anomaly_ratio
        if anomaly_ratio is None:
            anomaly_ratio = source_of(self.dataset).anomaly_ratio
        task = load_task(
            self.dataset,
            ood=self.ood,
            normal_classes=self.normal_classes,
            data_dir=self.data_dir,
            image_size=self.image_size,
            limit=self.limit,
            anomaly_ratio=anomaly_ratio,
            valid_anomalies=self.valid_anomalies,
            test_split=self.test_split,
            seed=seed,
        )
        return check_task(task)


@dataclasses.dataclass(frozen=True, kw_only=True)
class FittedTaskConfig(TaskConfig):
    """The same for methods whose networks take squares of certain sides alone."""

    fit: Literal["resize", "pad"] = "resize"
    """How images of other sizes become squares of 8, 16, 32 ... pixels."""

    def load_fitted_task(
        self, seed: int, next_size: Callable[[int], int], *, valid_anomalies: int | None = None
    ) -> Task:
        """The task with squares of `image_size` pixels, by default of the least side that the images fit into.

        Args:
          next_size: the least side that the networks take and that is not below a number of pixels.
          valid_anomalies: put so many into validation where this config does not say, and the set has no test part
            that is shared with validation.

        Raises:
          ValueError: a side that the networks do not take; what `load_task`, `fit_size` and `check_task` refuse.
        """
        side = self.image_size
        if side is not None and side != next_size(side):
            raise ValueError(f"--image-size is {side}; the networks take 8, 16, 32 ...: give {next_size(side)}")
        asked: dict[str, Any] = {}
        if self.fit == "pad":
            asked["image_size"] = None  # the border goes around the images as they are
        if self.valid_anomalies is None and not self.dataset.startswith("mvtec:"):
            asked["valid_anomalies"] = valid_anomalies
        task = dataclasses.replace(self, **asked).load_task(seed)
        return check_task(fit_size(task, side or next_size(max(task.train.images.shape[1:3])), how=self.fit))


@dataclasses.dataclass(frozen=True, kw_only=True)
class FewMasksConfig:
    """What to segment. An experiment changes a default by naming the field again, with or without help."""

    dataset: str = "painted:brick:64"
    """Images with masks: painted:TEXTURE:SIZE (brick, grass, gravel), pairs:DIR, mvtec:DIR/CATEGORY or npz:FILE."""
    labelled: int = 5
    """Number of images whose masks training may see."""
    setting: Setting = "transductive"
    """Test on the unlabelled images, as the thesis does, or on images that no training saw."""
    image_size: tuple[int, int] | None = None
    """Resize all images to this height and width."""
    limit: int | None = None
    """Use at most so many images in all."""

    def load_labelled(self, seed: int) -> LabelledTask:
        """The task, drawn by `seed`; ValueError where it cannot be."""
        return load_labelled(
            self.dataset, labelled=self.labelled, setting=self.setting, image_size=self.image_size, limit=self.limit,
            seed=seed,
        )  # fmt: skip
