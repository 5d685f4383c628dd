"""Tasks as flags, which the configs of experiments inherit."""

import dataclasses
from collections.abc import Callable
from typing import Annotated, Literal

from jaxad._utils.validate import check_at_least, check_share, check_step_fits
from jaxad.data.checking import Checked, check_data
from jaxad.data.fitting import Fit
from jaxad.data.loading import load_task
from jaxad.data.protocols import few_masks
from jaxad.data.protocols.class_sets import ClassSets, load_class_sets
from jaxad.data.protocols.few_labels import Gamma, labelled_one_class, with_known
from jaxad.data.protocols.few_masks import LabelledTask, Setting, load_labelled
from jaxad.data.protocols.fitted import fit_task
from jaxad.data.sources.registry import SOURCES, source_of
from jaxad.data.task import Task, check_task, table

DIGITS = 170  # images of each class
MOST_FILES = 1500  # normal images that are read, each from a file, where nobody says how many


def _seed(config: object) -> int:
    """The seed of an experiment, which is among its own settings."""
    return getattr(config, "seed", 0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TaskConfig:
    """What to find anomalies in. An experiment changes a default by naming the field again, with or without help."""

    dataset: Annotated[str, SOURCES] = "textures:16"
    """Normal images, in one of the forms listed above."""
    ood: tuple[str, ...] = ()
    """Anomalous image sets, in the same forms; they are resized to the normal ones."""
    normal_classes: tuple[str, ...] = ()
    """Classes of the dataset that are normal, by name or number; all others are anomalous."""
    label: str | None = None
    """Label feature of a TFDS set that holds its classes, such as coarse_label of cifar100; by default its first."""
    data_dir: str | None = None
    """Folder of prepared TFDS sets; by default what TFDS_DATA_DIR says."""
    image_size: int | tuple[int, int] | Literal["auto"] | None = "auto"
    """Side, or height and width; auto leaves small images (64 pixels) and makes squares of others, None leaves all."""
    auto_side: int = 224
    """Side of the squares that auto makes of images beyond 64 pixels."""
    fit: Fit = "stretch"
    """How images of other shapes get there: stretch, pad (shrunk, with black around) or crop (the middle)."""
    value_range: tuple[float, float] | None = None
    """Values that are black and white in files of more than 8 bits; by default as the files or their values tell."""
    tiles: int = 1
    """Cut images into so many overlapping tiles along each side, each an image: small defects keep their pixels."""
    limit: int | None = None
    """Most normal images of all parts together (but those of --test-split); by default 1,500 of files, else all."""
    anomaly_ratio: float | None = None
    """Share of anomalies in validation and test; by default all anomalies, for your own files with at most 500 of them;
    otherwise 0.05 or 0.2, depending on the data set."""
    valid_anomalies: int | None = None
    """Put exactly so many anomalies into validation; by default as many as the anomaly ratio says."""
    test_split: str | None = None
    """Test on this part of a TFDS or IDX set, such as test, as it is published; by default on a fifth of train."""
    anomaly_split: str = "test"
    """Part of the sets of --ood that anomalies are drawn from, such as validation of sets that have no test part."""
    check_data: bool = False
    """Say what the data are, what is wrong with them and what task they make, and train nothing."""

    def checked(self) -> list[Checked]:
        """What is in the sets; the first of them says what task all make."""
        tested = () if self.test_split is None else (self.test_split,)
        return [
            check_data(
                self.dataset,
                lambda: table(self.load()),
                parts=("train", *tested),
                data_dir=self.data_dir,
            ),
            *(check_data(name, parts=(self.anomaly_split,), data_dir=self.data_dir) for name in self.ood),
        ]

    def load(self) -> Task:
        """The task of an experiment, by its seed."""
        return self.load_task(_seed(self))

    def load_task(self, seed: int) -> Task:
        """The task, drawn by `seed`, checked before anything is computed or written.

        Raises:
          ValueError: what `load_task` and `check_task` refuse.
        """
        check_at_least(self, "tiles")
        limit = self.limit
        if limit is None and source_of(self.dataset).files:
            limit = max(3, MOST_FILES // self.tiles**2)  # one for each part
        task = load_task(
            self.dataset,
            ood=self.ood,
            normal_classes=self.normal_classes,
            data_dir=self.data_dir,
            image_size=self.image_size,
            fit=self.fit,
            auto_side=self.auto_side,
            value_range=self.value_range,
            limit=limit,
            tiles=self.tiles,
            anomaly_ratio=self.anomaly_ratio,
            valid_anomalies=self.valid_anomalies,
            test_split=self.test_split,
            anomaly_split=self.anomaly_split,
            label=self.label,
            seed=seed,
        )
        return check_task(task)


@dataclasses.dataclass(frozen=True, kw_only=True)
class KnownAnomaliesConfig(TaskConfig):
    """The same for methods that may learn from a few labelled anomalies."""

    labelled: int = 0
    """Number of known anomalies: so many of validation are labelled and train, for methods that learn from them."""

    def load_task(self, seed: int) -> Task:
        """As `TaskConfig.load_task`, with some anomalies in training; ValueError where they cannot be there."""
        check_at_least(self, "labelled", least=0)
        if self.labelled and self.tiles != 1:
            raise ValueError(f"--labelled is {self.labelled}: whole images are labelled, so leave out --tiles")
        task = super().load_task(seed)
        return with_known(task, self.labelled, seed=seed) if self.labelled else task


@dataclasses.dataclass(frozen=True, kw_only=True)
class FittedTaskConfig(KnownAnomaliesConfig):
    """The same for methods whose networks take squares of certain sides alone."""

    image_size: int | Literal["auto"] | None = "auto"
    """Side of the images: 8, 16, 32 ...; auto is the least that holds them, at most --auto-side, None has no limit."""
    auto_side: int = 64
    """Largest side that --image-size auto takes."""

    def load_fitted_task(
        self, seed: int, next_size: Callable[[int], int], *, valid_anomalies: int | None = None
    ) -> Task:
        """The task with squares of `image_size` pixels, by default of the least side that the images fit into.

        Args:
          next_size: the least side that the networks take and that is not below a number of pixels.
          valid_anomalies: put so many into validation where this config does not say, and the set has no test part
            that is shared with validation.

        Raises:
          ValueError: a side that the networks do not take; what `load_task` and `check_task` refuse.
        """
        for flag, side in (("--image-size", self.image_size), ("--auto-side", self.auto_side)):
            if isinstance(side, int) and side != next_size(side):
                raise ValueError(f"{flag} is {side}; the networks take 8, 16, 32 ...: give {next_size(side)}")
        asked = {}
        if self.valid_anomalies is None and not source_of(self.dataset).defects:
            asked["valid_anomalies"] = valid_anomalies
        batch_size = getattr(self, "batch_size", 1)
        if isinstance(self.image_size, int):
            check_step_fits(self.image_size, batch_size)
        task = dataclasses.replace(self, **asked).load_task(seed)
        side = next_size(max(task.train.images.shape[1:3]))
        check_step_fits(side, batch_size)
        return check_task(fit_task(task, side, how=self.fit))


@dataclasses.dataclass(frozen=True, kw_only=True)
class FewMasksConfig:
    """What to segment. An experiment changes a default by naming the field again, with or without help."""

    dataset: Annotated[str, SOURCES] = "painted:brick:64"
    """Images with masks, in one of the forms listed above that have some."""
    labelled: int = 5
    """Number of images whose masks training may see."""
    setting: Setting = "transductive"
    """Test on the unlabelled images, as the thesis does, on images that no training saw, or learn from all images
    without defects alone and test on the others (clean, the thesis' unsupervised baseline: --methods l2)."""
    image_size: tuple[int, int] | None = None
    """Resize all images to this height and width."""
    value_range: tuple[float, float] | None = None
    """Values that are black and white in files of more than 8 bits; by default as the files or their values tell."""
    limit: int | None = None
    """Use at most so many images in all."""
    unseen: tuple[str, ...] = ()
    """Kinds of defects, which are classes of images, that no labelled image may show; they are tested all the same."""
    check_data: bool = False
    """Say what the data are, what is wrong with them and what task they make, and train nothing."""

    def checked(self) -> list[Checked]:
        """What is in the set, and what task it makes."""
        return [check_data(self.dataset, lambda: few_masks.table(self.load_labelled(_seed(self))))]

    def load_labelled(self, seed: int) -> LabelledTask:
        """The task, drawn by `seed`; ValueError where it cannot be."""
        return load_labelled(
            self.dataset, labelled=self.labelled, setting=self.setting, image_size=self.image_size,
            value_range=self.value_range, limit=self.limit, unseen=self.unseen, seed=seed,
        )  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClassSetsConfig:
    """Which classes are normal in turn. An experiment changes a default by naming the field again."""

    dataset: Annotated[str, SOURCES] = "digits"
    """Images with labels, in one of the forms listed above."""
    classes: tuple[str, ...] = ()
    """Classes that are normal, one detector for each, by name or number; by default every class."""
    label: str | None = None
    """Label feature of a TFDS set that holds its classes, such as coarse_label of cifar100; by default its first."""
    test_split: str | None = None
    """Test on this part of a TFDS or IDX set, such as test, whole; by default on a fifth of each class and others."""
    test_folder: str | None = None
    """Test on the class folders in this folder, whole; for --dataset folder:DIR (the medical protocol)."""
    data_dir: str | None = None
    """Where prepared TFDS sets are; by default TFDS_DATA_DIR."""
    image_size: int | None = None
    """Side of the images; by default theirs, rounded up to 8, 16, 32 or 64, which is that of photographs."""
    value_range: tuple[float, float] | None = None
    """Values that are black and white in files of more than 8 bits; by default as the files or their values tell."""
    limit: int | None = None
    """Use at most so many normal images of a class; by default all, of the bundled digits 170 (one program)."""
    anomaly_ratio: float = 0.5
    """Anomalous share of validation and test; a test part that is given stays whole, and validation is then normal."""
    check_data: bool = False
    """Say what the data are, what is wrong with them and what task they make, and train nothing."""

    def checked(self) -> list[Checked]:
        """What is in the sets; the first of them says what task the first class makes."""

        def make() -> str:
            seed = _seed(self)
            sets = self.load_sets(seed)
            tasks = [self.one_class_task(sets, name, gamma=0.0, gamma_seed=seed, seed=seed) for name in sets.classes]
            return table(tasks[0])

        tested = () if self.test_split is None else (self.test_split,)
        found = [check_data(self.dataset, make, parts=("train", *tested), data_dir=self.data_dir)]
        if self.test_folder is not None:
            found.append(check_data(f"folder:{self.test_folder}"))
        return found

    def check(self) -> None:
        """Raise ValueError for values out of range."""
        check_share(self, "anomaly_ratio", example=0.5)
        if len(set(self.classes)) < len(self.classes):
            raise ValueError(f"--classes names something twice: {', '.join(self.classes)}")
        if self.test_folder is not None and (self.test_split is not None or not self.dataset.startswith("folder:")):
            raise ValueError("--test-folder is for --dataset folder:DIR, without --test-split")

    def load_sets(self, seed: int) -> ClassSets:
        """The images; ValueError where they cannot be loaded, or have no such class."""
        return load_class_sets(
            self.dataset, self.classes, image_size=self.image_size, value_range=self.value_range, label=self.label,
            test_split=self.test_split, test_folder=self.test_folder, data_dir=self.data_dir, seed=seed,
        )  # fmt: skip

    def one_class_task(self, sets: ClassSets, normal: str, *, gamma: Gamma, gamma_seed: int, seed: int) -> Task:
        """The task of a class: the same validation and test for every gamma, see `labelled_one_class`."""
        # Of the digits no class has fewer. Equal numbers share one compiled program.
        limit = DIGITS if self.limit is None and self.dataset == "digits" else self.limit
        # Validation only sets the threshold, on normal images: all anomalies there are may train.
        anomaly_ratio = self.anomaly_ratio if sets.test is None else 0.0
        task = labelled_one_class(
            sets.train, sets.test, normal, gamma=gamma, gamma_seed=gamma_seed, anomaly_ratio=anomaly_ratio,
            limit=limit, seed=seed,
        )  # fmt: skip
        if len(set(task.test.labels)) < 2:
            raise ValueError(f"{task.name}: the test needs normal and anomalous images; give others, or another class")
        return task
