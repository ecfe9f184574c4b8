"""What a model makes of the recordings of a labelled split, beside what they are."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from music_zoo.audio_model import AudioModel
from music_zoo.datasets import AudioDataset, AudioFolder, LogMelDataset, NSynthTest, dequantize
from music_zoo.errors import DatasetError, MusicZooError
from music_zoo.evaluation.evaluate import check_features, targets_of

#: Recordings that become floats at once.
CHUNK = 512


@dataclass(frozen=True, eq=False)
class SplitOutputs:
    """Outputs and targets of the recordings of a split that could be used.

    Attributes:
        dataset: Name of the data set, or the folder.
        windows: Of each recording, `(windows, ...)`.
        targets: In terms of the model's labels: class indices, `(recordings,)`, or 0 and 1,
            `(recordings, classes)`.
        skipped: Why, of each file that could not be used.
    """

    dataset: str
    windows: tuple[np.ndarray, ...]
    targets: np.ndarray
    skipped: tuple[str, ...] = ()

    @property
    def means(self) -> np.ndarray:
        """The mean over windows, `(recordings, ...)` float64; of probabilities, those of the recordings."""
        return np.stack([windows.mean(axis=0, dtype=np.float64) for windows in self.windows])


def split_outputs(
    model: AudioModel,
    dataset: LogMelDataset | AudioDataset | NSynthTest | AudioFolder,
    split: str,
    outputs: str = "probabilities",
    progress: Callable[[int, int], None] | None = None,
) -> SplitOutputs:
    """Run a split up to some point of the network.

    Args:
        model: With the data set's labels, in any order; multi-label, with some of them.
        dataset: Stored features, which must be those of the model's front end, or audio files.
        split: Its name; an `AudioFolder` is a split already.
        outputs: As in `AudioModel.view`.
        progress: Called with the numbers of recordings done and to do.

    Raises:
        DatasetError: No such split, labels or features that are not the model's, or no file that can be used.
    """
    is_folder = isinstance(dataset, AudioFolder)
    targets = targets_of(model, dataset, dataset.split if is_folder else split)
    if isinstance(dataset, LogMelDataset):
        check_features(model, dataset)
        features, network = dataset.split(split).features, model.view("features", outputs)
        windows = []
        for start in range(0, len(features), CHUNK):
            images = dequantize(features[start : start + CHUNK])
            windows.extend(network.predict(images, batch_size=64, verbose=0)[:, np.newaxis])
            if progress:
                progress(len(windows), len(features))
        return SplitOutputs(dataset.name, tuple(windows), targets)
    paths = dataset.paths if is_folder else dataset.split(split).paths
    results = []
    for result in model.infer(paths, outputs):
        results.append(result)
        if progress:
            progress(len(results), len(paths))
    usable = [not isinstance(result, MusicZooError) for result in results]
    skipped = tuple(str(result) for result in results if isinstance(result, MusicZooError))
    if not any(usable):
        raise DatasetError(f"{dataset.root}: none of the {len(results)} files could be used. {skipped[:1]}")
    windows = tuple(result.outputs for result, use in zip(results, usable, strict=True) if use)
    return SplitOutputs(str(dataset.root), windows, targets[usable], skipped)
