"""A classifier on labelled data: the numbers in the manifest come from here."""

from dataclasses import asdict, dataclass

import numpy as np

from music_zoo.classifier import TASKS, Classifier
from music_zoo.datasets import AudioFolder, LogMelDataset, dequantize
from music_zoo.errors import DatasetError, MusicZooError
from music_zoo.evaluation.metrics import classification_metrics
from music_zoo.layers import FrontEnd


@dataclass(frozen=True)
class Evaluation:
    """What a classifier scores.

    Attributes:
        model: Its name.
        dataset: Name of the data set, or the folder.
        split: Name of the split, or `""`.
        examples: Number of recordings that were classified.
        metrics: By name, see `music_zoo.evaluation.classification_metrics`.
        uncalibrated: The same with a temperature of one.
        skipped: Messages on files that could not be used.
    """

    model: str
    dataset: str
    split: str
    examples: int
    metrics: dict[str, float]
    uncalibrated: dict[str, float]
    skipped: tuple[str, ...] = ()

    def to_dict(self) -> dict:
        """Return plain Python values, ready for JSON."""
        return asdict(self)

    def to_text(self) -> str:
        """Return a table: a line per metric, calibrated beside uncalibrated."""
        lines = [f"{self.model} on {self.dataset} {self.split}, {self.examples} recordings"]
        lines.append(f"  {'':20}{'calibrated':>12}{'uncalibrated':>14}")
        lines += [f"  {name:20}{value:12.4f}{self.uncalibrated[name]:14.4f}" for name, value in self.metrics.items()]
        return "\n".join(lines)


def evaluate(classifier: Classifier, dataset: LogMelDataset | AudioFolder, split: str | None = None) -> Evaluation:
    """Classify a split and score it, with and without the calibrator.

    Args:
        classifier: With the data set's labels, in any order.
        dataset: Stored features, which must be those of the classifier's front end, or audio files, which are
            classified by the mean over their windows.
        split: Of stored features, `"test"` if None; audio files are a split already.

    Raises:
        DatasetError: Labels or features that are not the classifier's, or no file that can be used.
    """
    columns = _columns(classifier, dataset.labels)
    if isinstance(dataset, LogMelDataset):
        name, split = dataset.name, split or "test"
        _check_features(classifier, dataset)
        features, targets, _ = dataset.split(split)
        logits = classifier.view("features", "logits").predict(dequantize(features), batch_size=64, verbose=0)
        per_recording, kept, skipped = list(logits[:, None]), np.arange(len(targets)), ()
    else:
        name, split, targets = str(dataset.root), dataset.split or "", dataset.targets
        results = list(classifier.infer(dataset.paths, "logits"))
        kept = np.array([i for i, result in enumerate(results) if not isinstance(result, MusicZooError)], int)
        skipped = tuple(str(result) for result in results if isinstance(result, MusicZooError))
        if not len(kept):
            raise DatasetError(f"{name}: none of the {len(results)} files could be used. The first: {skipped[0]}")
        per_recording = [results[i].outputs for i in kept]
    targets = targets[kept]
    temperature = float(classifier.calibrator.temperature)

    def score(divisor: float) -> dict[str, float]:
        probabilities = np.stack([_probabilities(z / divisor, classifier.task).mean(axis=0) for z in per_recording])
        return classification_metrics(probabilities[:, columns], targets, classifier.task)

    return Evaluation(classifier.name, name, split, len(kept), score(temperature), score(1.0), skipped)


def _probabilities(logits: np.ndarray, task: str) -> np.ndarray:
    from scipy.special import expit, softmax

    logits = logits.astype(np.float64)
    return softmax(logits, axis=-1) if TASKS[task] == "softmax" else expit(logits)


def _columns(classifier: Classifier, labels: tuple[str, ...]) -> list[int]:
    """Positions of the data set's labels among the classifier's."""
    if set(labels) != set(classifier.labels):
        raise DatasetError(
            f"{classifier.name} and the data have different labels. Only in the data: "
            f"{sorted(set(labels) - set(classifier.labels))}; only in the classifier: "
            f"{sorted(set(classifier.labels) - set(labels))}."
        )
    return [classifier.labels.index(label) for label in labels]


def _check_features(classifier: Classifier, dataset: LogMelDataset) -> None:
    if classifier.front_end.get_config() != FrontEnd.from_config(dataset.front_end).get_config():
        raise DatasetError(
            f"{classifier.name} listens through another front end than the one that made the features of "
            f"{dataset.name}: evaluate it on audio files instead, in a folder per label."
        )
