"""Waveform to spectrogram, equal to librosa, as an FFT or as matrix products that export everywhere."""

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import keras
import numpy as np
from keras import ops

from music_zoo.errors import AudioError
from music_zoo.layers.base import SignalLayer

# Coefficients (a, b) of the periodic cosine windows a - b cos(2 pi n / length).
_WINDOWS = {"hann": (0.5, 0.5), "hamming": (0.54, 0.46)}

# The matrix products put frames together from blocks, of as many samples as divide both frames and hop.
MIN_BLOCK = 16

# Samples in the frames that are transformed at once, so that what lies between waveform and bands stays in a
# core's cache: twice as fast as all of 30 s at 44.1 kHz. And the most such blocks, as a graph holds each.
BLOCK_SAMPLES = 1 << 18
MAX_BLOCKS = 32

# Filters are applied in so many parts, each to those bins that any filter of the part listens to.
FILTER_PARTS = 4

# Under the square root of a magnitude: keeps its gradient finite on digital silence, far below any signal.
_SMALLEST_POWER = 1e-37


@keras.saving.register_keras_serializable(package="music_zoo")
class STFT(SignalLayer):
    """Short-time Fourier transform of each waveform: its power or magnitude spectrogram.

    Equals `abs(librosa.stft(...)) ** power`, but for the rounding of float32, which gives every frame a floor
    of noise some 140 dB below its loudest band, in either method (and in librosa's own float32). Decibels are
    off by less than 1e-3 down to 60 dB below the loudest band of the same frame, by less than 0.01 down to
    80 dB, by less than 0.1 down to 100 dB.

    Padding is done here, not by `keras.ops.stft`, which knows reflection only.

    Shapes: `(batch, samples)` to `(batch, n_bins, frames)`, with `n_bins = n_fft // 2 + 1` and
    `frames = 1 + (samples + 2 * padding - n_fft) // hop_length`, where `padding` is
    `n_fft // 2` if `center`, else 0.

    Args:
        n_fft: Samples in a frame, zeros around a shorter window included.
        hop_length: Samples from one frame to the next.
        win_length: Samples under the window, centred in the frame. `None`: `n_fft`.
        window: `"hann"` or `"hamming"`, periodic.
        center: Whether frame `t` is centred on sample `t * hop_length`, with padding at both ends.
        pad_mode: `"constant"` (zeros: librosa's default) or `"reflect"` (torchaudio's).
        power: 2.0 for power, 1.0 for magnitude.
        method: `"fft"`, or `"conv"`, for runtimes without an FFT: the windowed transform as two matrix
            products. Where frames and hop share no large divisor it is one strided convolution, which costs
            about 8 times the FFT at `n_fft=2048` and carries `4 * n_fft * (n_fft + 2)` bytes of constants.
        name: Name of the layer.

    Raises:
        ValueError: For an argument out of its range.
        AudioError: In the call, for an input that is not `(batch, samples)` or is too short.
    """

    def __init__(
        self,
        n_fft: int = 2048,
        hop_length: int = 512,
        win_length: int | None = None,
        window: Literal["hann", "hamming"] = "hann",
        center: bool = True,
        pad_mode: Literal["constant", "reflect"] = "constant",
        power: float = 2.0,
        method: Literal["fft", "conv"] = "fft",
        *,
        name: str | None = None,
    ):
        super().__init__(name=name)
        if not n_fft >= 2:
            raise ValueError(f"n_fft must be at least 2 samples, got {n_fft}.")
        if not 1 <= hop_length <= n_fft:
            raise ValueError(
                f"hop_length must be 1 to n_fft = {n_fft} samples (beyond that, samples between frames are "
                f"lost), got {hop_length}."
            )
        if win_length is not None and not 2 <= win_length <= n_fft:
            raise ValueError(f"win_length must be 2 to n_fft = {n_fft} samples, or None, got {win_length}.")
        for argument, value, known in (
            ("window", window, tuple(_WINDOWS)),
            ("pad_mode", pad_mode, ("constant", "reflect")),
            ("power", power, (2.0, 1.0)),
            ("method", method, ("fft", "conv")),
        ):
            if value not in known:
                raise ValueError(f"{argument} must be one of {known}, got {value!r}.")
        self.n_fft = n_fft
        self.hop_length = hop_length
        self.win_length = win_length
        self.window = window
        self.center = center
        self.pad_mode = pad_mode
        self.power = power
        self.method = method
        self.n_bins = n_fft // 2 + 1
        self._padding = n_fft // 2 if center else 0
        self._block = math.gcd(n_fft, hop_length)
        self._in_products = method == "conv" and self._block >= MIN_BLOCK

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Compute the constants of the chosen method in float64, rounded once."""
        window = _padded_window(self.window, self.win_length or self.n_fft, self.n_fft)
        if self._in_products:
            *stages, self._bins = _dft_stages(window, self._block)
            self._stages = [stage.astype("float32") for stage in stages]
            self._row_of_bin = np.unique(self._bins, return_index=True)[1]
        elif self.method == "conv":
            self._kernel = _dft_kernel(window).astype("float32")
        else:
            self._window = window.astype("float32")

    def call(self, waveform: Any) -> Any:
        """Return the spectrogram `(batch, n_bins, frames)` of `(batch, samples)`."""
        return self.pooled(waveform)

    def pooling(self, filters: np.ndarray) -> list[tuple[int, int, np.ndarray]]:
        """Return filters `(bands, n_bins)` as `pooled` takes them: in parts, each without most of its zeros.

        The layer must have been built.
        """
        if self._in_products:  # each bin from one of the rows that hold it
            scattered = np.zeros((len(filters), len(self._bins)), filters.dtype)
            scattered[:, self._row_of_bin] = filters
            filters = scattered
        parts = []
        for part in np.array_split(filters, min(FILTER_PARTS, len(filters))):
            used = np.flatnonzero(part.any(axis=0))
            first, last = (used[0], used[-1]) if len(used) else (0, 0)
            part = part[:, first : last + 1]
            parts.append((int(first), int(last) + 1, part if self._in_products else part.T.copy()))
        return parts

    def pooled(
        self,
        waveform: Any,
        pooling: Sequence[tuple[int, int, np.ndarray]] | None = None,
        select: Callable[[Any], Any] | None = None,
    ) -> Any:
        """Return the spectrogram's bands, computed from as many frames at a time as a CPU's cache holds.

        Args:
            waveform: `(batch, samples)`.
            pooling: Of the filters that make the bands, as from `pooling`; None: every bin is a band.
            select: From the number of frames to the numbers of those that are wanted, as
                `FrameSelection.frames`; None: all.

        Returns:
            `(batch, bands, frames)`.
        """
        self.compute_output_shape(waveform.shape)
        if self._padding:
            waveform = ops.pad(waveform, ((0, 0), (self._padding, self._padding)), mode=self.pad_mode)
        hop = self.hop_length
        frames = 1 + (ops.shape(waveform)[1] - self.n_fft) // hop
        if select is not None:
            starts = ops.expand_dims(hop * select(frames), 1)
            waveform = ops.take(waveform, starts + ops.arange(self.n_fft, dtype="int32"), axis=1)
            frames, hop = waveform.shape[1], self.n_fft
            waveform = ops.reshape(waveform, (-1, frames * self.n_fft))
        if not isinstance(frames, int):
            return self._bands(waveform, hop, pooling)
        at_once = max(BLOCK_SAMPLES // self.n_fft, -(-frames // MAX_BLOCKS))
        blocks = [
            self._bands(waveform[:, first * hop : (last - 1) * hop + self.n_fft], hop, pooling)
            for first, last in ((i, min(i + at_once, frames)) for i in range(0, frames, at_once))
        ]
        return blocks[0] if len(blocks) == 1 else ops.concatenate(blocks, axis=-1)

    def _bands(self, padded: Any, hop: int, pooling: Sequence | None) -> Any:
        """Return the bands of all frames of a waveform that needs no more padding."""
        transform = self._fft if self.method == "fft" else self._conv
        real, imaginary = (self._products if self._in_products else transform)(padded, hop)
        power = ops.square(real) + ops.square(imaginary)
        if self.power == 1:
            power = ops.sqrt(ops.maximum(power, _SMALLEST_POWER))
        if self._in_products:  # (batch, rows, frames)
            if pooling is None:
                return ops.take(power, self._row_of_bin, axis=1)
            return ops.concatenate([ops.matmul(part, power[:, a:b]) for a, b, part in pooling], axis=1)
        if pooling is not None:  # (batch, frames, bins)
            power = ops.concatenate([ops.matmul(power[..., a:b], part) for a, b, part in pooling], axis=-1)
        return ops.swapaxes(power, 1, 2)

    def _fft(self, padded: Any, hop: int) -> tuple[Any, Any]:
        return ops.stft(padded, self.n_fft, hop, self.n_fft, window=self._window, center=False)

    def _conv(self, padded: Any, hop: int) -> tuple[Any, Any]:
        both = ops.conv(
            ops.expand_dims(padded, -1),
            self._kernel,
            strides=hop,
            padding="valid",
            data_format="channels_last",
        )
        return both[..., : self.n_bins], both[..., self.n_bins :]

    def _products(self, padded: Any, hop: int) -> tuple[Any, Any]:
        """Cooley and Tukey's factors of the transform as matrix products: `(batch, rows, frames)`."""
        first, real, imaginary = self._stages
        columns, outputs, _ = first.shape
        stride, pieces, length = hop // self._block, self.n_fft // self._block, self._block // columns
        frames = 1 + (ops.shape(padded)[1] - self.n_fft) // hop
        span = (frames - 1) * stride + 1
        blocks = padded[:, : (span + pieces - 1) * self._block]
        blocks = ops.swapaxes(ops.reshape(blocks, (-1, (span + pieces - 1) * length, columns)), 1, 2)
        blocks = ops.swapaxes(ops.reshape(blocks, (-1, columns, span + pieces - 1, length)), 2, 3)
        framed = ops.concatenate([blocks[..., i : i + span : stride] for i in range(pieces)], axis=2)
        halfway = ops.reshape(ops.matmul(first, framed), (-1, 2 * columns, outputs // 2 * frames))
        return tuple(
            ops.reshape(ops.matmul(part, halfway), (-1, len(self._bins), frames))
            for part in (real, imaginary)
        )

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Return `(batch, n_bins, frames)`; `frames` is None while the number of samples is."""
        if len(input_shape) != 2:
            raise AudioError(
                f"{self.name} expects waveforms of shape (batch, samples), got shape {tuple(input_shape)}; "
                "a single mono waveform needs a batch axis: waveform[None]."
            )
        batch, samples = input_shape
        if samples is None:
            return batch, self.n_bins, None
        if samples < self.min_length(1):
            raise AudioError(
                f"{self.name} needs at least {self.min_length(1)} samples (n_fft={self.n_fft}, "
                f"center={self.center}, pad_mode={self.pad_mode!r}), got {samples}; pad it with zeros."
            )
        return batch, self.n_bins, 1 + (samples + 2 * self._padding - self.n_fft) // self.hop_length

    def min_length(self, length: int) -> int:
        """Return the fewest samples that give `length` frames, and that the padding can work on."""
        framed = (length - 1) * self.hop_length + self.n_fft - 2 * self._padding
        return max(framed, self._padding + 1 if self.pad_mode == "reflect" and self.center else 1)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return super().get_config() | {
            "n_fft": self.n_fft,
            "hop_length": self.hop_length,
            "win_length": self.win_length,
            "window": self.window,
            "center": self.center,
            "pad_mode": self.pad_mode,
            "power": self.power,
            "method": self.method,
        }


def _padded_window(window: str, win_length: int, n_fft: int) -> np.ndarray:
    """Return the periodic window in float64, centred between zeros: `(n_fft,)`."""
    constant, cosine = _WINDOWS[window]
    taps = constant - cosine * np.cos(2 * np.pi * np.arange(win_length) / win_length)
    left = (n_fft - win_length) // 2
    return np.pad(taps, (left, n_fft - win_length - left))


def _dft_kernel(window: np.ndarray) -> np.ndarray:
    """Return the windowed real transform as a convolution kernel in float64: `(n_fft, 1, 2 * n_bins)`.

    The first half of the outputs are real parts, the second imaginary parts.
    """
    n_fft = len(window)
    # Turns of the circle as integers, reduced before the cosine: exact for any n_fft.
    turns = np.outer(np.arange(n_fft), np.arange(n_fft // 2 + 1)) % n_fft
    circle = 2 * np.pi * np.arange(n_fft) / n_fft
    kernel = np.concatenate([np.cos(circle)[turns], -np.sin(circle)[turns]], axis=1)
    return (window[:, None] * kernel)[:, None, :]


def _dft_stages(window: np.ndarray, block: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return the windowed real transform as two real matrices in float64, the second in two parts.

    After Cooley and Tukey (1965): samples `columns * a + b`, bins `k + rows * l`, `n_fft = rows * columns`.
    As the signal is real, bin `n_fft - i` has the power of bin `i`, and half of the `k` are enough.

    Args:
        window: `(n_fft,)`.
        block: Divisor of `n_fft`, which `columns` must divide.

    Returns:
        For each `b`, from `a` to real and imaginary parts of `k`, `(columns, 2 * ks, rows)`; from real and
        imaginary parts of `b` to the real part of `l`, `(columns, 2 * columns)`; the same for its imaginary
        part; the bin in each row of the result, `(columns * ks,)`, rising but for what one `l` holds.
    """
    n_fft = len(window)

    def cost(columns: int) -> int:
        ks = n_fft // columns // 2 + 1
        return 2 * n_fft * ks + (2 * columns) ** 2 * ks

    columns = min((each for each in range(1, block + 1) if block % each == 0), key=cost)
    rows = n_fft // columns
    circle = np.exp(-2j * np.pi * np.arange(n_fft) / n_fft)
    a, b, k = np.arange(rows), np.arange(columns)[:, None, None], np.arange(rows // 2 + 1)[:, None]
    first = circle[(columns * a + b) * k % n_fft] * window[columns * a + b]
    low = np.arange(columns)
    ends = np.stack([low, columns - 1 - low], 1).ravel()[:columns]  # 0, the last, 1, the last but one, ...
    second = circle[rows * ends[:, None] * low % n_fft]
    bins = (rows * ends[:, None] + k[:, 0]).ravel()
    return (
        np.concatenate([first.real, first.imag], 1),
        np.stack([second.real, -second.imag], -1).reshape(columns, -1),
        np.stack([second.imag, second.real], -1).reshape(columns, -1),
        np.minimum(bins, n_fft - bins),
    )
