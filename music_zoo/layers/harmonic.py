"""Harmonic filters: bands around the multiples of a note, with a bandwidth that is learned."""

from typing import Any

import keras
import numpy as np
from keras import ops

from music_zoo.layers.base import SignalLayer

# Equivalent rectangular bandwidth of the ear, in Hz at f Hz: 0.1079 f + 24.7 (Glasberg and Moore, 1990).
_BANDWIDTH_PER_HZ, _LEAST_BANDWIDTH_HZ = 0.1079, 24.7
_LOWEST_NOTE = 24  # C1 as a MIDI number


def harmonic_centers(sample_rate: int, n_harmonics: int = 6, per_semitone: int = 2) -> np.ndarray:
    """Return the centre frequencies in Hz, `(n_harmonics, levels)`, in float64.

    The lowest level is C1, the highest the last before the note whose harmonics reach half the sample rate.
    """
    highest = 69 + 12 * np.log2(sample_rate / (2 * n_harmonics) / 440.0)
    levels = int(round(highest) - _LOWEST_NOTE) * per_semitone
    notes = _LOWEST_NOTE + np.arange(levels) / per_semitone
    return np.arange(1, n_harmonics + 1)[:, None] * 440.0 * 2 ** ((notes - 69) / 12)


@keras.saving.register_keras_serializable(package="music_zoo")
class HarmonicFilterBank(SignalLayer):
    """Pools the bins of a spectrogram into triangles around harmonics, whose common quality is learned.

    After Won, Chun, Nieto, Serra: "Data-driven harmonic filters for audio representation learning" (ICASSP
    2020). A triangle around `f` is `(0.1079 f + 24.7) / quality` Hz wide at half its height.

    Shapes: `(batch, n_fft // 2 + 1, frames)` to `(batch, n_harmonics, levels, frames)`.

    Args:
        sample_rate: Samples per second of the waveform behind the spectrogram.
        n_fft: Length of the Fourier transform behind the spectrogram.
        n_harmonics: Multiples of a note, from the note itself on.
        per_semitone: Levels in a semitone.
        name: Name of the layer.

    Raises:
        ValueError: For a spectrogram with another number of bins.
    """

    frame_wise = True

    def __init__(
        self,
        sample_rate: int,
        n_fft: int = 512,
        n_harmonics: int = 6,
        per_semitone: int = 2,
        *,
        name: str | None = None,
    ):
        super().__init__(name=name or "harmonic_filter_bank")  # a weight needs the same name every time
        self.sample_rate = sample_rate
        self.n_fft = n_fft
        self.n_harmonics = n_harmonics
        self.per_semitone = per_semitone
        centers = harmonic_centers(sample_rate, n_harmonics, per_semitone)
        self.levels = centers.shape[1]
        bins = np.linspace(0, sample_rate / 2, n_fft // 2 + 1)
        widths = _BANDWIDTH_PER_HZ * centers.reshape(-1, 1) + _LEAST_BANDWIDTH_HZ
        # Distances in bandwidths of quality 1, `(n_harmonics * levels, bins)`.
        self._distances = (2 * np.abs(bins - centers.reshape(-1, 1)) / widths).astype("float32")

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Make the one weight."""
        self.quality = self.add_weight(shape=(1,), initializer="ones", name="quality")

    def call(self, spectrogram: Any) -> Any:
        """Return the pooled spectrogram `(batch, n_harmonics, levels, frames)`."""
        self.compute_output_shape(spectrogram.shape)
        filters = ops.relu(1.0 - self.quality * self._distances)
        pooled = ops.matmul(filters, spectrogram)
        return ops.reshape(pooled, (-1, self.n_harmonics, self.levels, ops.shape(pooled)[-1]))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Return `(batch, n_harmonics, levels, frames)`."""
        n_bins = self.n_fft // 2 + 1
        if len(input_shape) != 3 or input_shape[1] not in (n_bins, None):
            raise ValueError(
                f"{self.name} expects a spectrogram of shape (batch, {n_bins}, frames) for "
                f"n_fft={self.n_fft}, got shape {tuple(input_shape)}."
            )
        return input_shape[0], self.n_harmonics, self.levels, input_shape[2]

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return super().get_config() | {
            "sample_rate": self.sample_rate,
            "n_fft": self.n_fft,
            "n_harmonics": self.n_harmonics,
            "per_semitone": self.per_semitone,
        }
