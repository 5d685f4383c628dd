"""Detectors to be exported, and what every artefact must be: used by more than one test file."""

import functools

import jax
import numpy as np

from jaxad._utils.compile import kernel_options
from jaxad.data import digits
from jaxad.methods import DETECTORS
from jaxad.methods.autoencoder import AutoencoderConfig
from jaxad.methods.common.patch_features import FeatureConfig
from jaxad.metrics import thresholds
from jaxad.nas.space import SearchSpace
from jaxad.runs.export import export
from jaxad.runs.export_formats import FORMATS
from jaxad.runs.export_parity import TOLERANCE
from jaxad.runs.export_program import make_program
from jaxad.runs.saving import ImageShape, LoadedDetector
from jaxad.training.scoring import map_images, score_images

IMAGES = digits().images
HELD_OUT = np.concatenate([IMAGES[200:206], np.random.default_rng(0).integers(0, 256, (3, 8, 8, 1), np.uint8)])
PAPER = SearchSpace(num_layers=2, channels=(4, 8))
FEATURES = SearchSpace.features(inputs=("shallow", "both"), channels=(4, 8))


@functools.cache
def fitted(config):
    """A detector that has seen a few images, with a threshold that is no image's score."""
    (name,) = (name for name, entry in DETECTORS.items() if entry.config is type(config))
    detector = DETECTORS[name].build(config)
    state = jax.jit(detector.init)(jax.random.key(0), IMAGES[:32] / np.float32(255))
    low, high = np.sort(score_images(detector, state, HELD_OUT))[4:6]
    return LoadedDetector(name, config, detector, state, ImageShape(8, 8, 1), thresholds.fixed((low + high) / 2), {})


def child(space, seed):
    """The settings of a random architecture."""
    tokens = np.asarray(space.sample(jax.random.key(seed), 1))[0]
    architecture = space.to_architecture(tokens)
    features = None if architecture.input == "pixels" else FeatureConfig(backbone="random", width=4)
    return AutoencoderConfig(architecture=architecture, features=features)


def child_agrees(loaded, folder, form):
    """As `agrees`; no artefact is written of a fresh child whose scores or maps XLA itself does not repeat."""
    refused = ""
    try:
        agrees(loaded, folder, form)
    except ValueError as error:
        refused = str(error)
    if refused:
        program, apart = make_program(loaded, HELD_OUT.shape[1:]).__call__, []
        for options in (None, kernel_options()):  # all in one program, by the two kinds of kernels that XLA has
            again = jax.jit(program, compiler_options=options)(HELD_OUT)
            for function, found in zip((score_images, map_images), again, strict=False):
                wanted = function(loaded.detector, loaded.state, HELD_OUT)
                apart.append(np.abs(found - wanted).max() / np.ptp(wanted))
        assert "differ by" in refused
        assert max(apart) > TOLERANCE / 2, refused


def agrees(loaded, folder, form, images=HELD_OUT):
    """Export, and compare what is on disk with the detector, once more and by hand."""
    (made,) = export(loaded, folder, images, formats=[form])
    assert made.path is not None, made.reason
    assert made.parity.problem == ""
    found = FORMATS[form].load(made.path.read_bytes())(images[:1] if made.batch == "1" else images)
    scores = score_images(loaded.detector, loaded.state, images)[: len(found[0])]
    np.testing.assert_allclose(found[0], scores, rtol=0, atol=1e-5 * np.ptp(scores) if len(scores) > 1 else 1e-3)
    return made
