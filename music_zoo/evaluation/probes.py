"""Probes: small classifiers on frozen features, which say how much a representation knows about a task.

Features are `(files, dimensions)`; targets are class indices `(files,)` for single-label, 0 or 1
`(files, classes)` for multi-label. scikit-learn is imported when it is needed, not before.
"""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

from music_zoo.calibration.checks import Task, check_probabilities, check_targets
from music_zoo.evaluation.metrics import bootstrap_interval, curve_areas

Kind = Literal["linear", "mlp", "knn"]

#: Features and targets of a split.
Split = tuple[ArrayLike, ArrayLike]

#: Inverse strengths of the L2 penalty among which the validation split chooses.
INVERSE_PENALTIES = (0.001, 0.01, 0.1, 1.0, 10.0)
HIDDEN_UNITS = 512
MAX_EPOCHS = 200
PATIENCE = 10  # epochs
EPOCHS_WITHOUT_VALIDATION = 50
NEIGHBOURS = 20
NEIGHBOUR_TEMPERATURE = 0.07


@dataclass(frozen=True, eq=False)
class Probe:
    """A fitted probe, see `fit_probe`.

    Attributes:
        kind: `"linear"`, `"mlp"` or `"knn"`.
        num_features: Dimensions of the features.
        num_classes: Number of classes.
        chosen: What the validation split chose: `{"C": ...}` of a linear probe, `{"epochs": ...}` of an MLP.
            Without one, the fixed settings.
    """

    kind: Kind
    num_features: int
    num_classes: int
    chosen: dict[str, float]
    _predict: partial

    def predict_proba(self, features: ArrayLike) -> np.ndarray:
        """Return probabilities `(files, num_classes)`, float64; 0 for classes that training did not show.

        Raises:
            ValueError: Features that are not finite, or not `(files, num_features)`.
        """
        features = _check_features(features, "the")
        if features.shape[1] != self.num_features:
            raise ValueError(
                f"The probe takes features of {self.num_features} dimensions, got {features.shape[1]}."
            )
        return self._predict(features)

    def dense(self) -> tuple[np.ndarray, np.ndarray]:
        """Return a linear probe as one dense layer on features as they are, with standardisation folded in.

        Returns:
            Kernel `(num_features, num_classes)` and bias `(num_classes,)`, float64. The softmax or sigmoid of
            `features @ kernel + bias` is `predict_proba`: they are scikit-learn's decision function or, where
            two classes share one, minus and plus half of it.

        Raises:
            ValueError: Another kind of probe, or classes that training did not show.
        """
        if self.kind != "linear":
            raise ValueError(f"Only a linear probe is a dense layer, this is one of kind {self.kind!r}.")
        scaler, task, columns, _, estimator = self._predict.args
        if len(columns) < self.num_classes:
            unseen = sorted(set(range(self.num_classes)) - set(columns.tolist()))
            raise ValueError(f"The training split tells nothing about the classes {unseen}.")
        parts = estimator.estimators_ if task == "multi_label" else [estimator]
        kernel = np.concatenate([part.coef_ for part in parts]).T
        bias = np.concatenate([part.intercept_ for part in parts])
        if task == "single_label" and len(columns) == 2:
            kernel, bias = kernel * [-0.5, 0.5], bias * [-0.5, 0.5]
        kernel = kernel / scaler.scale_[:, np.newaxis]
        return kernel, bias - scaler.mean_ @ kernel


@dataclass(frozen=True, eq=False)
class ProbeResult:
    """What a probe scores on the test split.

    Attributes:
        kind: Of the probe.
        probe: The probe itself.
        metrics: By name, see `probe_metrics`.
        intervals: 95 % bootstrap interval of each metric, over resampled sets of test files. Those of
            `pr_auc` lie high where a class has few files, as a file drawn twice is ranked beside itself.
        probabilities: Of the test split, `(files, classes)`.
    """

    kind: Kind
    probe: Probe
    metrics: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    probabilities: np.ndarray


def fit_probe(
    kind: Kind,
    train_features: ArrayLike,
    train_targets: ArrayLike,
    task: Task = "single_label",
    validation: Split | None = None,
    seed: int = 0,
    num_classes: int | None = None,
) -> Probe:
    """Fit a probe.

    Kinds:
        `"linear"`: logistic regression on standardised features, with a softmax for single-label and one
            regression per tag for multi-label. `C`, the inverse of the L2 penalty, is the best of
            `INVERSE_PENALTIES` on the validation split; 1 without one.
        `"mlp"`: one hidden layer of 512 ReLUs on standardised features, trained by Adam. Training stops when
            the validation split has not improved for 10 epochs and goes back to the best one; without a
            validation split it takes 50 epochs.
        `"knn"`: votes of the 20 training files of highest cosine similarity s, weighted by exp(s / 0.07) (Wu
            et al. 2018, arXiv:1805.01978, who take 200). Nothing is chosen.

    "Best" is by accuracy for single-label, by macro average precision for multi-label.

    Args:
        kind: `"linear"`, `"mlp"` or `"knn"`.
        train_features: `(files, dimensions)`.
        train_targets: `(files,)` or `(files, classes)`.
        task: `"single_label"` or `"multi_label"`.
        validation: Features and targets to choose by.
        seed: Of the initial weights and the order of the files; only the MLP draws.
        num_classes: Number of classes; if None, as many as the targets show.

    Raises:
        ValueError: Features that are not 2-D or not finite, targets that do not fit them, or training targets
            of one class only.
    """
    if kind not in get_args(Kind):
        raise ValueError(f"`kind` must be one of {', '.join(map(repr, get_args(Kind)))}, got {kind!r}.")
    splits = {"train": (train_features, train_targets)}
    if validation is not None:
        splits["validation"] = validation
    splits, num_classes = check_splits(splits, task, num_classes)
    features, targets = splits["train"]
    if kind == "knn":
        chosen, predict = _fit_knn(features, targets, task, num_classes)
    else:
        fit = _fit_linear if kind == "linear" else _fit_mlp
        chosen, predict = _fit_standardised(fit, splits, task, seed, num_classes)
    return Probe(kind, features.shape[1], num_classes, chosen, predict)


def probe(
    kind: Kind,
    features: Mapping[str, Split],
    task: Task = "single_label",
    seed: int = 0,
    n_bootstrap: int = 200,
    groups: ArrayLike | None = None,
) -> ProbeResult:
    """Fit a probe on the split `"train"`, choose on `"validation"`, score on `"test"`.

    Args:
        kind: See `fit_probe`.
        features: Features and targets by the name of the split; `"validation"` may be absent.
        task: `"single_label"` or `"multi_label"`.
        seed: Of the probe and of the resampled sets.
        n_bootstrap: Number of resampled sets of test files. A class that such a set lacks is left out of its
            ROC AUC and average precision.
        groups: What each test file belongs to, see `bootstrap_interval`; None: unknown.

    Raises:
        ValueError: A split that is missing or of another name, or input that `fit_probe` or `probe_metrics`
            refuses.
    """
    splits, num_classes = check_splits(features, task, needed=("train", "test"))
    fitted = fit_probe(kind, *splits["train"], task, splits.get("validation"), seed, num_classes)
    test_features, targets = splits["test"]
    probabilities = fitted.predict_proba(test_features)
    metrics = probe_metrics(probabilities, targets, task)
    intervals = {
        name: bootstrap_interval(
            _METRICS[task][name],
            probabilities,
            targets,
            n_bootstrap,
            seed,
            skip_undefined=True,
            groups=groups,
        )
        for name in metrics
    }
    return ProbeResult(kind, fitted, metrics, intervals, probabilities)


def probe_metrics(
    probabilities: ArrayLike, targets: ArrayLike, task: Task = "single_label"
) -> dict[str, float]:
    """Return the metrics that studies of representations report, computed by scikit-learn.

    Single-label:
        `accuracy`; `macro_f1` over the classes that occur in targets or decisions; `roc_auc` and `pr_auc`
        (average precision) of each class against the others, means over the classes that occur.

    Multi-label:
        `macro_f1` of the decisions at a probability of 0.5, `roc_auc` and `pr_auc` (average precision), means
        over the tags that are true of some files and false of others.

    Raises:
        ValueError: Probabilities or targets that `music_zoo.calibration.checks.check_probabilities` refuses;
            targets of one class only, or of which no tag occurs both ways.
    """
    probabilities, targets = check_probabilities(probabilities, targets, task)
    metrics = {name: metric(probabilities, targets) for name, metric in _METRICS[task].items()}
    if np.isnan(metrics["roc_auc"]):
        raise ValueError(_ONE_WAY[task].format("scoring", len(targets)))
    return metrics


def check_splits(
    splits: Mapping[str, Split],
    task: Task,
    num_classes: int | None = None,
    needed: tuple[str, ...] = ("train",),
) -> tuple[dict[str, tuple[np.ndarray, np.ndarray]], int]:
    """Return the splits with features as float64 and targets as integers, and the number of classes.

    Raises:
        ValueError: What is wrong with them, see `fit_probe` and `probe`.
    """
    known = ("train", "validation", "test")
    if absent := [name for name in needed if name not in splits]:
        raise ValueError(f"The splits must hold {' and '.join(needed)}: {absent[0]!r} is missing.")
    if unknown := [name for name in splits if name not in known]:
        raise ValueError(f"The splits may be {', '.join(known)}; got {unknown[0]!r}.")
    features = {name: _check_features(split[0], f"{name}'s") for name, split in splits.items()}
    widths = {name: array.shape[1] for name, array in features.items()}
    if len(set(widths.values())) > 1:
        raise ValueError(f"The features must have the same dimensions in all splits, got {widths}.")
    targets = {name: np.asarray(split[1]) for name, split in splits.items()}
    if num_classes is None:
        num_classes = max(_count_classes(array, task) for array in targets.values())
    checked = {}
    for name, array in features.items():
        if len(array) != len(np.atleast_1d(targets[name])):
            raise ValueError(
                f"Each row of features needs a target: {name} has {len(array)} rows and "
                f"{len(np.atleast_1d(targets[name]))} targets."
            )
        checked[name] = array, check_targets(targets[name], len(array), num_classes, task)
    for name, (_, of_split) in checked.items():
        if not _occurs_both_ways(of_split, task, num_classes).any():
            raise ValueError(_ONE_WAY[task].format(name, len(of_split)))
    return checked, num_classes


def _check_features(features: ArrayLike, whose: str) -> np.ndarray:
    features = np.asarray(features, dtype=np.float64)
    if features.ndim != 2 or not features.size:
        raise ValueError(
            f"{whose.capitalize()} features must be of shape (files, dimensions), got shape {features.shape}."
        )
    finite = np.isfinite(features).all(axis=1)
    if not finite.all():
        bad = np.flatnonzero(~finite)
        raise ValueError(
            f"{whose.capitalize()} features must be finite; NaN or infinity in {bad.size} rows, first "
            f"at {bad[0]}."
        )
    return features


def _count_classes(targets: np.ndarray, task: Task) -> int:
    """Return how many classes the targets show; of targets that `check_targets` refuses, any number."""
    if task == "multi_label":
        return targets.shape[-1] if targets.ndim else 1
    return max(int(targets.max()) + 1, 1) if targets.size and targets.dtype.kind in "iu" else 1


_ONE_WAY = {
    "single_label": "Single-label targets must show two classes or more; those for {} show one, in {} files.",
    "multi_label": "Multi-label targets need a tag that is true of some files and false of others; those for "
    "{} have none, in {} files.",
}


def _one_hot(targets: np.ndarray, task: Task, num_classes: int) -> np.ndarray:
    return np.eye(num_classes, dtype=np.int64)[targets] if task == "single_label" else targets


def _occurs_both_ways(targets: np.ndarray, task: Task, num_classes: int) -> np.ndarray:
    """Return of which classes there are files with and files without, `(num_classes,)`."""
    one_hot = _one_hot(targets, task, num_classes)
    return one_hot.any(axis=0) & ~one_hot.all(axis=0)


def _fit_knn(features: np.ndarray, targets: np.ndarray, task: Task, num_classes: int) -> tuple[dict, partial]:
    from sklearn.neighbors import NearestNeighbors

    neighbours = NearestNeighbors(n_neighbors=min(NEIGHBOURS, len(features)), metric="cosine").fit(features)
    return {}, partial(_predict_knn, neighbours, _one_hot(targets, task, num_classes))


def _predict_knn(neighbours, one_hot: np.ndarray, features: np.ndarray) -> np.ndarray:
    distances, nearest = neighbours.kneighbors(features)  # 1 - similarity, nearest first
    weights = np.exp((distances[:, :1] - distances) / NEIGHBOUR_TEMPERATURE)  # relative to the nearest
    weights /= weights.sum(axis=1, keepdims=True)
    votes = np.zeros((len(features), one_hot.shape[1]))
    for rank in range(nearest.shape[1]):  # not all at once: files x neighbours x classes may not fit
        votes += weights[:, rank, np.newaxis] * one_hot[nearest[:, rank]]
    return np.minimum(votes, 1)  # sums of weights may round to above 1


def _fit_standardised(fit: Callable, splits: dict, task: Task, seed: int, num_classes: int):
    """Fit an estimator of scikit-learn to standardised features and to the classes that training shows."""
    from sklearn.preprocessing import StandardScaler

    features, targets = splits["train"]
    scaler = StandardScaler().fit(features)  # leaves the scale of constant features at 1
    constant = np.zeros(num_classes)
    if task == "single_label":
        columns = np.unique(targets)
    else:
        columns = np.flatnonzero(_occurs_both_ways(targets, task, num_classes))
        constant[targets.all(axis=0)] = 1
        targets = targets[:, columns]
        targets = targets.ravel() if len(columns) == 1 else targets  # what scikit-learn takes for two classes
    predict = partial(_predict_standardised, scaler, task, columns, constant)
    score = None
    if "validation" in splits:
        validation_features, validation_targets = splits["validation"]
        metric = _METRICS[task]["accuracy" if task == "single_label" else "pr_auc"]

        def score(estimator) -> float:
            return metric(predict(estimator, validation_features), validation_targets)

    estimator, chosen = fit(scaler.transform(features), targets, task, score, seed)
    return chosen, partial(predict, estimator)


def _predict_standardised(scaler, task: Task, columns, constant, estimator, features) -> np.ndarray:
    values = estimator.predict_proba(scaler.transform(features))
    if task == "multi_label" and len(columns) == 1:
        values = values[:, 1:]  # the tag's, not that of its absence
    probabilities = np.tile(constant, (len(features), 1))
    probabilities[:, columns] = values
    return probabilities


def _fit_linear(features, targets, task: Task, score: Callable | None, seed: int):
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.multiclass import OneVsRestClassifier

    best, best_score, chosen = None, -np.inf, {}
    for inverse_penalty in INVERSE_PENALTIES if score else (1.0,):
        # The weakest penalties may take thousands of steps that no longer matter on other files.
        estimator = LogisticRegression(C=inverse_penalty, max_iter=200, tol=1e-3)
        if task == "multi_label":
            estimator = OneVsRestClassifier(estimator)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            estimator.fit(features, targets)
        reached = score(estimator) if score else 0.0
        if reached > best_score:  # of equals the strongest penalty
            best, best_score, chosen = estimator, reached, {"C": inverse_penalty}
    return best, chosen


def _fit_mlp(features, targets, task: Task, score: Callable | None, seed: int):
    from sklearn.neural_network import MLPClassifier

    # A generator, as from a number every epoch would draw the same order.
    estimator = MLPClassifier((HIDDEN_UNITS,), random_state=np.random.RandomState(seed))
    # Epoch by epoch: MLPClassifier's own early stopping would take its validation files from the training's.
    classes = np.arange(targets.shape[1]) if targets.ndim == 2 else np.unique(targets)
    best, best_score, best_epoch = None, -np.inf, 0
    for epoch in range(1, (MAX_EPOCHS if score else EPOCHS_WITHOUT_VALIDATION) + 1):
        estimator.partial_fit(features, targets, classes=classes)
        if not score:
            best_epoch = epoch
        elif (reached := score(estimator)) > best_score:
            weights = [[array.copy() for array in part] for part in (estimator.coefs_, estimator.intercepts_)]
            best, best_score, best_epoch = weights, reached, epoch
        elif epoch - best_epoch >= PATIENCE:
            break
    if best:
        estimator.coefs_, estimator.intercepts_ = best
    return estimator, {"epochs": best_epoch}


def _accuracy(probabilities: np.ndarray, targets: np.ndarray) -> float:
    return float((probabilities.argmax(axis=1) == targets).mean())


def _macro_f1(task: Task, probabilities: np.ndarray, targets: np.ndarray) -> float:
    from sklearn.metrics import f1_score

    if task == "single_label":
        return float(f1_score(targets, probabilities.argmax(axis=1), average="macro"))
    both_ways = _occurs_both_ways(targets, task, targets.shape[1])
    if not both_ways.any():
        return float("nan")
    truth, decisions = targets[:, both_ways] == 1, probabilities[:, both_ways] > 0.5
    hits = (truth & decisions).sum(axis=0)
    return float((2 * hits / (truth.sum(axis=0) + decisions.sum(axis=0))).mean())


def _area(curve: str, task: Task, probabilities: np.ndarray, targets: np.ndarray) -> float:
    """Return the macro ROC AUC or average precision over the classes that occur both ways, NaN if none."""
    both_ways = _occurs_both_ways(targets, task, probabilities.shape[1])
    if not both_ways.any():
        return float("nan")
    one_hot = _one_hot(targets, task, probabilities.shape[1])[:, both_ways]
    roc_auc, average_precision = curve_areas(probabilities[:, both_ways], one_hot)
    return float((roc_auc if curve == "roc" else average_precision).mean())


def _metrics(task: Task) -> dict[str, Callable[[np.ndarray, np.ndarray], float]]:
    return {
        "macro_f1": partial(_macro_f1, task),
        "roc_auc": partial(_area, "roc", task),
        "pr_auc": partial(_area, "pr", task),
    }


_METRICS = {
    "single_label": {"accuracy": _accuracy, **_metrics("single_label")},
    "multi_label": _metrics("multi_label"),
}
