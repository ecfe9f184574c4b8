import numpy as np
import pytest
import scipy.stats
import sklearn.metrics
from calibration.calibration_cases import unrelated_case
from hypothesis import given, settings
from hypothesis import strategies as st

from music_zoo.calibration import (
    adaptive_calibration_error,
    classwise_calibration_error,
    expected_calibration_error,
    reliability_mae,
    weighted_reliability_mae,
)
from music_zoo.evaluation import (
    bootstrap_interval,
    classification_metrics,
    errors_if_calibrated,
    label_metrics,
)


def multi(seed, files=60, tags=5):
    rng = np.random.default_rng(seed)
    return rng.uniform(size=(files, tags)), rng.integers(2, size=(files, tags))


def calibration_errors(p, y, task):
    """What tests/calibration/test_reliability.py checks."""
    return {
        "ece": expected_calibration_error(p, y, task),
        "adaptive_ece": adaptive_calibration_error(p, y, task),
        "classwise_ece": classwise_calibration_error(p, y, task),
        "mae": reliability_mae(p, y, task),
        "weighted_mae": weighted_reliability_mae(p, y, task),
    }


@settings(max_examples=20, deadline=None, derandomize=True)
@given(seed=st.integers(0, 999), classes=st.integers(2, 12))
def test_single_label_metrics_equal_scikit_learns(seed, classes):
    p, y = unrelated_case(seed, classes=classes)
    metrics = classification_metrics(p, y)
    winners = p.argmax(axis=1)
    one_hot = np.eye(classes)[y]
    expected = {
        "accuracy": sklearn.metrics.accuracy_score(y, winners),
        "macro_f1": sklearn.metrics.f1_score(y, winners, average="macro"),
        "nll": sklearn.metrics.log_loss(y, p, labels=range(classes)),
        "brier": np.mean([classes * np.mean((a - b) ** 2) for a, b in zip(p, one_hot, strict=True)]),
    } | calibration_errors(p, y, "single_label")
    assert metrics == pytest.approx(expected, abs=1e-12)
    assert all(type(value) is float for value in metrics.values())


def test_brier_of_two_classes_is_twice_scikit_learns_binary_score():
    p, y = unrelated_case(1, classes=2)
    assert classification_metrics(p, y)["brier"] == pytest.approx(
        2 * sklearn.metrics.brier_score_loss(y, p[:, 1])
    )


def test_macro_f1_by_hand():
    # Class 0: precision 1/2, recall 1 -> 2/3. Class 1: precision 1, recall 1/2 -> 2/3. Class 2: nowhere.
    winners = np.array([0, 0, 1])
    p = np.eye(3)[winners] * 0.7 + 0.1
    assert classification_metrics(p, np.array([0, 1, 1]))["macro_f1"] == pytest.approx(2 / 3)


def test_the_uniform_classifier_has_its_closed_form():
    metrics = classification_metrics(np.full((8, 8), 1 / 8), np.arange(8))
    assert metrics["nll"] == pytest.approx(np.log(8))
    assert metrics["brier"] == pytest.approx(7 / 8)
    assert metrics["ece"] == pytest.approx(0, abs=1e-12)
    assert metrics["mae"] == pytest.approx(abs(1 / 8 - 0.15))


def test_a_certain_mistake_stays_finite():
    metrics = classification_metrics([[1.0, 0.0], [1.0, 0.0]], [0, 1])
    assert metrics["nll"] == pytest.approx(-np.log(np.finfo(np.float64).eps) / 2)


@settings(max_examples=10, deadline=None, derandomize=True)
@given(seed=st.integers(0, 999), decimals=st.sampled_from([1, 2, 16]))  # few: ties
def test_multi_label_metrics_equal_scikit_learns(seed, decimals):
    p, y = multi(seed)
    p = p.round(decimals)
    tags = range(p.shape[1])
    expected = {
        "roc_auc": np.mean([sklearn.metrics.roc_auc_score(y[:, t], p[:, t]) for t in tags]),
        "average_precision": np.mean(
            [sklearn.metrics.average_precision_score(y[:, t], p[:, t]) for t in tags]
        ),
        "num_tags_left_out": 0.0,
        "nll": np.mean([sklearn.metrics.log_loss(y[:, t], p[:, t]) for t in tags]),
        "brier": np.mean([sklearn.metrics.brier_score_loss(y[:, t], p[:, t]) for t in tags]),
    } | calibration_errors(p, y, "multi_label")
    assert classification_metrics(p, y, "multi_label") == pytest.approx(expected, abs=1e-12)


def one_against_the_rest(p, y):
    """One column's metrics, from scikit-learn."""
    return {
        "roc_auc": sklearn.metrics.roc_auc_score(y, p),
        "average_precision": sklearn.metrics.average_precision_score(y, p),
        "nll": sklearn.metrics.log_loss(y, p),
        "brier": sklearn.metrics.brier_score_loss(y, p),
    }


def test_metrics_of_each_label_equal_scikit_learns():
    p, y = multi(4)
    labels = ["a", "b", "c", "d", "e"]
    by_label = label_metrics(p, y, labels, "multi_label")
    assert list(by_label) == labels
    for tag, metrics in enumerate(by_label.values()):
        expected = one_against_the_rest(p[:, tag], y[:, tag])
        assert {name: metrics[name] for name in expected} == pytest.approx(expected)
        assert metrics["ece"] == expected_calibration_error(p[:, [tag]], y[:, [tag]], "multi_label")
    p, y = unrelated_case(4, classes=3)
    for index, metrics in enumerate(label_metrics(p, y, "abc").values()):
        expected = one_against_the_rest(p[:, index], y == index)
        assert {name: metrics[name] for name in expected} == pytest.approx(expected)


def test_a_label_that_is_never_true_has_the_metrics_that_are_defined():
    p, y = multi(4)
    y[:, 1] = 0
    metrics = label_metrics(p, y, "abcde", "multi_label")
    assert set(metrics["a"]) - set(metrics["b"]) == {"roc_auc", "average_precision"}
    assert metrics["b"]["brier"] == pytest.approx((p[:, 1] ** 2).mean())
    with pytest.raises(ValueError, match="4 labels for probabilities of 5 classes"):
        label_metrics(p, y, "abcd", "multi_label")


def test_tags_that_occur_one_way_only_are_left_out_and_counted():
    p, y = multi(3)
    y[:, 1], y[:, 4] = 0, 1
    metrics = classification_metrics(p, y, "multi_label")
    kept = classification_metrics(p[:, [0, 2, 3]], y[:, [0, 2, 3]], "multi_label")
    assert metrics["num_tags_left_out"] == 2
    assert metrics["roc_auc"] == kept["roc_auc"]
    assert metrics["average_precision"] == kept["average_precision"]
    with pytest.raises(ValueError, match="none of the 5 tags"):
        classification_metrics(p, np.zeros_like(y), "multi_label")


@settings(max_examples=10, deadline=None, derandomize=True)
@given(seed=st.integers(0, 999))
def test_the_order_of_files_does_not_matter(seed):
    order = np.random.default_rng(seed).permutation(60)
    for case, task in ((unrelated_case(seed, files=60), "single_label"), (multi(seed), "multi_label")):
        shuffled = classification_metrics(case[0][order], case[1][order], task)
        assert shuffled == pytest.approx(classification_metrics(*case, task), abs=1e-12)


@pytest.mark.parametrize(
    ("p", "y", "task", "message"),
    [
        ([[np.nan, 1.0]], [0], "single_label", "finite; NaN or infinity in 1 files, first at 0"),
        ([[0.5, 0.4]], [0], "single_label", "sum to 1 .* 0.9"),
        ([[3.0, -2.0]], [0], "single_label", r"\[0, 1\], got -2..3. Are they logits"),
        ([[0.5, 0.5]], [2], "single_label", "0..1 for 2 classes"),
        ([[0.5, 0.5]], [[1, 0]], "single_label", "argmax"),
        ([[0.5, 0.5]], [0], "multi_label", "0 or 1 for each file and class"),
        ([[0.5, 0.5]], [0], "tagging", "`task`"),
    ],
)
def test_mistakes_are_named(p, y, task, message):
    with pytest.raises(ValueError, match=message):
        classification_metrics(p, y, task)


def test_what_chance_leaves_of_one_bucket_is_the_deviation_of_the_binomial():
    files = 50
    # All winners have 0.8, so that the ECE is the mean distance of the share that is right from 0.8.
    hits = np.arange(files + 1)
    expected = (scipy.stats.binom.pmf(hits, files, 0.8) * abs(hits / files - 0.8)).sum()
    one = errors_if_calibrated(np.tile([0.8, 0.2], (files, 1)), draws=2000)
    assert one["ece"] == one["adaptive_ece"] == pytest.approx(expected, rel=0.05)
    tags = errors_if_calibrated(np.full((files, 1), 0.8), "multi_label", draws=2000)
    assert tags["ece"] == pytest.approx(expected, rel=0.05)


def test_certain_probabilities_leave_nothing_to_chance():
    errors = errors_if_calibrated(np.eye(3)[[0, 1, 2, 1]])
    assert errors["ece"] == errors["classwise_ece"] == 0


def accuracy(p, y):
    return (p.argmax(axis=1) == y).mean()


def test_the_interval_of_an_accuracy_is_that_of_the_binomial():
    # 300 of 400 files are right: the normal approximation gives 0.75 -+ 1.96 sqrt(0.75 * 0.25 / 400).
    p = np.tile([0.6, 0.4], (400, 1))
    y = np.arange(400) % 4 // 3
    low, high = bootstrap_interval(accuracy, p, y)
    half = 1.96 * np.sqrt(0.75 * 0.25 / 400)
    assert low == pytest.approx(0.75 - half, abs=0.005)
    assert high == pytest.approx(0.75 + half, abs=0.005)


def test_the_interval_depends_on_the_seed_alone():
    p, y = unrelated_case(5)
    assert bootstrap_interval(accuracy, p, y, n=50) == bootstrap_interval(accuracy, p, y, n=50)
    assert bootstrap_interval(accuracy, p, y, n=50) != bootstrap_interval(accuracy, p, y, n=50, seed=1)


def test_files_of_a_group_count_as_one():
    p, y = unrelated_case(5)
    once = bootstrap_interval(accuracy, p, y, n=50)
    thrice = bootstrap_interval(
        accuracy, np.tile(p, (3, 1)), np.tile(y, 3), n=50, groups=np.tile(np.arange(len(p)), 3)
    )
    assert thrice == pytest.approx(once)
    groups = np.arange(len(p)) // 10  # of ten files each, with their mean: as many such means are drawn
    right = (p.argmax(axis=1) == y).reshape(-1, 10).mean(axis=1)
    drawn = right[np.random.default_rng(0).integers(len(right), size=(50, len(right)))].mean(axis=1)
    named = np.array([f"artist {group:03}" for group in groups])
    found = bootstrap_interval(accuracy, p, y, n=50, groups=named)
    assert found == pytest.approx(tuple(np.percentile(drawn, (2.5, 97.5))))
    with pytest.raises(ValueError, match="a group for each of"):
        bootstrap_interval(accuracy, p, y, n=50, groups=groups[1:])


def test_intervals_of_several_metrics_are_those_of_each():
    p, y = unrelated_case(8)
    by_name = bootstrap_interval(classification_metrics, p, y, n=30)
    for name in ("accuracy", "brier", "weighted_mae"):
        alone = bootstrap_interval(lambda p, y, name=name: classification_metrics(p, y)[name], p, y, n=30)
        assert by_name[name] == alone


def test_a_metric_that_never_varies_has_no_width():
    p, y = unrelated_case(6)
    assert bootstrap_interval(lambda p, y: 0.5, p, y, n=10) == (0.5, 0.5)


@pytest.mark.parametrize(("files", "targets", "n"), [(0, 0, 10), (3, 4, 10), (3, 3, 0)])
def test_an_interval_needs_files_and_draws(files, targets, n):
    with pytest.raises(ValueError, match="as many targets as probabilities"):
        bootstrap_interval(accuracy, np.zeros((files, 2)), np.zeros(targets), n=n)


def test_a_metric_that_fails_on_some_draw_is_told():
    with pytest.raises(ValueError, match="not finite on 10 of 10"):
        bootstrap_interval(lambda p, y: np.nan, *unrelated_case(7), n=10)
    with pytest.raises(ValueError, match="second is not finite on 10 of 10"):
        bootstrap_interval(lambda p, y: {"first": 1.0, "second": np.nan}, *unrelated_case(7), n=10)
