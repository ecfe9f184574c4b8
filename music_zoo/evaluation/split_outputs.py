"""What a model makes of the recordings of a labelled split, beside what they are."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from music_zoo.audio_model import AudioModel
from music_zoo.datasets import AudioDataset, AudioFolder, LogMelDataset, dequantize
from music_zoo.errors import DatasetError, MusicZooError
from music_zoo.layers import FrontEnd

#: Recordings that become floats at once.
CHUNK = 512


@dataclass(frozen=True, eq=False)
class SplitOutputs:
    """Outputs and targets of the recordings of a split that could be used.

    Attributes:
        dataset: Name of the data set, or the folder.
        windows: Of each recording, `(windows, ...)`.
        targets: Class indices, `(recordings,)`, or 0 and 1, `(recordings, classes)`.
        skipped: Why, of each file that could not be used.
        groups: What each recording belongs to, as `AudioDataset.groups_of`, `(recordings,)`; None: unknown.
    """

    dataset: str
    windows: tuple[np.ndarray, ...]
    targets: np.ndarray
    skipped: tuple[str, ...] = ()
    groups: np.ndarray | None = None

    @property
    def means(self) -> np.ndarray:
        """The mean over windows, `(recordings, ...)` float64; of probabilities, those of the recordings."""
        return np.stack([windows.mean(axis=0, dtype=np.float64) for windows in self.windows])


def split_outputs(
    model: AudioModel,
    dataset: LogMelDataset | AudioDataset | AudioFolder,
    split: str,
    outputs: str = "probabilities",
    progress: Callable[[int, int], None] | None = None,
) -> SplitOutputs:
    """Run a split up to some point of the network; targets are in terms of the model's labels.

    Args:
        model: With the data set's labels, in any order; multi-label, with some of them.
        dataset: Stored features, which must be those of the model's front end, or audio files.
        split: Its name; an `AudioFolder` is a split already.
        outputs: As in `AudioModel.view`.
        progress: Called with the numbers of recordings done and to do.

    Raises:
        DatasetError: No such split, labels or features that are not the model's, or no file that can be used.
    """
    targets = targets_of(model, dataset, split)
    if isinstance(dataset, LogMelDataset):
        check_features(model, dataset)
        name, recordings = dataset.name, dataset.split(split).features
    else:
        name, recordings = str(dataset.root), paths_of(dataset, split)
    return run_recordings(model, name, recordings, targets, outputs, progress, groups_of(dataset, split))


def run_recordings(
    model: AudioModel,
    dataset: str,
    recordings: np.ndarray | Sequence[Path],
    targets: np.ndarray,
    outputs: str,
    progress: Callable[[int, int], None] | None = None,
    groups: np.ndarray | None = None,
) -> SplitOutputs:
    """Run recordings up to some point of the network, beside targets of any kind.

    Args:
        model: Of stored features, one with the front end that made them.
        dataset: What messages call them.
        recordings: Stored features, `(recordings, n_mels, frames)`, or audio files.
        targets: `(recordings, ...)`.
        outputs: As in `AudioModel.view`.
        progress: Called with the numbers of recordings done and to do.
        groups: What each recording belongs to, `(recordings,)`; None: unknown.

    Raises:
        DatasetError: No file that can be used.
    """
    windows, skipped, usable = [], [], []
    if isinstance(recordings, np.ndarray):
        network = model.view("features", outputs)
        for start in range(0, len(recordings), CHUNK):
            images = dequantize(recordings[start : start + CHUNK])
            windows.extend(network.predict(images, batch_size=64, verbose=0)[:, np.newaxis])
            if progress:
                progress(len(windows), len(recordings))
        return SplitOutputs(dataset, tuple(windows), targets, groups=groups)
    for row, result in enumerate(model.infer(recordings, outputs)):
        if isinstance(result, MusicZooError):
            skipped.append(str(result))
        else:
            windows.append(result.outputs)
            usable.append(row)
        if progress:
            progress(row + 1, len(recordings))
    if not usable:
        raise DatasetError(
            f"{dataset}: none of the {len(recordings)} files could be used. First: {skipped[0]}"
        )
    return SplitOutputs(
        dataset, tuple(windows), targets[usable], tuple(skipped), None if groups is None else groups[usable]
    )


def groups_of(dataset: LogMelDataset | AudioDataset | AudioFolder, split: str) -> np.ndarray | None:
    """Return what each recording of a split belongs to, `(recordings,)`; None where it is not known."""
    return dataset.groups_of(split) if isinstance(dataset, AudioDataset) else None


def paths_of(dataset: AudioDataset | AudioFolder, split: str) -> Sequence[Path]:
    """Return the files of a split; an `AudioFolder` is a split already."""
    return dataset.paths if isinstance(dataset, AudioFolder) else dataset.split(split).paths


def targets_of(classifier: AudioModel, dataset, split: str) -> np.ndarray:
    """Return a split's targets in terms of the classifier's labels.

    Raises:
        DatasetError: The labels are not the classifier's.
    """
    if classifier.task == "multi_label":
        if getattr(dataset, "task", "single_label") == "single_label":
            if getattr(dataset, "tags", None):
                return dataset.tag_targets(split, classifier.labels)
            raise DatasetError(
                f"{classifier.name} gives several labels to a file; the data have one per file."
            )
        if missing := sorted(set(classifier.labels) - set(dataset.labels)):
            raise DatasetError(f"The data do not say which files are {missing}, labels of {classifier.name}.")
        columns = [dataset.labels.index(label) for label in classifier.labels]
        return dataset.split(split).targets[:, columns]
    if getattr(dataset, "task", "single_label") == "multi_label":
        raise DatasetError(f"{classifier.name} gives one label to a file; the data have several.")
    if set(dataset.labels) != set(classifier.labels):
        raise DatasetError(
            f"{classifier.name} and the data have different labels. Only in the data: "
            f"{sorted(set(dataset.labels) - set(classifier.labels))}; only in the classifier: "
            f"{sorted(set(classifier.labels) - set(dataset.labels))}."
        )
    position = np.array([classifier.labels.index(label) for label in dataset.labels])
    targets = dataset.targets if isinstance(dataset, AudioFolder) else dataset.split(split).targets
    return position[targets]


def check_features(classifier: AudioModel, dataset: LogMelDataset) -> None:
    """Raise unless stored features are those that the classifier's front end makes.

    Raises:
        DatasetError: They are not.
    """
    if _steps(classifier.front_end) != _steps(FrontEnd.from_config(dataset.front_end)):
        raise DatasetError(
            f"{classifier.name} listens through another front end than the one that made the features of "
            f"{dataset.name}: evaluate it on audio files instead, in a folder per label."
        )


def _steps(front_end: FrontEnd) -> tuple:
    """What a front end computes, in whichever way it does."""
    config = front_end.with_method("fft").get_config()
    return config["sample_rate"], config["layers"]
