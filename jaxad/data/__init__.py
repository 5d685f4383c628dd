"""Image sets and tasks: from the name of a set, or from arrays, to training, validation and test parts.

Names are bound when they are first used, as those of `jaxad` are: a command that reads a photograph needs few of them.
"""

from typing import TYPE_CHECKING

from jaxad._utils.lazy import binder

if TYPE_CHECKING:
    from jaxad.data.checking import Checked as Checked
    from jaxad.data.checking import check_data as check_data
    from jaxad.data.config import ClassSetsConfig as ClassSetsConfig
    from jaxad.data.config import FewMasksConfig as FewMasksConfig
    from jaxad.data.config import FittedTaskConfig as FittedTaskConfig
    from jaxad.data.config import KnownAnomaliesConfig as KnownAnomaliesConfig
    from jaxad.data.config import TaskConfig as TaskConfig
    from jaxad.data.decoding import decode as decode
    from jaxad.data.image_set import ImageSet as ImageSet
    from jaxad.data.image_set import from_arrays as from_arrays
    from jaxad.data.image_set import take as take
    from jaxad.data.images import check_images as check_images
    from jaxad.data.images import resize as resize
    from jaxad.data.images import to_channels as to_channels
    from jaxad.data.images import to_dtype as to_dtype
    from jaxad.data.loading import load_task as load_task
    from jaxad.data.made_anomalies import make_anomalies as make_anomalies
    from jaxad.data.protocols.class_sets import ClassSets as ClassSets
    from jaxad.data.protocols.class_sets import load_class_sets as load_class_sets
    from jaxad.data.protocols.default import one_class as one_class
    from jaxad.data.protocols.default import out_of_distribution as out_of_distribution
    from jaxad.data.protocols.default import task_from_arrays as task_from_arrays
    from jaxad.data.protocols.few_labels import Gamma as Gamma
    from jaxad.data.protocols.few_labels import gamma_name as gamma_name
    from jaxad.data.protocols.few_labels import labelled_one_class as labelled_one_class
    from jaxad.data.protocols.few_labels import with_known as with_known
    from jaxad.data.protocols.few_labels import with_labelled as with_labelled
    from jaxad.data.protocols.few_masks import LabelledTask as LabelledTask
    from jaxad.data.protocols.few_masks import check_labelled as check_labelled
    from jaxad.data.protocols.few_masks import few_labels as few_labels
    from jaxad.data.protocols.few_masks import load_labelled as load_labelled
    from jaxad.data.protocols.given_parts import segmentation as segmentation
    from jaxad.data.protocols.good_alone import good_alone as good_alone
    from jaxad.data.protocols.official_test import official_split as official_split
    from jaxad.data.reading import read_images as read_images
    from jaxad.data.sources.digits import digits as digits
    from jaxad.data.sources.noise import noise as noise
    from jaxad.data.sources.painted import painted as painted
    from jaxad.data.sources.registry import SOURCES as SOURCES
    from jaxad.data.sources.registry import Request as Request
    from jaxad.data.sources.registry import available as available
    from jaxad.data.sources.registry import load as load
    from jaxad.data.sources.registry import source as source
    from jaxad.data.sources.textures import textures as textures
    from jaxad.data.task import Row as Row
    from jaxad.data.task import Split as Split
    from jaxad.data.task import Task as Task
    from jaxad.data.task import check_task as check_task
    from jaxad.data.task import describe as describe
    from jaxad.data.task import held_out_normals as held_out_normals
    from jaxad.data.task import parts as parts
    from jaxad.data.task import table as table

# Where a name is defined. (The imports above say the same to type checkers; a test compares them.)
_HOMES = {
    "Checked": "checking",
    "ClassSets": "protocols.class_sets",
    "ClassSetsConfig": "config",
    "FewMasksConfig": "config",
    "FittedTaskConfig": "config",
    "Gamma": "protocols.few_labels",
    "ImageSet": "image_set",
    "KnownAnomaliesConfig": "config",
    "LabelledTask": "protocols.few_masks",
    "Request": "sources.registry",
    "Row": "task",
    "SOURCES": "sources.registry",
    "Split": "task",
    "Task": "task",
    "TaskConfig": "config",
    "available": "sources.registry",
    "check_data": "checking",
    "check_images": "images",
    "check_labelled": "protocols.few_masks",
    "check_task": "task",
    "decode": "decoding",
    "describe": "task",
    "digits": "sources.digits",
    "few_labels": "protocols.few_masks",
    "from_arrays": "image_set",
    "gamma_name": "protocols.few_labels",
    "good_alone": "protocols.good_alone",
    "held_out_normals": "task",
    "labelled_one_class": "protocols.few_labels",
    "load": "sources.registry",
    "load_class_sets": "protocols.class_sets",
    "load_labelled": "protocols.few_masks",
    "load_task": "loading",
    "make_anomalies": "made_anomalies",
    "noise": "sources.noise",
    "official_split": "protocols.official_test",
    "one_class": "protocols.default",
    "out_of_distribution": "protocols.default",
    "painted": "sources.painted",
    "parts": "task",
    "read_images": "reading",
    "resize": "images",
    "segmentation": "protocols.given_parts",
    "source": "sources.registry",
    "table": "task",
    "take": "image_set",
    "task_from_arrays": "protocols.default",
    "textures": "sources.textures",
    "to_channels": "images",
    "to_dtype": "images",
    "with_known": "protocols.few_labels",
    "with_labelled": "protocols.few_labels",
}

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


__getattr__ = binder(__name__, _HOMES)


def __dir__() -> list[str]:
    return list(__all__)
