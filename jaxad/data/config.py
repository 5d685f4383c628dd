"""The task as flags, which the configs of experiments inherit."""

import dataclasses
from typing import Annotated

from jaxad.data.loading import load_task
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
    """Classes of the dataset that are normal, by name or number; the others are anomalous."""
    data_dir: str | None = None
    """Where prepared TFDS sets are; by default TFDS_DATA_DIR."""
    image_size: int | None = None
    """Resize all images to this side."""
    limit: int | None = None
    """Use at most so many normal images over the three parts; with --test-split over train and validation."""
    anomaly_ratio: float | None = None
    """Anomalous share of validation and test; by default 0.05, and 0.2 for the small bundled sets."""
    valid_anomalies: int | None = None
    """Exactly so many anomalies in validation, whatever the anomaly ratio; by default as many as that says."""
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
