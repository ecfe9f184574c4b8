import subprocess
import sys

import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax
from scipy.stats import norm
from sklearn.linear_model import LogisticRegression

from music_zoo.evaluation import bootstrap_interval, fit_probe, probe, probe_metrics, probes

KINDS = ["linear", "mlp", "knn"]

SOLVER = {"max_iter": 200, "tol": 1e-3}


def gaussians(seed, files=90, classes=3, distance=8.0):
    """Draw files of classes of equal size: unit Gaussians around points of one length, at right angles."""
    rng = np.random.default_rng(seed)
    targets = rng.permutation(np.arange(files) % classes)
    return distance * np.eye(classes + 1)[targets] + rng.normal(size=(files, classes + 1)), targets


def tags(seed, files=120):
    """Draw files whose tag t is true where feature t is positive."""
    features = np.random.default_rng(seed).normal(size=(files, 4))
    return features, (features[:, :3] > [0.0, 0.5, -0.5]).astype(int)


def splits(make, **options):
    return {name: make(i, **options) for i, name in enumerate(("train", "validation", "test"))}


@pytest.mark.parametrize("kind", KINDS)
def test_classes_far_apart_are_told_apart(kind):
    result = probe(kind, splits(gaussians), n_bootstrap=5)
    assert result.kind == kind
    assert result.metrics == pytest.approx({"accuracy": 1, "macro_f1": 1, "roc_auc": 1, "pr_auc": 1})
    assert all(interval == pytest.approx((1, 1)) for interval in result.intervals.values())
    assert result.probabilities.shape == (90, 3)
    np.testing.assert_allclose(result.probabilities.sum(axis=1), 1)


@pytest.mark.parametrize("kind", KINDS)
def test_tags_are_told(kind):
    result = probe(kind, splits(tags), "multi_label", n_bootstrap=5)
    assert list(result.metrics) == ["macro_f1", "roc_auc", "pr_auc"] == list(result.intervals)
    assert result.metrics["roc_auc"] > 0.9
    assert result.probabilities.shape == (120, 3)


def test_two_gaussians_give_the_error_of_bayes():
    # Means 2 apart, unit variance: the best rule is right with probability Phi(1) = 0.841, its ROC AUC is
    # Phi(2 / sqrt(2)) = 0.921.
    def make(seed):
        rng = np.random.default_rng(seed)
        targets = rng.integers(2, size=4000)
        return rng.normal(size=(4000, 2)) + np.stack([2.0 * targets, 0 * targets], axis=1), targets

    result = probe("linear", splits(make), n_bootstrap=20)
    assert result.metrics["accuracy"] == pytest.approx(norm.cdf(1), abs=0.02)
    assert result.metrics["roc_auc"] == pytest.approx(norm.cdf(np.sqrt(2)), abs=0.02)
    low, high = result.intervals["accuracy"]
    assert low < result.metrics["accuracy"] < high
    assert high - low == pytest.approx(2 * 1.96 * np.sqrt(0.841 * 0.159 / 4000), rel=0.4)


def test_linear_equals_scikit_learn_on_features_standardised_by_hand():
    features, targets = gaussians(0, distance=1.0)
    other, _ = gaussians(1, distance=1.0)
    mean, std = features.mean(axis=0), features.std(axis=0)
    expected = LogisticRegression(C=1.0, **SOLVER).fit((features - mean) / std, targets)
    fitted = fit_probe("linear", features, targets)
    assert fitted.chosen == {"C": 1.0}
    np.testing.assert_allclose(
        fitted.predict_proba(other), expected.predict_proba((other - mean) / std), atol=1e-6
    )


def test_linear_takes_the_penalty_that_validates_best():
    features, targets = gaussians(0, files=30, distance=1.0)
    validation = gaussians(1, distance=1.0)
    fitted = fit_probe("linear", features, targets, validation=validation)
    scaled = [(each - features.mean(axis=0)) / features.std(axis=0) for each in (features, validation[0])]
    right = {
        c: LogisticRegression(C=c, **SOLVER).fit(scaled[0], targets).score(scaled[1], validation[1])
        for c in (0.001, 0.01, 0.1, 1.0, 10.0)
    }
    assert len(set(right.values())) > 1
    assert fitted.chosen == {"C": max(right, key=right.get)}


def test_multi_label_linear_is_a_regression_per_tag():
    features, targets = tags(0)
    scaled = (features - features.mean(axis=0)) / features.std(axis=0)
    expected = [
        LogisticRegression(**SOLVER).fit(scaled, column).predict_proba(scaled)[:, 1] for column in targets.T
    ]
    probabilities = fit_probe("linear", features, targets, "multi_label").predict_proba(features)
    np.testing.assert_allclose(probabilities, np.transpose(expected), atol=1e-6)


@settings(max_examples=10, deadline=None, derandomize=True)
@given(seed=st.integers(0, 999), files=st.integers(5, 60))
def test_knn_equals_a_loop(seed, files):
    rng = np.random.default_rng(seed)
    features, queries = rng.normal(size=(files, 6)), rng.normal(size=(7, 6))
    single, multi = np.arange(files) % 3, rng.integers(2, size=(files, 4))
    multi[:2] = [[0] * 4, [1] * 4]
    expected_single, expected_multi = np.zeros((7, 3)), np.zeros((7, 4))
    for i, query in enumerate(queries):
        similarity = [f @ query / np.linalg.norm(f) / np.linalg.norm(query) for f in features]
        nearest = sorted(range(files), key=lambda j: -similarity[j])[:20]
        total = sum(np.exp(similarity[j] / 0.07) for j in nearest)
        for j in nearest:
            expected_single[i, single[j]] += np.exp(similarity[j] / 0.07) / total
            expected_multi[i] += multi[j] * np.exp(similarity[j] / 0.07) / total
    probabilities = fit_probe("knn", features, single).predict_proba(queries)
    np.testing.assert_allclose(probabilities, expected_single, atol=1e-9)
    probabilities = fit_probe("knn", features, multi, "multi_label").predict_proba(queries)
    np.testing.assert_allclose(probabilities, expected_multi, atol=1e-9)
    assert probabilities.max() <= 1


def test_knn_does_not_look_at_lengths():
    features, targets = gaussians(0, distance=1.0)
    lengths = np.random.default_rng(1).uniform(0.1, 10, size=(90, 1))
    np.testing.assert_allclose(
        fit_probe("knn", features, targets).predict_proba(features[:9]),
        fit_probe("knn", lengths * features, targets).predict_proba(features[:9]),
    )


def test_the_mlp_goes_back_to_its_best_epoch(monkeypatch):
    train, validation = gaussians(0, files=30, distance=1.5), gaussians(1, distance=1.5)
    fitted = fit_probe("mlp", *train, validation=validation)
    chosen = fitted.chosen["epochs"]

    def after(epochs):
        monkeypatch.setattr(probes, "EPOCHS_WITHOUT_VALIDATION", epochs)
        return fit_probe("mlp", *train).predict_proba(validation[0])

    np.testing.assert_array_equal(fitted.predict_proba(validation[0]), after(chosen))
    right = [(after(e).argmax(axis=1) == validation[1]).mean() for e in range(1, chosen + 11)]
    assert chosen == np.argmax(right) + 1


def test_the_mlp_learns_what_is_not_linear():
    rng = np.random.default_rng(0)
    features = rng.uniform(-1, 1, size=(400, 2))
    targets = (features.prod(axis=1) > 0).astype(int)  # exclusive or
    right = {
        kind: (fit_probe(kind, features, targets).predict_proba(features).argmax(axis=1) == targets).mean()
        for kind in ("linear", "mlp")
    }
    assert right["linear"] < 0.7
    assert right["mlp"] > 0.85


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("make", "task"), [(gaussians, "single_label"), (tags, "multi_label")])
def test_the_seed_decides(kind, make, task):
    train = make(0, files=40)
    other = make(1, files=10)[0]
    probabilities = [fit_probe(kind, *train, task, seed=seed).predict_proba(other) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(probabilities[0], probabilities[1])
    assert np.array_equal(probabilities[0], probabilities[2]) == (kind != "mlp")


@pytest.mark.parametrize("kind", KINDS)
def test_a_feature_without_variance_does_no_harm(kind):
    features, targets = gaussians(0)
    features = np.column_stack([features, np.full(len(features), 0.1), np.zeros(len(features))])
    probabilities = fit_probe(kind, features, targets).predict_proba(features)
    assert np.isfinite(probabilities).all()
    assert (probabilities.argmax(axis=1) == targets).all()


@pytest.mark.parametrize("kind", KINDS)
def test_classes_that_training_does_not_show_get_nothing(kind):
    features, targets = gaussians(0)
    targets = np.array([0, 2, 3])[targets]  # 1 and 4 are nowhere
    probabilities = fit_probe(kind, features, targets, num_classes=5).predict_proba(features)
    assert probabilities.shape == (90, 5)
    assert (probabilities[:, [1, 4]] == 0).all()
    assert (probabilities.argmax(axis=1) == targets).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("kept", [[0], [0, 1]])
def test_tags_that_training_shows_one_way_only_stay_so(kind, kept):
    features, targets = tags(0)
    targets = np.column_stack([np.ones(120, dtype=int), targets[:, kept], np.zeros(120, dtype=int)])
    probabilities = fit_probe(kind, features, targets, "multi_label").predict_proba(features)
    np.testing.assert_allclose(probabilities[:, 0], 1)
    np.testing.assert_allclose(probabilities[:, -1], 0)
    assert sklearn.metrics.roc_auc_score(targets[:, 1], probabilities[:, 1]) > 0.9


@settings(max_examples=15, deadline=None, derandomize=True)
@given(seed=st.integers(0, 999), classes=st.integers(2, 6))
def test_single_label_metrics_equal_scikit_learns(seed, classes):
    rng = np.random.default_rng(seed)
    p, y = softmax(rng.normal(size=(60, classes)), axis=1), np.arange(60) % classes
    one_vs_rest = sklearn.metrics.roc_auc_score(y, p[:, 1] if classes == 2 else p, multi_class="ovr")
    expected = {
        "accuracy": sklearn.metrics.accuracy_score(y, p.argmax(axis=1)),
        "macro_f1": sklearn.metrics.f1_score(y, p.argmax(axis=1), average="macro"),
        "roc_auc": one_vs_rest,
        "pr_auc": np.mean([sklearn.metrics.average_precision_score(y == c, p[:, c]) for c in range(classes)]),
    }
    metrics = probe_metrics(p, y)
    assert metrics == pytest.approx(expected, abs=1e-12)
    assert all(type(value) is float for value in metrics.values())


@settings(max_examples=15, deadline=None, derandomize=True)
@given(seed=st.integers(0, 999), kept=st.integers(1, 4))
def test_multi_label_metrics_equal_scikit_learns(seed, kept):
    rng = np.random.default_rng(seed)
    p, y = rng.uniform(size=(40, kept + 2)), rng.integers(2, size=(40, kept + 2))
    y[:, 0], y[:, -1] = 0, 1  # left out
    inner = range(1, kept + 1)
    expected = {
        "macro_f1": np.mean([sklearn.metrics.f1_score(y[:, t], p[:, t] > 0.5) for t in inner]),
        "roc_auc": np.mean([sklearn.metrics.roc_auc_score(y[:, t], p[:, t]) for t in inner]),
        "pr_auc": np.mean([sklearn.metrics.average_precision_score(y[:, t], p[:, t]) for t in inner]),
    }
    assert probe_metrics(p, y, "multi_label") == pytest.approx(expected, abs=1e-12)


def test_resampled_sets_that_lack_a_class_are_no_error():
    data = splits(gaussians, distance=0.5)
    data["test"] = data["test"][0][:4], np.array([0, 0, 0, 1])  # a resampled set is often of one class
    result = probe("linear", data, n_bootstrap=50)
    for low, high in result.intervals.values():
        assert 0 <= low <= high <= 1


def test_undefined_sets_are_skipped_on_demand():
    def area(p, y):
        return sklearn.metrics.roc_auc_score(y, p) if 0 < y.sum() < len(y) else np.nan

    p, y = np.array([0.1, 0.2, 0.3, 0.4]), np.array([0, 1, 0, 1])
    draws = np.random.default_rng(3).integers(4, size=(200, 4))
    values = [area(p[draw], y[draw]) for draw in draws]
    assert np.isnan(values).any()
    with pytest.raises(ValueError, match="not finite"):
        bootstrap_interval(area, p, y, 200, 3)
    interval = bootstrap_interval(area, p, y, 200, 3, skip_undefined=True)
    assert interval == pytest.approx(tuple(np.nanpercentile(values, (2.5, 97.5))))
    with pytest.raises(ValueError, match="not finite on 9 of 9"):
        bootstrap_interval(lambda p, y: np.nan, p, y, 9, skip_undefined=True)


def broken(**changes):
    return splits(gaussians, files=12) | changes


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ({"train": gaussians(0)}, "'test' is missing"),
        (broken(valid=gaussians(0)), "may be train, validation, test; got 'valid'"),
        (broken(train=(np.zeros(5), np.zeros(5, dtype=int))), r"Train's features .* got shape \(5,\)"),
        (broken(train=(np.zeros((0, 4)), np.zeros(0, dtype=int))), r"got shape \(0, 4\)"),
        (broken(test=([[0, 0, np.nan, 0]], [0])), "Test's features must be finite; .* in 1 rows, first at 0"),
        (broken(test=(np.zeros((2, 3)), [0, 1])), "same dimensions in all splits, .*'test': 3"),
        (broken(validation=(np.zeros((3, 4)), [0, 1])), "validation has 3 rows and 2 targets"),
        (broken(train=(np.zeros((3, 4)), [1, 1, 1])), "two classes or more; those for train show one, in 3"),
        (broken(test=(np.zeros((3, 4)), [1, 1, 1])), "two classes or more; those for test show one"),
        (broken(train=(np.zeros((3, 4)), [0, 1, -1])), "must lie in 0..2"),
        (broken(train=(np.zeros((3, 4)), [0.0, 1.0, 1.0])), "must be integers"),
        (broken(train=(np.zeros((3, 4)), np.eye(3))), "one class index per file"),
    ],
)
def test_mistakes_are_named(features, message):
    with pytest.raises(ValueError, match=message):
        probe("linear", features)


def test_further_mistakes_are_named():
    features, targets = gaussians(0, files=12)
    with pytest.raises(ValueError, match="`kind` must be one of 'linear', 'mlp', 'knn', got 'svm'"):
        fit_probe("svm", features, targets)
    with pytest.raises(ValueError, match="`task` must be"):
        fit_probe("linear", features, targets, "tagging")
    with pytest.raises(ValueError, match="0..1 for 2 classes"):
        fit_probe("linear", features, targets, num_classes=2)
    with pytest.raises(ValueError, match="true of some files and false of others; those for train"):
        fit_probe("linear", features, np.ones((12, 3)), "multi_label")
    with pytest.raises(ValueError, match="features of 4 dimensions, got 3"):
        fit_probe("linear", features, targets).predict_proba(features[:, :3])
    with pytest.raises(ValueError, match="The features must be finite"):
        fit_probe("linear", features, targets).predict_proba(features * np.nan)
    with pytest.raises(ValueError, match="two classes or more; those for scoring"):
        probe_metrics([[0.4, 0.6]], [1])


def test_nothing_heavy_is_imported_before_it_is_needed():
    code = (
        "import sys, music_zoo.evaluation; "
        "heavy = {'keras', 'sklearn', 'scipy', 'matplotlib', 'librosa'} & set(sys.modules); "
        "sys.exit(f'imported: {heavy}' if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
