"""What a person sees of a run while it trains: a line for each epoch, and validation scores now and then."""

import time
from collections.abc import Callable

import keras

from music_zoo.classifier import Classifier
from music_zoo.datasets import AudioDataset, LogMelDataset
from music_zoo.errors import DatasetError
from music_zoo.evaluation import classification_metrics, fit_probe, probe_metrics
from music_zoo.evaluation.embedded import embed_split, task_of
from music_zoo.evaluation.split_outputs import split_outputs

#: Tracks of the training split that the periodic kNN accuracy looks at, at most.
KNN_TRACKS = 2000


def can_score(dataset: LogMelDataset | AudioDataset) -> bool:
    """Whether the data have labels for training and validation."""
    if not dataset.labels:
        return False
    try:
        return all(dataset.split(name).targets is not None for name in ("train", "validation"))
    except DatasetError:
        return False


class _Score(keras.callbacks.Callback):
    """Adds scores on the validation split to the logs every so many epochs and at the end, NaN in between."""

    names: tuple[str, ...]

    def __init__(self, classifier: Classifier, dataset: LogMelDataset | AudioDataset, every: int):
        super().__init__()
        self.classifier, self.dataset, self.every = classifier, dataset, every

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Score, if it is time."""
        logs |= dict.fromkeys(self.names, float("nan"))
        if (epoch + 1) % self.every == 0 or epoch + 1 == self.params["epochs"]:
            if hasattr(self.model, "jax_state_sync"):
                self.model.jax_state_sync()
            logs |= dict(zip(self.names, self.scores(), strict=True))

    def scores(self) -> tuple[float, ...]:
        """Return what `names` name."""
        raise NotImplementedError


class NeighbourScore(_Score):
    """What a kNN probe on the embeddings scores: accuracy or, of several labels, average precision."""

    def __init__(self, classifier: Classifier, dataset: LogMelDataset | AudioDataset, every: int):
        super().__init__(classifier, dataset, every)
        self.metric = "accuracy" if task_of(dataset) == "single_label" else "pr_auc"
        self.names = (f"knn_{self.metric}",)

    def scores(self) -> tuple[float, ...]:
        """Return the score."""
        train, validation = (
            embed_split(self.classifier, self.dataset, split, most=KNN_TRACKS)
            for split in ("train", "validation")
        )
        task = task_of(self.dataset)
        knn = fit_probe("knn", train.means, train.targets, task, num_classes=len(self.dataset.labels))
        return (probe_metrics(knn.predict_proba(validation.means), validation.targets, task)[self.metric],)


class ClassifierScore(_Score):
    """What the classifier scores: accuracy or, of several labels, average precision; and likelihood."""

    def __init__(self, classifier: Classifier, dataset: LogMelDataset | AudioDataset, every: int):
        super().__init__(classifier, dataset, every)
        self.metrics = ("accuracy" if classifier.task == "single_label" else "average_precision", "nll")
        self.names = tuple(f"val_{name}" for name in self.metrics)

    def scores(self) -> tuple[float, ...]:
        """Return both."""
        found = split_outputs(self.classifier, self.dataset, "validation")
        every = classification_metrics(found.means, found.targets, self.classifier.task)
        return tuple(every[name] for name in self.metrics)


class Lines(keras.callbacks.Callback):
    """Says after each epoch what it brought, how fast, and how long the rest will take."""

    def __init__(self, say: Callable[[str], None]):
        super().__init__()
        self.say = say

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Start the clock."""
        self.begin, self.done = time.monotonic(), 0

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Say it."""
        self.done += 1
        seconds = (time.monotonic() - self.begin) / self.done
        left = seconds * (self.params["epochs"] - epoch - 1)
        values = "  ".join(f"{name} {value:.4f}" for name, value in (logs or {}).items() if value == value)
        rate = self.params["steps"] / seconds if self.params["steps"] else 0.0
        self.say(
            f"epoch {epoch + 1}/{self.params['epochs']}  {values}  {rate:.1f} batches/s, "
            f"{left / 60:.0f} min left"
        )
