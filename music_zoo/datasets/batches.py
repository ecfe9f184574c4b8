"""Batches for Keras' `fit` that depend on the seed, the epoch and their number alone; imports Keras.

So a run that is taken up with the epoch it had reached sees what an uninterrupted one sees.
"""

import warnings
from collections.abc import Sequence

import keras
import numpy as np

from music_zoo.datasets.log_mel import dequantize


class Batches(keras.utils.PyDataset):
    """The order of the examples: in each epoch a new permutation, of which the ragged end is dropped.

    Give `fit` the argument `shuffle=False`: by default Keras calls for the batches in an order of its own,
    from Python's global random numbers, which a resumed run does not repeat. A `steps_per_epoch` other than
    the number of batches would part Keras' epochs from these. In a training loop of your own, set `epoch`.

    Args:
        size: Number of examples.
        batch_size: Examples in a batch.
        seed: Of the order, and of what a subclass draws.
        start_epoch: The first epoch; when a run is taken up, the number of epochs it has finished.

    Attributes:
        epoch: The present epoch, from 0. Keras' end of an epoch advances it.

    Raises:
        ValueError: Fewer examples than one batch.
    """

    def __init__(self, size: int, batch_size: int, seed: int = 0, *, start_epoch: int = 0):
        super().__init__()
        if not 1 <= batch_size <= size:
            raise ValueError(
                f"expected a batch of 1 to {size} examples, as many as there are; got batch_size={batch_size}"
            )
        self.size, self.batch_size, self.seed, self.epoch = size, batch_size, seed, start_epoch
        self._order: tuple[int, np.ndarray] | None = None
        self._in_epoch = False
        self._asked: set[int] = set()
        self._asked_ever = 0

    def __len__(self) -> int:
        """Return the number of batches of an epoch."""
        return self.size // self.batch_size

    def rows(self, epoch: int, index: int) -> np.ndarray:
        """Return which examples are in a batch, `(batch_size,)` int64."""
        order = self._order
        if order is None or order[0] != epoch:
            order = epoch, np.random.default_rng((self.seed, epoch)).permutation(self.size)
            self._order = order
        return order[1][index * self.batch_size : (index + 1) * self.batch_size]

    def rng(self, epoch: int, index: int) -> np.random.Generator:
        """Return the random numbers of a batch."""
        return np.random.default_rng((self.seed, epoch, index))

    def batch(self, epoch: int, index: int):
        """Return a batch as Keras takes it; subclasses say how."""
        raise NotImplementedError

    def __getitem__(self, index: int):
        if not 0 <= index < len(self):
            raise IndexError(f"expected the number of a batch, 0 to {len(self) - 1}; got {index}")
        if self._in_epoch and index > self._asked_ever:
            warnings.warn(
                "Keras asks for the batches in an order of its own; give fit shuffle=False, so that "
                "a resumed run sees what an uninterrupted one sees.",
                stacklevel=2,
            )
        self._asked_ever = max(self._asked_ever, index + 1)
        self._asked.add(index)
        return self.batch(self.epoch, index)

    def on_epoch_begin(self) -> None:
        """Note that Keras begins an epoch."""
        self._in_epoch = True
        self._asked = set()

    def on_epoch_end(self) -> None:
        """Go on to the next epoch, if this one is over.

        `fit` calls this also before the first epoch, on JAX and PyTorch after a look at the first batch. An
        epoch is over when all its batches have been asked for; an epoch of one batch cannot be told from that
        look, so there the numbers may begin one later.
        """
        if self._in_epoch and len(self._asked) == len(self):
            self.epoch += 1
        self._in_epoch = False


class ImageBatches(Batches):
    """Random crops of stored features, as a backbone takes them.

    Args:
        features: `(examples, n_mels, frames)`, in memory or mapped: uint8 as in `LogMelDataset`, which are
            dequantized, or floats.
        batch_size: Examples in a batch.
        seed: Of the order and of the crops.
        targets: `(examples, ...)`; None: the batches hold features only.
        crop: Length in frames; None: all frames.
        start_epoch: The first epoch.

    Raises:
        ValueError: Features or targets of another shape, a crop longer than the features, too few examples.
    """

    def __init__(
        self,
        features: np.ndarray,
        batch_size: int,
        seed: int = 0,
        targets: np.ndarray | None = None,
        crop: int | None = None,
        *,
        start_epoch: int = 0,
    ):
        if features.ndim != 3:
            raise ValueError(f"expected features (examples, n_mels, frames), got shape {features.shape}")
        if targets is not None and len(targets) != len(features):
            raise ValueError(f"expected a target for each of {len(features)} examples, got {len(targets)}")
        if crop is not None and not 1 <= crop <= features.shape[2]:
            raise ValueError(f"expected a crop of 1 to {features.shape[2]} frames, got {crop}")
        super().__init__(len(features), batch_size, seed, start_epoch=start_epoch)
        self.features, self.targets = features, targets
        self.crop = crop or features.shape[2]

    def batch(self, epoch: int, index: int):
        """Return `(batch_size, n_mels, crop)` float32, and the targets if there are any."""
        rows = self.rows(epoch, index)
        starts = self.rng(epoch, index).integers(0, self.features.shape[2] - self.crop + 1, len(rows))
        crops = [
            self.features[row, :, start : start + self.crop] for row, start in zip(rows, starts, strict=True)
        ]
        images = np.stack(crops)
        images = dequantize(images) if images.dtype == np.uint8 else images.astype(np.float32, copy=False)
        return images if self.targets is None else (images, self.targets[rows])


class WaveformBatches(Batches):
    """Random segments of recordings that are held in memory.

    Args:
        recordings: Each `(samples,)`, floats of any width; one shorter than a segment is repeated.
        batch_size: Segments in a batch.
        samples: Length of a segment.
        seed: Of the order and of the segments.
        start_epoch: The first epoch.

    Raises:
        ValueError: Too few recordings, an empty one, or a segment without a sample.
    """

    def __init__(
        self,
        recordings: Sequence[np.ndarray],
        batch_size: int,
        samples: int,
        seed: int = 0,
        *,
        start_epoch: int = 0,
    ):
        super().__init__(len(recordings), batch_size, seed, start_epoch=start_epoch)
        if samples < 1 or not all(len(recording) for recording in recordings):
            raise ValueError(
                f"expected recordings and segments of at least one sample; got segments of {samples} samples "
                f"and a shortest recording of {min(map(len, recordings))}"
            )
        self.recordings, self.samples = recordings, samples

    def batch(self, epoch: int, index: int):
        """Return `(batch_size, samples)` float32."""
        rows = self.rows(epoch, index)
        segments = np.empty((len(rows), self.samples), np.float32)
        for slot, (row, place) in enumerate(zip(rows, self.rng(epoch, index).random(len(rows)), strict=True)):
            recording = self.recordings[row]
            start = int(place * max(len(recording) - self.samples + 1, 1))
            segments[slot] = np.resize(recording[start : start + self.samples], self.samples)
        return segments
