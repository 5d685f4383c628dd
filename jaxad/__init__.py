"""jaxad finds an image anomaly detector for your data: architecture search and anomaly detection in JAX.

Scores are raw float32 numbers, higher = more anomalous; images are [N, H, W, C], uint8 or float32 in [0, 1]; labels are
1 for anomalous. Every method is a value, a NamedTuple of pure functions over one state: see `jaxad.types`.

    import jaxad
    task = jaxad.load_task("textures:16")
    found = jaxad.search(task)
    scores = jaxad.score_images(found.detector, found.state, task.test.images)

Names are bound when they are first used (PEP 562), so that importing jaxad imports nothing else.
"""

from typing import TYPE_CHECKING

from jaxad._utils.lazy import binder
from jaxad._utils.threads import never_one
from jaxad._utils.version import VERSION as __version__

if TYPE_CHECKING:
    from jaxad.data.loading import load_task as load_task
    from jaxad.data.task import Split as Split
    from jaxad.data.task import Task as Task
    from jaxad.methods.registry import detectors as detectors
    from jaxad.metrics.thresholds import Threshold as Threshold
    from jaxad.nas.space import SearchSpace as SearchSpace
    from jaxad.nn.architecture import Architecture as Architecture
    from jaxad.nn.architecture import Layer as Layer
    from jaxad.runs.evaluation import Evaluation as Evaluation
    from jaxad.runs.evaluation import evaluate as evaluate
    from jaxad.runs.export import export as export
    from jaxad.runs.predictor import Predictions as Predictions
    from jaxad.runs.predictor import Predictor as Predictor
    from jaxad.runs.predictor import load as load
    from jaxad.runs.saving import LoadedDetector as LoadedDetector
    from jaxad.runs.saving import save as save
    from jaxad.runs.search import SearchResult as SearchResult
    from jaxad.runs.search import search as search
    from jaxad.runs.search_config import SearchConfig as SearchConfig
    from jaxad.training.calibration import calibrate as calibrate
    from jaxad.training.loop import fit as fit
    from jaxad.training.loop import fit_population as fit_population
    from jaxad.training.scoring import map_images as map_images
    from jaxad.training.scoring import score_images as score_images
    from jaxad.types import Batch as Batch
    from jaxad.types import Detector as Detector
    from jaxad.types import Network as Network
    from jaxad.types import Search as Search

# Where a public name is defined. (The imports above say the same to type checkers; a test compares them.)
_HOMES = {
    "Architecture": "nn.architecture",
    "Batch": "types",
    "Detector": "types",
    "Evaluation": "runs.evaluation",
    "Layer": "nn.architecture",
    "LoadedDetector": "runs.saving",
    "Network": "types",
    "Predictions": "runs.predictor",
    "Predictor": "runs.predictor",
    "Search": "types",
    "SearchConfig": "runs.search_config",
    "SearchResult": "runs.search",
    "SearchSpace": "nas.space",
    "Split": "data.task",
    "Task": "data.task",
    "Threshold": "metrics.thresholds",
    "calibrate": "training.calibration",
    "detectors": "methods.registry",
    "evaluate": "runs.evaluation",
    "export": "runs.export",
    "fit": "training.loop",
    "fit_population": "training.loop",
    "load": "runs.predictor",
    "load_task": "data.loading",
    "map_images": "training.scoring",
    "save": "runs.saving",
    "score_images": "training.scoring",
    "search": "runs.search",
}

__all__ = [
    "Architecture",
    "Batch",
    "Detector",
    "Evaluation",
    "Layer",
    "LoadedDetector",
    "Network",
    "Predictions",
    "Predictor",
    "Search",
    "SearchConfig",
    "SearchResult",
    "SearchSpace",
    "Split",
    "Task",
    "Threshold",
    "__version__",
    "calibrate",
    "detectors",
    "evaluate",
    "export",
    "fit",
    "fit_population",
    "load",
    "load_task",
    "map_images",
    "save",
    "score_images",
    "search",
]

never_one()

__getattr__ = binder(__name__, _HOMES)


def __dir__() -> list[str]:
    return list(__all__)
