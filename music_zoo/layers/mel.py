"""Mel filter banks, equal to librosa's, and the layer that applies one.

librosa itself is not imported: it costs seconds, and these few lines are held equal to it by the tests.
"""

import warnings
from typing import Any, Literal

import keras
import numpy as np
from keras import ops

from music_zoo.layers.base import SignalLayer

# Slaney's scale (Auditory Toolbox, 1998): 3 mels to 200 Hz up to 1 kHz, then 27 mels to a factor of 6.4.
_HZ_PER_MEL = 200 / 3
_BREAK_HZ = 1000.0
_BREAK_MEL = _BREAK_HZ / _HZ_PER_MEL
_LOG_STEP = np.log(6.4) / 27


def _hz_to_mel(hz: float, scale: str) -> float:
    if scale == "htk":
        return 2595.0 * np.log10(1.0 + hz / 700.0)
    return _BREAK_MEL + np.log(hz / _BREAK_HZ) / _LOG_STEP if hz >= _BREAK_HZ else hz / _HZ_PER_MEL


def _mel_to_hz(mels: np.ndarray, scale: str) -> np.ndarray:
    if scale == "htk":
        return 700.0 * (10.0 ** (mels / 2595.0) - 1.0)
    return np.where(
        mels >= _BREAK_MEL, _BREAK_HZ * np.exp(_LOG_STEP * (mels - _BREAK_MEL)), _HZ_PER_MEL * mels
    )


def mel_filter_bank(
    sample_rate: float,
    n_fft: int,
    n_mels: int = 128,
    fmin: float = 0.0,
    fmax: float | None = None,
    scale: Literal["slaney", "htk"] = "slaney",
    norm: Literal["slaney"] | None = "slaney",
) -> np.ndarray:
    """Return triangular filters, evenly spaced on a mel scale, as `librosa.filters.mel` does.

    Args:
        sample_rate: Samples per second.
        n_fft: Length of the Fourier transform whose bins are pooled.
        n_mels: Number of filters.
        fmin: Lower edge of the first filter in Hz.
        fmax: Upper edge of the last filter in Hz; `None`: half the sample rate.
        scale: `"slaney"` (linear below 1 kHz, logarithmic above) or `"htk"` (O'Shaughnessy's formula).
        norm: `"slaney"`: every filter has unit area over Hz; `None`: every triangle has height 1.

    Returns:
        float64 array `(n_mels, n_fft // 2 + 1)`.

    Raises:
        ValueError: For an argument out of its range.

    Warns:
        UserWarning: If a filter is narrower than the distance between bins and catches none of them,
            or lies above half the sample rate.
    """
    fmax = sample_rate / 2 if fmax is None else fmax
    if not (sample_rate > 0 and n_fft >= 2 and n_mels >= 1):
        raise ValueError(
            "sample_rate must be positive, n_fft at least 2 and n_mels at least 1, "
            f"got sample_rate={sample_rate}, n_fft={n_fft}, n_mels={n_mels}."
        )
    if not 0 <= fmin < fmax:
        raise ValueError(f"fmin and fmax must satisfy 0 <= fmin < fmax, got fmin={fmin}, fmax={fmax} Hz.")
    if scale not in ("slaney", "htk"):
        raise ValueError(f"scale must be 'slaney' or 'htk', got {scale!r}.")
    if norm not in ("slaney", None):
        raise ValueError(f"norm must be 'slaney' or None, got {norm!r}.")

    edges = _mel_to_hz(np.linspace(_hz_to_mel(fmin, scale), _hz_to_mel(fmax, scale), n_mels + 2), scale)
    from_edge = np.fft.rfftfreq(n_fft, d=1 / sample_rate) - edges[:, None]
    widths = np.diff(edges)[:, None]
    rising = from_edge[:-2] / widths[:-1]
    falling = -from_edge[2:] / widths[1:]
    filters = np.maximum(0, np.minimum(rising, falling))

    # A filter that starts at 0 Hz may have nothing but its zero there, and librosa lets it pass too.
    empty = (filters.max(axis=1) == 0) & (edges[:-2] > 0)
    if empty.any():
        warnings.warn(
            f"{empty.sum()} of {n_mels} mel filters catch no frequency bin and always give zero (the first: "
            f"number {empty.argmax()}); take fewer n_mels, a larger n_fft, or fmax within the signal's band.",
            stacklevel=2,
        )
    if norm == "slaney":
        filters *= (2.0 / (edges[2:] - edges[:-2]))[:, None]
    return filters


@keras.saving.register_keras_serializable(package="music_zoo")
class MelFilterBank(SignalLayer):
    """Pools the bins of a spectrogram into mel bands.

    Shapes: `(batch, n_fft // 2 + 1, frames)` to `(batch, n_mels, frames)`.

    Args:
        sample_rate: Samples per second of the waveform behind the spectrogram.
        n_fft: Length of the Fourier transform behind the spectrogram.
        n_mels: See `mel_filter_bank`, as the rest.
        fmin: See there.
        fmax: See there.
        scale: See there.
        norm: See there.
        name: Name of the layer.

    Attributes:
        filters: `(n_mels, n_fft // 2 + 1)` float32.

    Raises:
        ValueError: For an argument out of its range, and for a spectrogram with another number of bins.
    """

    frame_wise = True

    def __init__(
        self,
        sample_rate: float,
        n_fft: int = 2048,
        n_mels: int = 128,
        fmin: float = 0.0,
        fmax: float | None = None,
        scale: Literal["slaney", "htk"] = "slaney",
        norm: Literal["slaney"] | None = "slaney",
        *,
        name: str | None = None,
    ):
        super().__init__(name=name)
        self.sample_rate = sample_rate
        self.n_fft = n_fft
        self.n_mels = n_mels
        self.fmin = fmin
        self.fmax = fmax
        self.scale = scale
        self.norm = norm
        self.filters = mel_filter_bank(sample_rate, n_fft, n_mels, fmin, fmax, scale, norm).astype("float32")

    def call(self, spectrogram: Any) -> Any:
        """Return the mel spectrogram `(batch, n_mels, frames)`."""
        self.compute_output_shape(spectrogram.shape)
        return ops.matmul(self.filters, spectrogram)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Return `(batch, n_mels, frames)`."""
        n_bins = self.filters.shape[1]
        if len(input_shape) != 3 or input_shape[1] not in (n_bins, None):
            raise ValueError(
                f"{self.name} expects a spectrogram of shape (batch, {n_bins}, frames) for "
                f"n_fft={self.n_fft}, got shape {tuple(input_shape)}."
            )
        return input_shape[0], self.n_mels, input_shape[2]

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return super().get_config() | {
            "sample_rate": self.sample_rate,
            "n_fft": self.n_fft,
            "n_mels": self.n_mels,
            "fmin": self.fmin,
            "fmax": self.fmax,
            "scale": self.scale,
            "norm": self.norm,
        }
