"""What a network is shown while it is trained by labels: examples, changed at random, and all targets."""

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from music_zoo.calibration.checks import Task
from music_zoo.datasets import AudioDataset, AudioSplit, LogMelDataset
from music_zoo.datasets.batches import Batches, ImageBatches
from music_zoo.datasets.streaming import AudioBatches
from music_zoo.errors import DatasetError
from music_zoo.training.recipe import Fit

#: Parts of the recordings; what a teacher says of one it learned from the others.
FOLDS = 10

#: From examples to probabilities `(batch, classes)`.
Teach = Callable[[np.ndarray], np.ndarray]


class TrainingBatches(Batches):
    """Batches of another kind, changed at random, with the targets that belong to them.

    Each depends on the seed, the epoch and its number alone, so that a resumed run sees what an uninterrupted
    one sees.

    Args:
        source: Gives pairs of examples, `(batch, n_mels, frames)` or `(batch, samples)`, and their rows.
        targets: By name of the output, `(rows, ...)` float32.
        fit: How to change the examples.
        teach: What models say of the examples as the network sees them. The mean of it, and of what VGGish
            says if that teaches, too, is the target `labels` in place of the recordings' own; without any,
            these are kept.
    """

    def __init__(
        self, source: Batches, targets: dict[str, np.ndarray], fit: Fit, teach: Sequence[Teach] = ()
    ):
        super().__init__(source.size, source.batch_size, source.seed)
        self.source, self.targets, self.fit, self.teach = source, targets, fit, teach
        self._said: dict[tuple[int, int, bool], np.ndarray] = {}

    def batch(self, epoch: int, index: int):
        """Return examples and targets."""
        is_mixed = epoch < self.fit.epochs * 7 // 8
        if self.fit.drawn_epochs:
            epoch %= self.fit.drawn_epochs
        examples, rows = self.source.batch(epoch, index)
        rng = np.random.default_rng((self.seed, epoch, index, 1))
        targets = {name: values[rows] for name, values in self.targets.items()}
        are_images = examples.ndim == 3
        if are_images and self.fit.roll:
            starts = rng.integers(0, examples.shape[2], len(examples))
            examples = np.stack([np.roll(x, s, axis=1) for x, s in zip(examples, starts, strict=True)])
        if are_images and self.fit.equalize:
            examples = equalize(examples, rng)
        if is_mixed:
            if self.fit.mixup:
                share = rng.beta(self.fit.mixup, self.fit.mixup, (len(rows), 1)).astype(np.float32)
                share, partner = np.maximum(share, 1 - share), rng.permutation(len(rows))
                part = share[..., None] if are_images else share
                examples = part * examples + (1 - part) * examples[partner]
                targets = {name: share * v + (1 - share) * v[partner] for name, v in targets.items()}
            if are_images and self.fit.mask:
                mask(examples, rng)
        if self.teach:
            said = self._said.get((epoch, index, is_mixed))
            if said is None:
                said = np.mean([teach(examples) for teach in self.teach], axis=0)
            if self.fit.drawn_epochs:
                self._said[epoch, index, is_mixed] = said
            share = 1 / (len(self.teach) + 1) if "vggish" in self.fit.teachers else 0.0
            targets["labels"] = share * targets["labels"] + (1 - share) * said
        return examples, targets

    def close(self) -> None:
        """End the workers that decode audio, if there are any."""
        if isinstance(self.source, AudioBatches):
            self.source.close()


def labelled_batches(
    dataset: LogMelDataset | AudioDataset,
    rows: np.ndarray,
    targets: dict[str, np.ndarray],
    fit: Fit,
    seed: int,
    window: tuple[float, int],
    teach: Sequence[Teach] = (),
) -> TrainingBatches:
    """Return the batches of a training.

    Args:
        dataset: Stored features or audio.
        rows: Which examples of the training split to use.
        targets: Of these, `(len(rows), ...)`.
        fit: How to train.
        seed: Of order and changes.
        window: Seconds and sample rate of what the network takes of audio.
        teach: As for `TrainingBatches`.

    Raises:
        DatasetError: Fewer recordings than a batch holds, or shorter than an example.
    """
    train, numbers = dataset.split("train"), np.arange(len(rows))
    try:
        if isinstance(dataset, LogMelDataset):
            frames = dataset.features.shape[2]
            crop = round(fit.segment * frames / dataset.seconds) if fit.segment else fit.crop
            source = ImageBatches(train.features[rows], fit.batch_size, seed, numbers, crop)
        else:
            chosen = AudioSplit(
                tuple(train.paths[row] for row in rows), numbers, tuple(train.ids[row] for row in rows)
            )
            source = AudioBatches(chosen, fit.batch_size, *window, seed)
    except ValueError as error:
        raise DatasetError(f"{dataset.name}: {error}") from error
    return TrainingBatches(source, targets, fit, teach)


def equalize(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Another loudness range and a smooth random tone control for each `(images, n_mels, frames)`."""
    points = rng.normal(0, 0.04, (len(images), 6))
    at = np.linspace(0, points.shape[1] - 1, images.shape[1])
    curves = np.stack([np.interp(at, np.arange(points.shape[1]), p) for p in points])
    gains = 1 + rng.normal(0, 0.08, (len(images), 1, 1))
    return ((images + curves[..., None]) * gains).astype(np.float32)


def mask(images: np.ndarray, rng: np.random.Generator) -> None:
    """Blank two stretches of bands and two of frames in each image, in place (arXiv:1904.08779)."""
    for image in images:
        blank = image.mean()
        for axis, longest in ((0, 16), (0, 16), (1, 8), (1, 8)):
            width = rng.integers(0, longest + 1)
            start = rng.integers(0, image.shape[axis] - width + 1)
            image.swapaxes(0, axis)[start : start + width] = blank


# ---- targets -----------------------------------------------------------------------------------------------


def training_targets(
    fit: Fit,
    dataset: LogMelDataset | AudioDataset,
    folder: Path,
    rows: np.ndarray,
    labels: np.ndarray,
    num_classes: int,
    tag_names: tuple[str, ...],
) -> dict[str, np.ndarray]:
    """Return everything that the network learns to predict, by name of the output, `(rows, ...)` float32.

    Args:
        fit: Which targets there are.
        dataset: Of the recordings.
        folder: Where it lies.
        rows: Which recordings of the training split.
        labels: Of the first of these, class indices or 0 and 1; the others are unlabelled.
        num_classes: Number of classes.
        tag_names: The tags to predict besides.

    Raises:
        DatasetError: VGGish embeddings are missing.
    """
    single = labels.ndim == 1
    targets = {}
    if fit.labels:
        targets["labels"] = (np.eye(num_classes)[labels] if single else labels).astype(np.float32)
    if "vggish" in fit.teachers:
        embedding = vggish(folder, np.asarray(dataset.split("train").ids)[rows])
        embedding = (embedding - embedding.mean(axis=0)) / (embedding.std(axis=0) + 1e-6)
        targets["vggish"] = embedding
        if fit.labels:
            said = teacher(embedding, labels, "single_label" if single else "multi_label")
            said[: len(labels)] = (said[: len(labels)] + targets["labels"]) / 2
            targets["labels"] = said
    if fit.tags:
        targets["tags"] = dataset.tag_targets("train", tag_names)[rows].astype(np.float32)
    return targets


def vggish(folder: Path, ids: np.ndarray) -> np.ndarray:
    """Return the VGGish embeddings of recordings, `(recordings, 128)` float32.

    Raises:
        DatasetError: There are none.
    """
    path = folder / "vggish.npz"
    if not path.exists():
        raise DatasetError(
            f"{path} is missing: VGGish embeddings of the recordings, `track_id` and `embedding`. Without "
            "them, train by a recipe without `teacher`."
        )
    with np.load(path) as stored:
        rows = {track: row for row, track in enumerate(stored["track_id"].astype(str))}
        return stored["embedding"][[rows[track] for track in ids]].astype(np.float32)


def teacher(embedding: np.ndarray, labels: np.ndarray, task: Task) -> np.ndarray:
    """Return probabilities `(recordings, classes)` of each from classifiers trained on other recordings.

    One label each: support vector machines, whose margins become probabilities by a regression. Several: a
    logistic regression for each.

    Args:
        embedding: `(recordings, width)`.
        labels: Of the first of these, from which the classifiers learn.
        task: Whether they are class indices or 0 and 1.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import KFold, cross_val_predict
    from sklearn.multiclass import OneVsRestClassifier
    from sklearn.svm import SVC

    labelled, others = embedding[: len(labels)], embedding[len(labels) :]
    if task == "multi_label":
        folds = KFold(min(FOLDS, len(labels)), shuffle=True, random_state=0)
        estimator = OneVsRestClassifier(LogisticRegression(C=0.01, max_iter=200))
        with warnings.catch_warnings():
            warnings.filterwarnings(
                "ignore", "Label (not )?\\d+ is present in all"
            )  # all of a rare tag's in one part
            found = cross_val_predict(estimator, labelled, labels, cv=folds, method="predict_proba")
            if len(others):
                found = np.concatenate([found, estimator.fit(labelled, labels).predict_proba(others)])
        return found.astype(np.float32)
    folds = min(FOLDS, np.bincount(labels).min())
    machine = SVC(C=2)
    margins = cross_val_predict(machine, labelled, labels, cv=folds, method="decision_function")
    margins = margins.reshape(len(labels), -1)
    regression = LogisticRegression(max_iter=2000).fit(margins, labels)
    if len(others):
        margins_of_others = machine.fit(labelled, labels).decision_function(others)
        margins = np.concatenate([margins, margins_of_others.reshape(len(others), -1)])
    return regression.predict_proba(margins).astype(np.float32)
