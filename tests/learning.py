"""Whether training makes a detector better: its AUROC before and after, over seeds, on one digit against the others."""

import jax
import numpy as np

from jaxad.data import digits
from jaxad.metrics.image import auroc
from jaxad.training.calibration import calibrate
from jaxad.training.loop import fit
from jaxad.training.scoring import score_images

IMAGES, LABELS = digits().images, digits().labels


class OneClass:
    """One digit is normal: 120 images to train on, the others of it and 120 of other digits to test."""

    def __init__(self, digit):
        normal = IMAGES[digit == LABELS]
        self.train = normal[:120]
        self.test = np.concatenate([normal[120:], IMAGES[digit != LABELS][:120]])
        self.labels = np.repeat([0, 1], [len(normal) - 120, 120])

    def value(self, detector, state):
        return float(auroc(score_images(detector, state, self.test, 64), self.labels))


def before_and_after(detector, task, *, steps, batch_size=32, seeds=3, train_labels=None):
    """AUROC [seeds] of the calibrated detector, untrained and trained."""
    values = []
    for seed in range(seeds):
        options = {"batch_size": batch_size, "chunk": 50, "labels": train_labels}
        states = [fit(detector, jax.random.key(seed), task.train, steps=n, **options)[0] for n in (0, steps)]
        # As users do: images are stored as bytes, of which a detector sees numbers from 0 to 1.
        values.append([task.value(detector, calibrate(detector, state, task.train)) for state in states])
    return tuple(np.array(values).T)


def assert_learns(untrained, trained):
    """Every trained seed beats chance and every untrained one, and the means differ by more than seeds do."""
    print(f"untrained {untrained}, trained {trained}")
    assert trained.min() > max(0.5, untrained.max())
    assert trained.mean() - untrained.mean() > max(np.ptp(trained), np.ptp(untrained))
