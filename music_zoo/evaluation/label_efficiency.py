"""Label efficiency: what a probe on frozen features scores with only some of the training labels."""

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from music_zoo.calibration.checks import Task
from music_zoo.evaluation.probes import Kind, Split, check_splits, fit_probe, probe_metrics
from music_zoo.files import replacing
from music_zoo.plots import save_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class FractionResult:
    """What the probe scores with a share of the training labels.

    Attributes:
        fraction: The share, in (0, 1].
        num_examples: Number of training files in each draw.
        metrics: By name, the number of each draw, see `music_zoo.evaluation.probe_metrics`.
    """

    fraction: float
    num_examples: tuple[int, ...]
    metrics: dict[str, tuple[float, ...]]

    def mean(self, metric: str) -> float:
        """Return the mean of a metric over the draws."""
        return float(np.mean(self.metrics[metric]))

    def spread(self, metric: str) -> float:
        """Return the standard deviation of a metric over the draws (n - 1 degrees of freedom); 0 for one."""
        return float(np.std(self.metrics[metric], ddof=1)) if len(self.num_examples) > 1 else 0.0


@dataclass(frozen=True)
class LabelEfficiency:
    """Scores by the share of training labels, see `label_efficiency`.

    Attributes:
        kind: Of the probe.
        task: `"single_label"` or `"multi_label"`.
        results: One for each share, ascending.
    """

    kind: Kind
    task: Task
    results: tuple[FractionResult, ...]

    def to_dict(self) -> dict:
        """Return plain Python values, ready for JSON: of each metric the mean, the spread and the draws."""
        return {
            "kind": self.kind,
            "task": self.task,
            "fractions": [
                {
                    "fraction": result.fraction,
                    "num_examples": list(result.num_examples),
                    "metrics": {
                        name: {
                            "mean": result.mean(name),
                            "spread": result.spread(name),
                            "draws": list(values),
                        }
                        for name, values in result.metrics.items()
                    },
                }
                for result in self.results
            ],
        }

    def to_csv(self, path: str | PathLike) -> Path:
        """Write a row for each draw: fraction, draw, num_examples and the metrics. Return the path."""
        path = Path(path)
        names = list(self.results[0].metrics)
        with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["fraction", "draw", "num_examples", *names])
            for result in self.results:
                for draw, number in enumerate(result.num_examples):
                    values = [result.metrics[name][draw] for name in names]
                    writer.writerow([result.fraction, draw, number, *values])
        return path


def stratified_fraction(targets: ArrayLike, fraction: float, seed: int = 0) -> np.ndarray:
    """Draw a share of the files in which classes are as frequent as in all files.

    Single-label: of each class its share, rounded up or down so that the whole is as near to the share as it
    can be, and at least one file. Multi-label: the iterative stratification of Sechidis et al. (2011,
    doi:10.1007/978-3-642-23808-6_10) into those drawn and the rest; then a file for each tag that occurs and
    got none; then, while there are more than the share, the file whose tags were drawn too often goes. At
    least one file of each class may be more than the share.

    Args:
        targets: Class indices `(files,)`, or 0 or 1 `(files, classes)`.
        fraction: Share of the files, in (0, 1].
        seed: Of the draw; the same seed gives the same files.

    Returns:
        Indices of the files, ascending.

    Raises:
        ValueError: A fraction outside of (0, 1], or targets of another shape.
    """
    targets = np.asarray(targets)
    if not 0 < fraction <= 1:
        raise ValueError(f"`fraction` must lie above 0 and be at most 1, got {fraction}.")
    if targets.ndim not in (1, 2) or not targets.size:
        raise ValueError(
            f"Targets must be of shape (files,), or (files, classes) for multi-label; got {targets.shape}."
        )
    if targets.ndim == 2 and not np.isin(targets, (0, 1)).all():
        raise ValueError("Multi-label targets must be 0 or 1.")
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(targets))
    if fraction == 1:
        return np.sort(order)
    draw = _draw_single_label if targets.ndim == 1 else _draw_multi_label
    return np.sort(order[draw(targets[order], fraction, rng)])


def label_efficiency(
    features: Mapping[str, Split],
    task: Task = "single_label",
    fractions: Sequence[float] = (0.01, 0.05, 0.1, 0.2, 1.0),
    draws: int = 4,
    kind: Kind = "linear",
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> LabelEfficiency:
    """Fit a probe to several draws of each share of the training split, and score each on the test split.

    Draws are those of `stratified_fraction`. The validation split, if there is one, stays whole: where its
    labels count as well, leave it out.

    Args:
        features: Features and targets of `"train"`, `"test"` and, if wanted, `"validation"`.
        task: `"single_label"` or `"multi_label"`.
        fractions: Shares of the training files, in (0, 1].
        draws: Number of draws of each share; of the share 1 there is one.
        kind: See `music_zoo.evaluation.fit_probe`.
        seed: Of the first draw and its probe; the following take the following seeds.
        progress: Called with the numbers of probes done and to do.

    Raises:
        ValueError: A fraction outside of (0, 1], no fractions or draws, or splits that
            `music_zoo.evaluation.probe` refuses.
    """
    if not len(fractions) or draws < 1:
        raise ValueError(f"Needs fractions and at least one draw, got fractions={fractions}, draws={draws}.")
    if outside := [fraction for fraction in fractions if not 0 < fraction <= 1]:
        raise ValueError(f"`fractions` must lie above 0 and be at most 1, got {outside[0]}.")
    splits, num_classes = check_splits(features, task, needed=("train", "test"))
    train_features, train_targets = splits["train"]
    test_features, test_targets = splits["test"]
    todo = [(float(f), draw) for f in sorted(set(fractions)) for draw in range(1 if f == 1 else draws)]
    scores: dict[float, list[tuple[int, dict[str, float]]]] = {fraction: [] for fraction, _ in todo}
    for done, (fraction, draw) in enumerate(todo, start=1):
        drawn = stratified_fraction(train_targets, fraction, seed + draw)
        fitted = fit_probe(
            kind,
            train_features[drawn],
            train_targets[drawn],
            task,
            splits.get("validation"),
            seed + draw,
            num_classes,
        )
        metrics = probe_metrics(fitted.predict_proba(test_features), test_targets, task)
        scores[fraction].append((len(drawn), metrics))
        if progress:
            progress(done, len(todo))
    results = []
    for fraction, of_draws in scores.items():
        numbers, metrics = zip(*of_draws, strict=True)
        by_name = {name: tuple(each[name] for each in metrics) for name in metrics[0]}
        results.append(FractionResult(fraction, numbers, by_name))
    return LabelEfficiency(kind, task, tuple(results))


def plot_label_efficiency(
    curves: Mapping[str, LabelEfficiency], metric: str = "accuracy", path: str | PathLike | None = None
) -> "Figure":
    """Draw a metric by the share of labels, a line of means in a band of one standard deviation each way.

    Args:
        curves: By the name to write beside the line, such as `{"scattering": ..., "log-mel": ...}`.
        metric: See `music_zoo.evaluation.probe_metrics`.
        path: Where to write the picture, if it is to be written; its suffix says the format.

    Returns:
        The figure.

    Raises:
        ValueError: No curves, a metric that one of them has not, or a suffix of no known format.
    """
    from matplotlib.figure import Figure  # not pyplot: no window, no global state

    if not curves:
        raise ValueError("plot_label_efficiency needs at least one curve, got none.")
    for name, curve in curves.items():
        if metric not in (known := curve.results[0].metrics):
            raise ValueError(f"{name!r} has no {metric!r}, only {', '.join(known)}.")
    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axes = figure.subplots()
    for i, curve in enumerate(curves.values()):
        results = curve.results
        percent = np.array([100 * result.fraction for result in results])
        mean = np.array([result.mean(metric) for result in results])
        spread = np.array([result.spread(metric) for result in results])
        axes.plot(percent, mean, marker="o", color=f"C{i}")
        axes.fill_between(percent, mean - spread, mean + spread, color=f"C{i}", alpha=0.2, linewidth=0)
    # Names beside the ends of the lines: a legend would take one with an underscore in front for none.
    low, high = axes.get_ylim()
    axes.set_ylim(low, high)
    heights = [(curve.results[-1].mean(metric) - low) / (high - low) for curve in curves.values()]
    height = np.inf
    for i, name in sorted(enumerate(curves), key=lambda each: -heights[each[0]]):
        height = min(heights[i], height - 0.06)  # so that none is written over the one above
        text = axes.annotate(name, (1.01, height), xycoords="axes fraction", color=f"C{i}", va="center")
        text.set_parse_math(False)
    axes.set_xscale("log")
    ticks = sorted({100 * result.fraction for curve in curves.values() for result in curve.results})
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.set(xlabel="labels (%)", ylabel=metric.replace("_", " "))
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    if path is not None:
        save_figure(figure, Path(path))
    return figure


def _draw_single_label(targets: np.ndarray, fraction: float, rng: np.random.Generator) -> np.ndarray:
    """Return positions in targets that are in random order."""
    classes, counts = np.unique(targets, return_counts=True)
    quotas = fraction * counts
    numbers = np.floor(quotas).astype(int)
    missing = round(fraction * len(targets)) - numbers.sum()
    by_remainder = np.lexsort((rng.random(len(classes)), numbers - quotas))  # largest first, ties by lot
    numbers[by_remainder[: max(missing, 0)]] += 1
    numbers = np.maximum(numbers, 1)
    return np.concatenate(
        [np.flatnonzero(targets == label)[:number] for label, number in zip(classes, numbers, strict=True)]
    )


def _draw_multi_label(targets: np.ndarray, fraction: float, rng: np.random.Generator) -> np.ndarray:
    """Return positions in targets that are in random order."""
    targets = targets.astype(np.int64)
    counts = targets.sum(axis=0)
    of_draw = np.where(counts > 0, np.maximum(fraction * counts, 1), 0)
    wanted = np.stack([counts - of_draw, of_draw])  # of each tag, by the rest and by the draw
    wanted_files = np.array([1 - fraction, fraction]) * len(targets)
    undecided, drawn = np.ones(len(targets), dtype=bool), np.zeros(len(targets), dtype=bool)
    left = counts.copy()
    while left.any():
        tag = np.where(left > 0, left, len(targets) + 1).argmin()  # the rarest first, they have least choice
        for i in np.flatnonzero(undecided & (targets[:, tag] == 1)):
            rest, draw = wanted[:, tag]
            part = int(draw > rest or (draw == rest and wanted_files[1] > wanted_files[0]))
            wanted[part] -= targets[i]
            wanted_files[part] -= 1
            left -= targets[i]
            undecided[i], drawn[i] = False, part
    without_tags = np.flatnonzero(undecided)
    drawn[without_tags[: max(round(wanted_files[1]), 0)]] = True
    for tag in np.flatnonzero((counts > 0) & ~targets[drawn].any(axis=0)):
        drawn[np.flatnonzero(targets[:, tag])[0]] = True
    chosen = np.flatnonzero(drawn)
    while len(chosen) > fraction * len(targets) + 0.5:  # tags that go together were drawn too often
        numbers = targets[chosen].sum(axis=0)
        dispensable = ~(targets[chosen] & (numbers == 1)).any(axis=1)
        if not dispensable.any():
            break
        excess = np.where(dispensable, targets[chosen] @ (numbers - of_draw), -np.inf)
        chosen = np.delete(chosen, excess.argmax())
    return chosen
