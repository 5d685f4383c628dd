"""Image sets and tasks: from the name of a set, or from arrays, to training, validation and test parts."""

from jaxad.data.checking import Checked, check_data
from jaxad.data.config import ClassSetsConfig, FewMasksConfig, FittedTaskConfig, KnownAnomaliesConfig, TaskConfig
from jaxad.data.decoding import decode
from jaxad.data.image_set import ImageSet, from_arrays, take
from jaxad.data.images import check_images, resize, to_channels, to_dtype
from jaxad.data.loading import load_task
from jaxad.data.made_anomalies import make_anomalies
from jaxad.data.protocols.class_sets import ClassSets, load_class_sets
from jaxad.data.protocols.default import one_class, out_of_distribution, task_from_arrays
from jaxad.data.protocols.few_labels import Gamma, gamma_name, labelled_one_class, with_known, with_labelled
from jaxad.data.protocols.few_masks import LabelledTask, check_labelled, few_labels, load_labelled
from jaxad.data.protocols.given_parts import segmentation
from jaxad.data.protocols.good_alone import good_alone
from jaxad.data.protocols.official_test import official_split
from jaxad.data.reading import read_images
from jaxad.data.sources.digits import digits
from jaxad.data.sources.noise import noise
from jaxad.data.sources.painted import painted
from jaxad.data.sources.registry import SOURCES, Request, available, load, source
from jaxad.data.sources.textures import textures
from jaxad.data.task import Row, Split, Task, check_task, describe, held_out_normals, parts, table

__all__ = [
    "SOURCES",
    "Checked",
    "ClassSets",
    "ClassSetsConfig",
    "FewMasksConfig",
    "FittedTaskConfig",
    "Gamma",
    "ImageSet",
    "KnownAnomaliesConfig",
    "LabelledTask",
    "Request",
    "Row",
    "Split",
    "Task",
    "TaskConfig",
    "available",
    "check_data",
    "check_images",
    "check_labelled",
    "check_task",
    "decode",
    "describe",
    "digits",
    "few_labels",
    "from_arrays",
    "gamma_name",
    "good_alone",
    "held_out_normals",
    "labelled_one_class",
    "load",
    "load_class_sets",
    "load_labelled",
    "load_task",
    "make_anomalies",
    "noise",
    "official_split",
    "one_class",
    "out_of_distribution",
    "painted",
    "parts",
    "read_images",
    "resize",
    "segmentation",
    "source",
    "table",
    "take",
    "task_from_arrays",
    "textures",
    "to_channels",
    "to_dtype",
    "with_known",
    "with_labelled",
]
