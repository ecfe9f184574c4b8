import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, softmax
from scipy.stats import beta, kstest

from music_zoo.calibration.conformal import conformal_threshold, label_sets


def first_is_true(probability):
    """Probabilities of two classes, of which the first is true, and targets."""
    probability = np.asarray(probability, dtype=float)
    return np.stack([probability, 1 - probability], axis=1), np.zeros(len(probability), int)


def random_case(seed, files=200, classes=5):
    rng = np.random.default_rng(seed)
    logits = 2 * rng.normal(size=(files, classes))
    targets = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)  # calibrated: drawn from the softmax
    return softmax(logits, axis=1), targets


def random_tags(seed, files=200, classes=6):
    rng = np.random.default_rng(seed)
    probabilities = expit(2 * rng.normal(size=(files, classes)) - 1)
    return probabilities, (rng.uniform(size=(files, classes)) < probabilities).astype(int)


@pytest.mark.parametrize(
    ("files", "coverage", "threshold"),
    [
        (9, 0.9, 0.1),  # rank ceil(10 * 0.9) = 9 of 9 scores
        (9, 0.8, 0.2),
        (9, 0.81, 0.1),
        (9, 0.5, 0.5),
        (8, 0.9, 0.0),  # rank 9 of 8: nothing may be left out
        (1, 0.5, 0.1),
    ],
)
def test_threshold_by_hand(files, coverage, threshold):
    case = first_is_true(np.arange(1, files + 1) / 10)
    assert conformal_threshold(*case, coverage) == pytest.approx(threshold)


@pytest.mark.parametrize("coverage", [0.5, 0.8, 0.9, 0.95])
@pytest.mark.parametrize("seed", range(3))
def test_threshold_is_the_finite_sample_quantile(seed, coverage):
    probabilities, targets = random_case(seed)
    scores = 1 - probabilities[np.arange(200), targets]
    quantile = np.quantile(scores, math.ceil(201 * coverage) / 200, method="inverted_cdf")
    assert conformal_threshold(probabilities, targets, coverage) == pytest.approx(1 - quantile)


def test_label_sets_by_hand():
    probabilities = [[0.5, 0.2, 0.3], [0.1, 0.9, 0.0], [0.35, 0.33, 0.32]]
    assert label_sets(probabilities, 0.3).tolist() == [
        [True, False, True],
        [False, True, False],
        [True, True, True],
    ]
    assert not label_sets(probabilities, 0.4)[2].any()
    # More probable labels hold 0, 0.8 and 0.5 of the first file, 0.9, 0 and 1 of the second.
    assert label_sets(probabilities, 0.45, "aps").tolist() == [
        [True, False, True],
        [False, True, False],
        [True, True, False],
    ]


def test_coverage_has_the_distribution_that_theory_gives():
    # The probability of the true label is uniform, so that a threshold t covers 1 - t of all files.
    rng = np.random.default_rng(0)
    files, coverage = 50, 0.9
    rank = math.ceil((files + 1) * coverage)
    covered = [1 - conformal_threshold(*first_is_true(rng.uniform(size=files))) for _ in range(400)]
    assert kstest(covered, beta(rank, files + 1 - rank).cdf).pvalue > 0.01
    off_by_one = kstest(covered, beta(rank - 1, files + 2 - rank).cdf).pvalue
    assert off_by_one < 1e-6


@pytest.mark.parametrize("sharpness", [0.3, 1, 5])
@pytest.mark.parametrize("method", ["lac", "aps"])
def test_calibrated_or_not_new_files_are_covered_as_often_as_asked(method, sharpness):
    files, new, coverage = 99, 400, 0.85
    probabilities, targets = random_case(1, files=100 * (files + new))
    probabilities = softmax(sharpness * np.log(probabilities), axis=1)
    covered = []
    for part in np.split(np.arange(len(targets)), 100):
        held_out, later = part[:files], part[files:]
        threshold = conformal_threshold(probabilities[held_out], targets[held_out], coverage, method)
        sets = label_sets(probabilities[later], threshold, method)
        covered.append(sets[np.arange(new), targets[later]].mean())
    error = np.std(covered) / 10
    assert np.mean(covered) >= coverage - 3 * error
    if method == "lac":
        assert np.mean(covered) <= coverage + 1 / (files + 1) + 3 * error


def test_tags_are_missed_no_more_often_than_asked():
    files, new, coverage = 60, 400, 0.9
    probabilities, targets = random_tags(1, files=100 * (files + new))
    missed = []
    for part in np.split(np.arange(len(targets)), 100):
        held_out, later = part[:files], part[files:]
        threshold = conformal_threshold(
            probabilities[held_out], targets[held_out], coverage, task="multi_label"
        )
        lacking = targets[later] * ~label_sets(probabilities[later], threshold)
        missed.append((lacking.sum(axis=1) / np.maximum(targets[later].sum(axis=1), 1)).mean())
    error = np.std(missed) / 10
    assert 1 - coverage - 2 / (files + 1) - 3 * error <= np.mean(missed) <= 1 - coverage + 3 * error


@pytest.mark.parametrize("seed", range(5))
def test_threshold_for_tags_is_the_highest_that_controls_the_risk(seed):
    probabilities, targets = random_tags(seed, files=40)
    probabilities = probabilities.round(1)  # with ties
    risks = {
        threshold: np.mean(
            [
                (row_p[row_t == 1] < threshold).mean() if row_t.any() else 0
                for row_p, row_t in zip(probabilities, targets, strict=True)
            ]
        )
        for threshold in np.unique(probabilities)
    }
    best = max(threshold for threshold, risk in risks.items() if 40 / 41 * risk + 1 / 41 <= 0.2)
    assert conformal_threshold(probabilities, targets, 0.8, task="multi_label") == best


def test_one_tag_a_file_is_single_label():
    probabilities, targets = random_case(2)
    tags = np.eye(5, dtype=int)[targets]
    for coverage in (0.5, 0.75, 0.9):
        single = conformal_threshold(probabilities, targets, coverage)
        assert conformal_threshold(probabilities, tags, coverage, task="multi_label") == single


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 999),
    low=st.floats(0.1, 0.9),
    high=st.floats(0.1, 0.9),
    tags=st.sampled_from([0, 1, 2]),
)
def test_more_coverage_gives_no_smaller_sets(seed, low, high, tags):
    case = (random_tags if tags == 2 else random_case)(seed, files=30)
    task, method = "multi_label" if tags == 2 else "single_label", ("lac", "aps", "lac")[tags]
    low, high = sorted((low, high))
    smaller, larger = (
        label_sets(case[0], conformal_threshold(*case, coverage, method, task), method)
        for coverage in (low, high)
    )
    assert (smaller <= larger).all()
    if method == "aps":
        assert smaller.any(axis=1).all()


def test_bad_input_is_refused():
    probabilities, targets = random_case(0)
    for coverage in (0, 1, 90, float("nan")):
        with pytest.raises(ValueError, match="`coverage` must lie between 0 and 1"):
            conformal_threshold(probabilities, targets, coverage)
    with pytest.raises(ValueError, match="'lac' or 'aps', got 'raps'"):
        conformal_threshold(probabilities, targets, method="raps")
    with pytest.raises(ValueError, match="'aps' is for single-label"):
        conformal_threshold(*random_tags(0), method="aps", task="multi_label")
    with pytest.raises(ValueError, match="has a label"):
        conformal_threshold(np.full((3, 2), 0.5), np.zeros((3, 2)), task="multi_label")
    with pytest.raises(ValueError, match="finite"):
        conformal_threshold([[np.nan, 1]], [0])
