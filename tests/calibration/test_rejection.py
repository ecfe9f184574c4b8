import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from music_zoo.calibration.rejection import STARTS, THRESHOLDS, reject_threshold, risk_coverage_curve


def two_classes(confidence, wrong):
    """Probabilities of two classes, all for the first, and targets."""
    confidence = np.asarray(confidence, dtype=float)
    return np.stack([confidence, 1 - confidence], axis=1), np.asarray(wrong).astype(int)


def draw(rng, files, accuracy):
    """Files of uniform confidence; `accuracy` says what share of those of some confidence is right."""
    confidence = rng.uniform(0.5, 1, size=files)
    return confidence, rng.uniform(size=files) >= accuracy(confidence)


def test_curve_by_hand():
    curve = risk_coverage_curve(*two_classes([0.7, 0.9, 0.6, 0.8], [0, 0, 1, 1]))
    assert curve.min_confidence.tolist() == [0.9, 0.8, 0.7, 0.6]
    assert curve.coverage.tolist() == [0.25, 0.5, 0.75, 1]
    np.testing.assert_allclose(curve.risk, [0, 1 / 2, 1 / 3, 1 / 2])
    assert curve.area == pytest.approx((0 + 1 / 2 + 1 / 3 + 1 / 2) / 4)


@pytest.mark.parametrize("errors", [0, 1, 7, 20])
def test_area_of_the_best_and_the_worst_order(errors):
    confidence = np.linspace(0.95, 0.55, 20)
    last = np.arange(20) >= 20 - errors
    best = sum((k - (20 - errors)) / k for k in range(20 - errors + 1, 21)) / 20
    worst = sum(min(k, errors) / k for k in range(1, 21)) / 20
    for wrong, area in ((last, best), (last[::-1], worst)):
        curve = risk_coverage_curve(*two_classes(confidence, wrong))
        assert curve.area == pytest.approx(area)
        assert curve.best_area == pytest.approx(best)


def test_equally_confident_files_count_as_the_mean_over_their_orders():
    confidence, wrong = np.array([0.9, 0.8, 0.8, 0.8, 0.6]), np.array([0, 1, 0, 1, 1])
    orders = [wrong[[0, *middle, 4]] for middle in itertools.permutations([1, 2, 3])]
    risks = np.mean([order.cumsum() / np.arange(1, 6) for order in orders], axis=0)
    np.testing.assert_allclose(risk_coverage_curve(*two_classes(confidence, wrong)).risk, risks)


def test_an_error_of_several_labels_is_a_most_probable_one_that_is_not_true():
    probabilities = [[0.9, 0.8, 0.1], [0.2, 0.6, 0.7], [0.5, 0.1, 0.3]]
    curve = risk_coverage_curve(probabilities, [[1, 0, 0], [1, 1, 0], [1, 1, 1]], "multi_label")
    assert curve.min_confidence.tolist() == [0.9, 0.7, 0.5]
    np.testing.assert_allclose(curve.risk, [0, 1 / 2, 1 / 3])


def test_as_many_files_without_error_as_the_binomial_tail_asks_for():
    # All files have one confidence, so that no start hands anything on before they are accepted, and each
    # start below asks the same again: 0.9 ** files must be at most 0.05 / 8.
    assert 0.9**49 <= 0.05 / 8 < 0.9**48
    found = reject_threshold(*two_classes(np.full(49, 0.75), np.zeros(49)), max_error=0.1)
    assert (found.min_confidence, found.coverage, found.error, found.files) == (0.0, 1, 0, 49)
    with pytest.raises(ValueError, match="No threshold"):
        reject_threshold(*two_classes(np.full(48, 0.75), np.zeros(48)), max_error=0.1)
    with pytest.raises(ValueError, match=r"errors under 0.1 .* 0.95: of 20 held-out files, 0.0%"):
        reject_threshold(*two_classes(np.full(20, 0.75), np.zeros(20)), max_error=0.1)


def test_a_file_as_confident_as_the_threshold_is_accepted():
    confidence = np.repeat([0.9, 0.6], 500)
    found = reject_threshold(*two_classes(confidence, confidence == 0.6), max_error=0.1)
    assert (found.min_confidence, found.coverage, found.error) == (0.61, 0.5, 0)
    assert (found.max_error, found.delta) == (0.1, 0.05)


@pytest.mark.parametrize("seed", range(5))
def test_equals_the_procedure_with_scipys_exact_intervals(seed):
    rng = np.random.default_rng(seed)
    confidence, wrong = draw(rng, 700, lambda c: c)
    level, passed = 0.0, []
    for threshold in sorted(THRESHOLDS, reverse=True):
        level += 0.1 / 8 if threshold in STARTS else 0
        among = wrong[confidence >= threshold]
        if not among.size or level == 0:
            level = 0
            continue
        interval = binomtest(int(among.sum()), among.size).proportion_ci(1 - 2 * level, "exact")
        if interval.high <= 0.2:
            passed.append((threshold, among.size / 700, among.mean()))
        else:
            level = 0
    found = reject_threshold(*two_classes(confidence, wrong), max_error=0.2, delta=0.1)
    assert (found.min_confidence, found.coverage, found.error) == pytest.approx(passed[-1])


# Errors are as probable as the confidence says, much more so, or the more probable the more confident.
ACCURACIES = {
    "calibrated": lambda c: c,
    "overconfident": lambda c: c**3,
    "useless": lambda c: np.full_like(c, 0.7),
    "inverted": lambda c: 1.5 - c,
}


@pytest.mark.parametrize("kind", ACCURACIES)
def test_the_target_is_met_in_95_of_100_resamplings(kind):
    rng = np.random.default_rng(0)
    grid = np.linspace(0.5, 1, 10_001)
    missed, missed_naively, abstained = 0, 0, 0
    for _ in range(100):
        confidence, wrong = draw(rng, 2000, ACCURACIES[kind])
        try:
            threshold = reject_threshold(*two_classes(confidence, wrong), max_error=0.2).min_confidence
            missed += ACCURACIES[kind](grid[grid >= threshold]).mean() < 0.8
        except ValueError:
            abstained += 1
        curve = risk_coverage_curve(*two_classes(confidence, wrong))
        naive = curve.min_confidence[curve.risk <= 0.2].min(initial=1)
        missed_naively += ACCURACIES[kind](grid[grid >= naive]).mean() < 0.8
    assert missed <= 5
    if kind in ("calibrated", "overconfident"):
        assert abstained <= 5  # it is met, not evaded
        assert missed_naively >= 20  # without the guarantee, it is not
    else:
        assert abstained >= 95  # no threshold would do


def test_with_many_files_the_threshold_nears_the_best_one():
    confidence, wrong = draw(np.random.default_rng(0), 50_000, lambda c: c)
    found = reject_threshold(*two_classes(confidence, wrong), max_error=0.1)
    assert found.min_confidence == pytest.approx(0.8, abs=0.021)  # from c on, the mean error is (1 - c) / 2
    assert found.coverage == pytest.approx(2 * (1 - found.min_confidence), abs=0.01)
    assert found.error == pytest.approx((1 - found.min_confidence) / 2, abs=0.005)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(seed=st.integers(0, 999), strict=st.floats(0.05, 0.5), more=st.floats(0, 0.4))
def test_a_stricter_target_accepts_no_more(seed, strict, more):
    case = two_classes(*draw(np.random.default_rng(seed), 150, lambda c: c))

    def threshold(*goal):
        try:
            return reject_threshold(*case, *goal).min_confidence
        except ValueError:
            return 2.0

    assert threshold(strict) >= threshold(strict + more)
    assert threshold(0.3, 0.2 * strict) >= threshold(0.3, 0.2 * (strict + more))


@pytest.mark.parametrize("bad", [0, 1, -0.1, float("nan")])
def test_impossible_goals_are_refused(bad):
    with pytest.raises(ValueError, match="`max_error` must lie between 0 and 1"):
        reject_threshold([[0.9, 0.1]], [0], bad)
    with pytest.raises(ValueError, match="`delta` must lie between 0 and 1"):
        reject_threshold([[0.9, 0.1]], [0], 0.3, bad)


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="Are they logits"):
        risk_coverage_curve([[3.0, -2.0]], [0])
    with pytest.raises(ValueError, match=r"must lie in 0\.\.1"):
        reject_threshold([[0.9, 0.1]], [2], 0.3)
