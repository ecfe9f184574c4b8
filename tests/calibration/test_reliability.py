from pathlib import Path

import numpy as np
import pytest
from calibration.calibration_cases import unrelated_case
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax
from sklearn.calibration import calibration_curve

from music_zoo.calibration import (
    adaptive_calibration_error,
    classwise_calibration_error,
    expected_calibration_error,
    reliability_curve,
    reliability_mae,
    weighted_reliability_mae,
)

FIXTURE = Path(__file__).parents[1] / "parity" / "temperature.npz"

ERRORS = (
    adaptive_calibration_error,
    classwise_calibration_error,
    expected_calibration_error,
    reliability_mae,
    weighted_reliability_mae,
)


@pytest.mark.parametrize("when", ["before", "after"])
def test_ece_equals_the_reference(when):
    stored = np.load(FIXTURE)
    temperature = 1 if when == "before" else stored["temperature_reference"]
    probabilities = softmax(stored["logits"].astype(np.float64) / temperature, axis=1)
    ece = expected_calibration_error(probabilities, stored["labels"])
    assert ece == pytest.approx(float(stored[f"ece_{when}"]), abs=1e-6)


def test_the_curve_equals_scikit_learns():
    probabilities, targets = unrelated_case(0)
    curve = reliability_curve(probabilities, targets)
    one_hot = np.eye(5)[targets]
    accuracy, _ = calibration_curve(one_hot.ravel(), probabilities.ravel(), n_bins=10)
    np.testing.assert_allclose(curve.accuracy[curve.counts > 0], accuracy)
    np.testing.assert_allclose(curve.targets, [0.05, 0.15, 0.25, 0.35, 0.45, 0.55, 0.65, 0.75, 0.85, 0.95])
    assert curve.counts.sum() == probabilities.size


def test_mae_by_hand():
    # Two classes at 0.8 and 0.2, right three times of four: bucket (0.7, 0.8] holds 4 items, 0.75 of them
    # true, target 0.75; (0.1, 0.2] holds 4, 0.25 true, target 0.15. The other eight are empty.
    probabilities = np.tile([0.8, 0.2], (4, 1))
    curve = reliability_curve(probabilities, np.array([0, 0, 0, 1]))
    assert curve.counts.tolist() == [0, 4, 0, 0, 0, 0, 0, 4, 0, 0]
    assert curve.accuracy[[1, 7]].tolist() == [0.25, 0.75]
    assert np.isnan(curve.accuracy[[0, 2, 9]]).all()
    assert curve.mae == pytest.approx((0.1 + 0.0) / 2)


def test_weighted_mae_by_hand():
    # The winners: 0.8 four times, right three times; 0.6 twice, never right. Their buckets are (0.7, 0.8],
    # of share 4/6, off by |0.75 - 0.75|, and (0.5, 0.6], of share 2/6, off by |0 - 0.55|.
    probabilities = np.array([[0.8, 0.2]] * 4 + [[0.4, 0.6]] * 2)
    targets = np.array([0, 0, 0, 1, 0, 0])
    assert weighted_reliability_mae(probabilities, targets) == pytest.approx(0.55 * 2 / 6)
    curve = reliability_curve(probabilities, targets, decisions=True)
    assert curve.counts.tolist() == [0, 0, 0, 0, 0, 2, 0, 4, 0, 0]
    # Multi-label has no winners: three of 0.2, one true, off by |1/3 - 0.15|, and one of 0.9, off by 0.15.
    tags = np.array([[0.2, 0.2], [0.2, 0.9]])
    error = weighted_reliability_mae(tags, [[0, 1], [0, 1]], "multi_label")
    assert error == pytest.approx((3 * (1 / 3 - 0.15) + 0.15) / 4)


def test_adaptive_ece_by_hand():
    # Two bins of two winners: (0.6, 0.7), one right, off by |0.5 - 0.65|; (0.8, 0.9), both, off by 0.15.
    winner = np.array([0.9, 0.6, 0.8, 0.7])
    probabilities = np.stack([winner, 1 - winner], axis=1)
    assert adaptive_calibration_error(probabilities, [0, 0, 0, 1], n_bins=2) == pytest.approx(0.15)
    # Bins of equal width, (0.5, 1] the only one with winners: |0.75 - 0.75|.
    assert expected_calibration_error(probabilities, [0, 0, 0, 1], n_bins=2) == pytest.approx(0)


def test_adaptive_bins_keep_equal_probabilities_together():
    # Three of 0.6 and one of 0.9 into two bins: the three share one, two of them right.
    probabilities = np.array([[0.6, 0.4]] * 3 + [[0.9, 0.1]])
    error = adaptive_calibration_error(probabilities, [0, 0, 1, 0], n_bins=2)
    assert error == pytest.approx((3 * (2 / 3 - 0.6) + 0.1) / 4)


def test_adaptive_bins_hold_equally_many():
    probabilities, targets = unrelated_case(5, files=90)
    order = np.argsort(probabilities.max(axis=1))
    bins = [probabilities[part] for part in np.split(order, 15)]  # six winners each
    right = [(p.argmax(axis=1) == targets[part]) for p, part in zip(bins, np.split(order, 15), strict=True)]
    by_hand = np.mean([abs(r.mean() - p.max(axis=1).mean()) for r, p in zip(right, bins, strict=True)])
    assert adaptive_calibration_error(probabilities, targets) == pytest.approx(by_hand)


def test_classwise_ece_by_hand():
    # Class 0: four of 0.8, three true: 0.05. Class 1: four of 0.2, one true: 0.05. Class 2: never, 0.
    probabilities = np.tile([0.8, 0.2, 0.0], (4, 1))
    assert classwise_calibration_error(probabilities, [0, 0, 0, 1]) == pytest.approx(0.1 / 3)


def test_classwise_ece_is_the_mean_of_that_of_each_class():
    probabilities, targets = unrelated_case(6)
    of_each = []
    for index in range(5):
        accuracy, confidence = calibration_curve(targets == index, probabilities[:, index], n_bins=15)
        counts = np.histogram(probabilities[:, index], np.linspace(0, 1, 16))[0]
        of_each.append((counts[counts > 0] * np.abs(accuracy - confidence)).sum() / len(targets))
    assert classwise_calibration_error(probabilities, targets) == pytest.approx(np.mean(of_each))
    one_hot = np.eye(5)[targets]
    assert classwise_calibration_error(probabilities, one_hot, "multi_label") == pytest.approx(
        np.mean(of_each)
    )


def test_buckets_are_open_below_and_closed_above():
    edges = np.linspace(0, 1, 11)
    probabilities = np.stack([edges, 1 - edges], axis=1)
    curve = reliability_curve(probabilities[:, :1], np.zeros((11, 1)), "multi_label")
    assert curve.counts.tolist() == [2] + [1] * 9  # 0 and 0.1, then one edge each
    above = np.nextafter(edges[1:-1], 1)[:, None]
    assert reliability_curve(above, np.zeros((9, 1)), "multi_label").counts.tolist() == [0] + [1] * 9


@pytest.mark.parametrize("task", ["single_label", "multi_label"])
def test_calibrated_data_has_no_error(task):
    # Two classes whose probability is uniform: within a bucket, the bucket's middle is true.
    rng = np.random.default_rng(1)
    p = rng.uniform(size=200_000)
    true = (rng.uniform(size=p.size) < p).astype(int)
    probabilities = np.stack([1 - p, p], axis=1)
    targets = true if task == "single_label" else np.stack([1 - true, true], axis=1)
    for error in ERRORS:
        assert error(probabilities, targets, task) < 0.004
        assert error(probabilities[:, ::-1], targets, task) > 0.3


def test_overconfidence_is_measured_exactly():
    probabilities = np.tile([1.0, 0.0], (10, 1))
    targets = np.array([0] * 6 + [1] * 4)
    assert expected_calibration_error(probabilities, targets) == pytest.approx(0.4)
    assert reliability_mae(probabilities, targets) == pytest.approx((0.35 + 0.35) / 2)


def test_pooled_ece_is_that_of_single_items():
    rng = np.random.default_rng(2)
    p = rng.uniform(size=(50, 4))
    y = rng.integers(2, size=(50, 4))
    pooled = expected_calibration_error(p, y, "multi_label")
    bins = np.minimum(np.ceil(p.ravel() * 15) - 1, 14)
    by_hand = sum(
        (bins == b).mean() * abs(y.ravel()[bins == b].mean() - p.ravel()[bins == b].mean())
        for b in np.unique(bins)
    )
    assert pooled == pytest.approx(by_hand)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(seed=st.integers(0, 999))
def test_neither_the_order_of_files_nor_of_classes_matters(seed):
    probabilities, targets = unrelated_case(seed, files=40)
    rng = np.random.default_rng(seed)
    files, classes = rng.permutation(40), rng.permutation(5)
    shuffled = probabilities[files][:, classes], np.argsort(classes)[targets[files]]
    for measure in ERRORS:
        assert measure(*shuffled) == pytest.approx(measure(probabilities, targets), abs=1e-12)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(seed=st.integers(0, 999))
def test_errors_lie_between_zero_and_one(seed):
    probabilities, targets = unrelated_case(seed, files=7)
    for measure in ERRORS:
        assert 0 <= measure(probabilities, targets) <= 1


@pytest.mark.parametrize(
    ("probabilities", "message"),
    [
        ([[0.5, np.nan]], "finite"),
        ([[2.0, -1.0]], "Are they logits"),
        ([[0.9, 0.9]], "sum to 1"),
        (np.zeros((0, 2)), "shape"),
        ([0.5, 0.5], "shape"),
    ],
)
def test_no_probabilities_are_refused(probabilities, message):
    with pytest.raises(ValueError, match=message):
        reliability_curve(probabilities, [0])


def test_float16_softmax_is_accepted():
    probabilities, targets = unrelated_case(3)
    assert reliability_mae(probabilities.astype(np.float16), targets) == pytest.approx(
        reliability_mae(probabilities, targets), abs=0.02
    )


def test_no_buckets_are_refused():
    with pytest.raises(ValueError, match="at least 1"):
        reliability_curve([[0.5, 0.5]], [0], n_buckets=0)
    with pytest.raises(ValueError, match="at least 1"):
        adaptive_calibration_error([[0.5, 0.5]], [0], n_bins=0)
