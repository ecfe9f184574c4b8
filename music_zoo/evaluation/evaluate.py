"""A classifier on labelled data: the numbers in the manifest come from here."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial

import numpy as np

from music_zoo.audio_model import AudioModel
from music_zoo.calibration import ReliabilityCurve, reliability_curve
from music_zoo.datasets import AudioDataset, AudioFolder, LogMelDataset
from music_zoo.evaluation.metrics import (
    Interval,
    bootstrap_interval,
    classification_metrics,
    errors_if_calibrated,
    label_metrics,
    task_metrics,
)
from music_zoo.evaluation.split_outputs import split_outputs


@dataclass(frozen=True)
class Evaluation:
    """What a classifier scores.

    Attributes:
        model: Its name.
        dataset: Name of the data set, or the folder.
        split: Name of the split, or `""`.
        examples: Number of recordings that were classified.
        metrics: By name, see `music_zoo.evaluation.classification_metrics`.
        uncalibrated: The same without the calibrator.
        reliability: Curves `"calibrated"` and `"uncalibrated"`, see `music_zoo.calibration.plot_reliability`.
        skipped: Messages on files that could not be used.
        by_label: For each label the metrics of telling its files from the others, calibrated, see
            `music_zoo.evaluation.label_metrics`.
        intervals: `"calibrated"` and `"uncalibrated"`: the 95 % interval of each metric, if asked for, see
            `music_zoo.evaluation.bootstrap_interval`.
        resampled: What the intervals were taken from: `"recordings"`, or all recordings of one
            `"instruments"`, say, as `AudioDataset.grouped_by`.
        if_calibrated: The calibration errors that chance alone would leave, see
            `music_zoo.evaluation.errors_if_calibrated`.
    """

    model: str
    dataset: str
    split: str
    examples: int
    metrics: dict[str, float]
    uncalibrated: dict[str, float]
    reliability: dict[str, ReliabilityCurve]
    skipped: tuple[str, ...] = ()
    by_label: dict[str, dict[str, float]] = field(default_factory=dict)
    intervals: dict[str, dict[str, Interval]] = field(default_factory=dict)
    if_calibrated: dict[str, float] = field(default_factory=dict)
    resampled: str = "recordings"

    def to_dict(self) -> dict:
        """Return plain Python values, ready for JSON; without the curves."""
        return {name: value for name, value in asdict(self).items() if name != "reliability"}

    def to_text(self) -> str:
        """Return a table: a line per metric, calibrated beside uncalibrated, with intervals if there are.

        A last column has the calibration errors of perfect probabilities on as many recordings.
        """
        columns = {"calibrated": self.metrics, "uncalibrated": self.uncalibrated}
        lines = [f"{self.model} on {self.dataset} {self.split}, {self.examples} recordings"]
        width = 26 if self.intervals else 14
        lines.append(f"  {'':18}" + "".join(f"{head:>{width}}" for head in [*columns, "perfect"]))
        for name in self.metrics:
            cells = []
            for column, metrics in columns.items():
                interval = self.intervals.get(column, {}).get(name)
                between = "" if interval is None else " [{:.4f}, {:.4f}]".format(*interval)
                cells.append(f"{metrics[name]:.4f}{between}".rjust(width))
            if name in self.if_calibrated:
                cells.append(f"{self.if_calibrated[name]:{width}.4f}")
            lines.append(f"  {name:18}" + "".join(cells))
        if self.intervals:
            lines.append(f"  in brackets: 95 % intervals over resampled {self.resampled}")
        return "\n".join(lines)


def evaluate(
    classifier: AudioModel,
    dataset: LogMelDataset | AudioDataset | AudioFolder,
    split: str | None = None,
    progress: Callable[[int, int], None] | None = None,
    resamples: int = 0,
) -> Evaluation:
    """Classify a split and score it, with and without the calibrator.

    Args:
        classifier: Single-label: with the data set's labels, in any order. Multi-label: with some of
            them; of FMA-small's log-mels, with some of the genre names.
        dataset: Stored features, which must be those of the classifier's front end, or audio files, which are
            classified by the mean over their windows.
        split: `"test"` if None; an `AudioFolder` is a split already.
        progress: Called with the numbers of recordings done and to do.
        resamples: Number of resampled sets from which intervals are taken, such as 1000; 0 for none. Of
            instruments or artists, where the data set names them, else of recordings.

    Raises:
        DatasetError: Labels or features that are not the classifier's, or no file that can be used.
    """
    split = dataset.split if isinstance(dataset, AudioFolder) else split or "test"
    found = split_outputs(classifier, dataset, split, "logits", progress)
    task, targets, windows = classifier.task, found.targets, np.concatenate(found.windows)
    ends = np.cumsum([len(each) for each in found.windows])[:-1]
    probabilities, metrics, intervals = {}, {}, {}
    for column, calibrated in (("calibrated", True), ("uncalibrated", False)):
        files = np.split(classifier.probabilities_of(windows, calibrated), ends)
        probabilities[column] = means = np.stack([file.mean(axis=0, dtype=np.float64) for file in files])
        metrics[column] = classification_metrics(means, targets, task)
        if resamples:
            measure = partial(task_metrics, task=task)
            intervals[column] = bootstrap_interval(
                measure, means, targets, resamples, skip_undefined=True, groups=found.groups
            )
    return Evaluation(
        model=classifier.name,
        dataset=found.dataset,
        split=split or "",
        examples=len(targets),
        metrics=metrics["calibrated"],
        uncalibrated=metrics["uncalibrated"],
        reliability={
            column: reliability_curve(values, targets, task) for column, values in probabilities.items()
        },
        skipped=found.skipped,
        by_label=label_metrics(probabilities["calibrated"], targets, classifier.labels, task),
        intervals=intervals,
        if_calibrated=errors_if_calibrated(probabilities["calibrated"], task),
        resampled="recordings" if found.groups is None else dataset.grouped_by,
    )
