"""A stream is said not to fit calibration where it does not, at the level that is stated, in memory that stays."""

import numpy as np
import pytest
from scipy import stats

from jaxad.metrics import drift
from jaxad.metrics.drift import BLOCK, Counts, DriftMonitor, counts, distance_p_value, flagged_p_value
from jaxad.metrics.thresholds import Threshold, false_positive_rate, fixed


def calibrated(rng, n=200, target=0.05):
    scores = rng.normal(size=n)
    return scores, false_positive_rate(scores, target)


def test_p_values_are_those_of_other_tests(rng):
    """Beta-binomial for a threshold that is a score of calibration, binomial where the rate is all but known."""
    calibration, threshold = calibrated(rng, 60)
    for shift in (-2.0, 0.0, 1.5):
        stream = rng.normal(size=90) + shift
        found, known = counts(stream, threshold.value), counts(calibration, threshold.value)
        law = stats.betabinom(90, known.above + 1, 60 - known.above)
        expected = min(1, 2 * min(law.sf(found.above - 1), law.cdf(found.above)))
        assert flagged_p_value(found, known) == pytest.approx(expected, rel=1e-6)
    large = 10**8
    for flagged in (0, 3, 12, 40):
        tails = [stats.binomtest(flagged, 200, 0.05, alternative=side).pvalue for side in ("greater", "less")]
        found = flagged_p_value(Counts(200, flagged, flagged), Counts(large, large // 20, large // 20))
        assert found == pytest.approx(min(1, 2 * min(tails)), rel=1e-3)


def test_the_distance_is_that_between_empirical_distributions(rng):
    stream, calibration = rng.normal(size=70) + 0.5, rng.normal(size=50)
    places = np.concatenate([stream, calibration])
    shares = [(scores[None] <= places[:, None]).mean(1) for scores in (stream, calibration)]
    distance, p = distance_p_value(stream, calibration)
    assert distance == pytest.approx(np.abs(shares[0] - shares[1]).max())
    assert p == pytest.approx(stats.ks_2samp(stream, calibration, method="exact").pvalue)


def test_the_level_holds_where_a_binomial_test_does_not(rng):
    """Calibration has 40 images, and so misses its target by chance; a stream of 400 would show it."""
    ours, binomial = [], []
    for _ in range(250):
        calibration, threshold = calibrated(rng, 40, target=0.1)
        stream = rng.normal(size=400)
        found = counts(stream, threshold.value)
        ours.append(flagged_p_value(found, counts(calibration, threshold.value)))
        tails = (stats.binom.sf(found.above - 1, 400, 0.1), stats.binom.cdf(found.above, 400, 0.1))
        binomial.append(2 * min(tails))
    for level in (0.05, 0.2):
        spread = 3 * np.sqrt(level * (1 - level) / 250)
        assert np.mean(np.array(ours) <= level) < level + spread
        assert np.mean(np.array(binomial) <= level) > 2 * level + spread


def test_equal_scores_are_no_misfit():
    """None is above the threshold, which is not fewer than in calibration."""
    monitor = DriftMonitor(np.ones(100), false_positive_rate(np.ones(100), 0.05))
    monitor.add(np.ones(500))
    assert monitor.state().fits
    assert flagged_p_value(counts(np.ones(500), 1.0), counts(np.ones(100), 1.0)) == 1.0


def test_a_stream_that_changes_is_found_and_one_that_stays_is_not(rng):
    calibration, threshold = calibrated(rng)
    monitor = DriftMonitor(calibration, threshold)
    assert all(look.fits for look in monitor.add(rng.normal(size=3000)))
    before = monitor.state()
    assert before.fits
    assert abs(before.flagged - 0.05) < 0.03
    looks = monitor.add(rng.normal(size=2 * BLOCK) + 1)
    assert not looks[-1].fits
    after = monitor.state()
    assert (after.fits, after.misfit) == (False, next(look for look in looks if not look.fits))
    assert "scores no longer fit those of calibration" in drift.said(after.misfit, after)
    assert monitor.add(rng.normal(size=2 * BLOCK))[-1].fits  # the latest do again
    assert not monitor.state().fits  # but the stream did not


def test_fewer_and_wider_scores_are_found_too(rng):
    calibration, threshold = calibrated(rng, 500)
    lower, wider = DriftMonitor(calibration, threshold), DriftMonitor(calibration, fixed(100.0))
    (look,) = lower.add(rng.normal(size=64) - 3)
    assert not look.fits
    look = wider.add(4 * rng.normal(size=256))[-1]
    assert look.flagged_p == 1.0
    assert not look.fits


def test_questions_come_at_doubled_counts_and_then_evenly_at_falling_levels(rng):
    calibration, threshold = calibrated(rng)
    scores = rng.normal(size=3 * BLOCK + 40)
    at_once, one_by_one = (DriftMonitor(calibration, threshold, level=0.1) for _ in range(2))
    looks = at_once.add(scores)
    assert [look.images for look in looks] == [64, 128, 256, 512, 1024, 1024, 1024]
    assert [look.level for look in looks] == pytest.approx([0.05 / (j * (j + 1)) for j in range(1, 8)])
    assert 2 * sum(look.level for look in looks) < 0.1
    last = at_once.finish()
    assert last.images == 40
    assert at_once.finish() is None  # it has been asked about
    for score in scores:
        one_by_one.add([score])
    one_by_one.finish()
    assert one_by_one.state() == at_once.state()
    recent = scores[-40:]
    assert last.distance == pytest.approx(stats.ks_2samp(recent, calibration).statistic)


def test_few_scores_are_not_asked_about(rng):
    calibration, threshold = calibrated(rng)
    monitor = DriftMonitor(calibration, threshold)
    assert monitor.add(rng.normal(size=drift.LEAST - 1)) == []
    assert monitor.finish() is None
    assert monitor.state().fits is None


def test_memory_stays_and_quantiles_are_those_of_the_stream(rng):
    calibration, threshold = calibrated(rng)
    monitor = DriftMonitor(calibration, threshold)
    stream = np.exp(rng.normal(size=30_000))
    monitor.add(stream[:3000])
    for name, (of_calibration, of_stream) in monitor.state().quantiles.items():  # exact while all are kept
        assert of_calibration == np.quantile(calibration, float(name), method="inverted_cdf")
        assert of_stream == np.quantile(stream[:3000], float(name), method="inverted_cdf")
    monitor.add(stream[3000:])
    assert len(monitor._sample) == drift.SAMPLED
    assert len(monitor._recent) < BLOCK
    for name, (_, value) in monitor.state().quantiles.items():
        assert (stream <= value).mean() == pytest.approx(float(name), abs=0.03)


def test_without_scores_of_calibration_the_share_alone_is_tested(rng):
    calibration, threshold = calibrated(rng)
    alone, both = DriftMonitor(None, threshold), DriftMonitor(calibration, threshold)
    stream = rng.normal(size=64) + 1
    (one,), (other,) = alone.add(stream), both.add(stream)
    assert one.flagged_p == other.flagged_p
    assert (one.distance, one.distance_p) == (None, None)
    assert alone.state().calibration_flagged == both.state().calibration_flagged
    (unflagged,) = DriftMonitor(calibration).add(stream)
    assert unflagged.flagged_p is None
    assert unflagged.distance_p == other.distance_p


def test_bad_input_is_refused_in_one_line(rng):
    calibration, threshold = calibrated(rng)
    with pytest.raises(ValueError, match=r"level is 1\.0; give"):
        DriftMonitor(calibration, threshold, level=1.0)
    for known in (None, fixed(1.0), Threshold(1.0, "f1", 10, {})):
        with pytest.raises(ValueError, match="nothing to compare a stream with"):
            DriftMonitor(None, known)
    with pytest.raises(ValueError, match="1 of 2 scores are NaN"):
        DriftMonitor(calibration, threshold).add([1.0, np.nan])


@pytest.mark.slow
def test_the_level_holds_for_whole_streams_and_would_not_if_every_question_had_it(rng):
    """Each stream with a calibration of its own: 400 times six questions."""
    level, said, uncorrected = 0.2, 0, 0
    for _ in range(400):
        calibration, threshold = calibrated(rng, 100)
        monitor = DriftMonitor(calibration, threshold, level=level)
        looks = monitor.add(rng.normal(size=2 * BLOCK))
        said += not monitor.state().fits
        uncorrected += any(min(look.flagged_p, look.distance_p) <= level for look in looks)
    spread = 3 * np.sqrt(level * (1 - level) / 400)
    assert said / 400 < level + spread
    assert uncorrected / 400 > 2 * level
