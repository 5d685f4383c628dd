"""Whether a stream of scores still fits the scores that its threshold was set on: a threshold is a promise about those.

Two tests of SciPy compare the latest scores with the n of calibration: Fisher's exact test of the share above the
threshold, and the Kolmogorov-Smirnov test of the scores themselves. Neither takes the rate of false alarms for known,
as a binomial test against the target rate would: a threshold set on n images misses its target by chance, more so the
fewer they are, and that test would blame the stream for it. Fisher's is what the binomial test becomes then: of images
like those of calibration, the number above an order statistic of theirs is beta-binomial, whose tail is Fisher's, and
with n it becomes binomial.

A stream is asked about again and again: after 64, 128, 256, 512 and 1,024 scores, each time about all of them, and from
then on about every further 1,024. Question j has the level / (j (j + 1)), half of it for each test, so that all
questions together, however many, are wrong with the probability `level` at most (Bonferroni; Dunn, 1961). What is kept
does not grow with the stream: the latest scores, up to 1,024, and a sample of all (Vitter's algorithm R, 1985).
Runs on the host.
"""

import threading
from typing import Any, NamedTuple

import numpy as np

from jaxad.metrics.thresholds import Threshold

FIRST, BLOCK = 64, 1024  # scores that the first question is about, and that all from the fifth on are about
LEAST = 32  # scores that the last question of a stream needs
SAMPLED = 4096  # scores of which quantiles are taken; of a shorter stream all
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


class Look(NamedTuple):
    """One question: do the latest scores fit those of calibration?"""

    images: int  # that it is about, the latest of the stream
    flagged: int  # of them, above the threshold
    flagged_p: float | None  # of Fisher's exact test, two-sided; None without a threshold
    distance: float | None  # of Kolmogorov and Smirnov, between 0 and 1; None where calibration scores are not known
    distance_p: float | None
    level: float  # of each test
    fits: bool


class Drift(NamedTuple):
    """What is known of a stream so far."""

    images: int
    flagged: float | None  # share of all images above the threshold; None without one
    calibration: int  # normal images that the threshold was set on
    calibration_flagged: float | None  # share of them above the threshold
    quantiles: dict[str, list[float | None]]  # {"0.5": [of calibration, of the stream]}; None where not known
    level: float  # the probability that a stream like calibration is ever said not to fit, at most
    looks: int  # questions so far
    fits: bool | None  # False from the first question on that says no; None where none was asked
    misfit: Look | None  # the first that said no


class Counts(NamedTuple):
    """How many of some scores are above a threshold."""

    scores: int
    above: int
    at_least: int  # with those that are equal to it


def counts(scores: np.ndarray, threshold: float) -> Counts:
    """How many of scores [n] are above a threshold."""
    return Counts(len(scores), int((scores > threshold).sum()), int((scores >= threshold).sum()))


def flagged_p_value(stream: Counts, calibration: Counts) -> float:
    """The probability that images like those of calibration differ so much in the share above the threshold.

    Twice the smaller of two tails of Fisher's exact test: of more scores above it, and of fewer that reach it. So the
    level holds for a threshold that was given, for one that is a score of calibration, and for scores that are equal.
    """
    from scipy.stats import fisher_exact  # takes a second to import, which a few images need not wait for

    def tail(name: str, alternative: str) -> float:
        table = [[getattr(each, name), each.scores - getattr(each, name)] for each in (stream, calibration)]
        return float(fisher_exact(table, alternative=alternative).pvalue)

    return min(1.0, 2 * min(tail("above", "greater"), tail("at_least", "less")))


def distance_p_value(stream: np.ndarray, calibration: np.ndarray) -> tuple[float, float]:
    """Kolmogorov-Smirnov distance of two samples of scores, and its probability for samples of one distribution."""
    from scipy.stats import ks_2samp

    found = ks_2samp(stream, calibration)  # exact up to 10,000 scores each
    return float(found.statistic), float(found.pvalue)


class DriftMonitor:
    """Compares a stream of scores with those of calibration as they come; may be given some by several threads.

    Args:
      calibration: [n] scores of the normal images that the threshold was set on, where they are known. Without them
        the share of flagged images alone is tested.
      threshold: above which an image is flagged. Without one the scores alone are tested.
      level: the probability that a stream of images like those of calibration is ever said not to fit, at most.

    Raises:
      ValueError: neither calibration scores nor a threshold that says how many were above it, a level outside (0, 1).
    """

    def __init__(
        self, calibration: np.ndarray | None, threshold: Threshold | None = None, *, level: float = 0.01
    ) -> None:
        if not 0 < level < 1:
            raise ValueError(f"level is {level}; give a probability between 0 and 1, such as 0.01")
        if calibration is None and (threshold is None or threshold.method != "false_positive_rate"):
            raise ValueError(
                "there is nothing to compare a stream with: neither scores of calibration nor a threshold that was set "
                "on some; set the threshold on new normal images"
            )
        self._calibration = None if calibration is None else np.sort(np.asarray(calibration, np.float64))
        self._threshold, self._level = threshold, level
        self._expected = self._counts_of_calibration()
        self._lock, self._random = threading.Lock(), np.random.default_rng(0)
        self._recent, self._until = np.empty(0), FIRST
        self._sample, self._seen, self._flagged = np.empty(0), 0, 0
        self._looks, self._asked, self._misfit = 0, 0, None

    def add(self, scores: np.ndarray) -> list[Look]:
        """Take note of scores [k], in their order; returns the questions that they were enough for."""
        rest, looks = np.asarray(scores, np.float64).reshape(-1), []
        if np.isnan(rest).any():
            raise ValueError(f"{np.isnan(rest).sum()} of {len(rest)} scores are NaN: leave those images out")
        with self._lock:
            while len(rest):
                room = self._until - len(self._recent)
                taken, rest = rest[:room], rest[room:]
                self._remember(taken)
                self._recent = np.concatenate([self._recent, taken])
                if len(self._recent) == self._until:
                    looks.append(self._look())
                    if self._until == BLOCK:
                        self._recent, self._asked = np.empty(0), 0
                    self._until = min(2 * self._until, BLOCK)
        return looks

    def finish(self) -> Look | None:
        """Ask about the latest scores, at the end of a stream; None where they are few or have been asked about."""
        with self._lock:
            if len(self._recent) < LEAST or len(self._recent) == self._asked:
                return None
            return self._look()

    def state(self) -> Drift:
        """What is known so far."""
        with self._lock:
            known, share = self._expected, None if self._threshold is None else self._flagged / max(self._seen, 1)
            return Drift(
                images=self._seen,
                flagged=share,
                calibration=known.scores,
                calibration_flagged=None if self._threshold is None else known.above / known.scores,
                quantiles={f"{q:g}": [_quantile(self._calibration, q), _quantile(self._sample, q)] for q in QUANTILES},
                level=self._level,
                looks=self._looks,
                fits=None if not self._looks else self._misfit is None,
                misfit=self._misfit,
            )

    def _counts_of_calibration(self) -> Counts:
        if self._calibration is None:  # the threshold is a score of calibration, and says how many are above it
            above = round(self._threshold.details["observed"] * self._threshold.n)
            return Counts(self._threshold.n, above, above + 1)
        return counts(self._calibration, np.inf if self._threshold is None else self._threshold.value)

    def _look(self) -> Look:
        self._looks, self._asked = self._looks + 1, len(self._recent)
        level = self._level / (self._looks * (self._looks + 1)) / 2
        flagged, flagged_p, distance, distance_p = 0, None, None, None
        if self._threshold is not None:
            found = counts(self._recent, self._threshold.value)
            flagged, flagged_p = found.above, flagged_p_value(found, self._expected)
        if self._calibration is not None:
            distance, distance_p = distance_p_value(self._recent, self._calibration)
        fits = all(p is None or p > level for p in (flagged_p, distance_p))
        look = Look(len(self._recent), flagged, flagged_p, distance, distance_p, level, fits)
        self._misfit = self._misfit or (None if fits else look)
        return look

    def _remember(self, scores: np.ndarray) -> None:
        """Count scores, and let each replace one of the sample so that the sample is a uniform one of all."""
        if self._threshold is not None:
            self._flagged += int((scores > self._threshold.value).sum())
        room = SAMPLED - len(self._sample)
        self._sample = np.concatenate([self._sample, scores[:room]])
        for number, score in enumerate(scores[room:], start=self._seen + min(room, len(scores))):
            place = self._random.integers(number + 1)
            if place < SAMPLED:
                self._sample[place] = score
        self._seen += len(scores)


def _quantile(scores: np.ndarray | None, share: float) -> float | None:
    """A score, so that infinite ones have no influence on others."""
    if scores is None or not len(scores):
        return None
    return float(np.quantile(scores, share, method="inverted_cdf"))


def said(look: Look, drift: Drift) -> str:
    """A misfit in a sentence, with what to do."""
    parts = []
    if look.flagged_p is not None:
        parts.append(
            f"{look.flagged / look.images:.1%} of the latest {look.images:,} images are flagged, and "
            f"{drift.calibration_flagged:.1%} of {drift.calibration:,} were in calibration (p = {look.flagged_p:.1g})"
        )
    if look.distance_p is not None:
        parts.append(
            f"the distance of their scores is {look.distance:.2f} (Kolmogorov-Smirnov, p = {look.distance_p:.1g})"
        )
    return (
        f"scores no longer fit those of calibration: {'; '.join(parts)}; level {drift.level:g} for the whole stream. "
        "Either many images are anomalous, or images have changed: look at some, then set the threshold on new normal "
        "images, or train again"
    )


def facts(drift: Drift) -> dict[str, Any]:
    """What is known of a stream as plain data."""
    return drift._asdict() | {"misfit": None if drift.misfit is None else drift.misfit._asdict()}
