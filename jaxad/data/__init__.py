"""Image sets and tasks: from the name of a set, or from arrays, to training, validation and test parts."""

from jaxad.data.bundled import ImageSet, digits, noise, take, textures
from jaxad.data.class_sets import ClassSets, load_class_sets
from jaxad.data.config import TaskConfig
from jaxad.data.datasets import available, load
from jaxad.data.few_masks import LabelledTask, check_labelled, few_labels, load_labelled, pairs
from jaxad.data.files import from_arrays
from jaxad.data.images import check_images, decode, read_images, resize, to_channels, to_dtype
from jaxad.data.labelled import Gamma, gamma_name, labelled_one_class, with_labelled
from jaxad.data.loading import load_task
from jaxad.data.official import official_split
from jaxad.data.painted import painted
from jaxad.data.protocols import one_class, out_of_distribution, segmentation, task_from_arrays
from jaxad.data.tasks import Row, Split, Task, check_task, describe, held_out_normals, parts, table

__all__ = [
    "ClassSets",
    "Gamma",
    "ImageSet",
    "LabelledTask",
    "Row",
    "Split",
    "Task",
    "TaskConfig",
    "available",
    "check_images",
    "check_labelled",
    "check_task",
    "decode",
    "describe",
    "digits",
    "few_labels",
    "from_arrays",
    "gamma_name",
    "held_out_normals",
    "labelled_one_class",
    "load",
    "load_class_sets",
    "load_labelled",
    "load_task",
    "noise",
    "official_split",
    "one_class",
    "out_of_distribution",
    "painted",
    "pairs",
    "parts",
    "read_images",
    "resize",
    "segmentation",
    "table",
    "take",
    "task_from_arrays",
    "textures",
    "to_channels",
    "to_dtype",
    "with_labelled",
]
