"""Audio that is already in memory, to mono float32; and the checks that audio of any origin passes."""

import math

import numpy as np

from music_zoo.errors import AudioError

# Wider than what is recorded, from telephones to converters: outside, a number is in kHz, or a header is
# broken.
MIN_SAMPLE_RATE = 1_000
MAX_SAMPLE_RATE = 768_000


def from_array(audio, sample_rate: float | None) -> np.ndarray:
    """Turn an array of audio into mono, at its own rate.

    Args:
        audio: One clip of shape (samples,) or (channels, samples), librosa's convention; anything that
            `numpy.asarray` takes. Floats have their full scale at 1 and stay as they are. Integers are PCM
            and are divided by the full scale of their dtype (int16: 2**15); unsigned ones are centred first,
            as in WAV.
        sample_rate: Of the array, in Hz. It is only checked, but must be given: no array can tell it.

    Returns:
        The mean of the channels, float32 of shape (samples,).

    Raises:
        AudioError: A missing or implausible sample rate; no samples; (samples, channels) or another shape; a
            dtype that is not numeric or of 64-bit integers; NaN or infinity; PCM turned into floats without
            scaling.
    """
    rate = check_sample_rate(sample_rate, "sample_rate")
    audio = np.asarray(audio)
    if audio.ndim not in (1, 2):
        raise AudioError(
            f"expected one clip of shape (samples,) or (channels, samples), got shape {audio.shape}; "
            "give the clips of a batch one at a time"
        )
    if audio.size == 0:
        raise AudioError(f"the array holds no audio: its shape is {audio.shape}")
    if audio.ndim == 2 and audio.shape[0] > audio.shape[1]:
        raise AudioError(
            f"expected (channels, samples), got shape {audio.shape}, which looks like (samples, channels); "
            "give its transpose, audio.T"
        )
    samples = _to_float(audio)
    mono = mix(samples.T) if samples.ndim == 2 else samples
    check_finite(mono, rate, "the array")
    return mono


def _to_float(audio: np.ndarray) -> np.ndarray:
    """Copy samples of any numeric dtype to float32 with full scale at 1."""
    kind, bits = audio.dtype.kind, 8 * audio.dtype.itemsize
    if kind == "f":
        with np.errstate(over="ignore"):  # beyond float32 is infinity, which check_finite reports
            samples = audio.astype(np.float32)
        peak = float(np.abs(samples).max())
        if 100 < peak < math.inf:  # 40 dB above full scale is no recording
            raise AudioError(
                f"expected float samples between about -1 and 1, got a peak of {peak:g}; if they were 16-bit "
                "integers, give them as int16 or divide them by 32768"
            )
        return samples
    if kind not in "iu" or bits == 64:
        raise AudioError(
            f"expected samples as floats or as 8-, 16- or 32-bit integers, got dtype {audio.dtype}; "
            "give PCM in its own dtype, e.g. numpy.asarray(audio, numpy.int16)"
        )
    full_scale = 2.0 ** (bits - 1)
    return (audio / full_scale - (kind == "u")).astype(np.float32)


def mix(samples: np.ndarray) -> np.ndarray:
    """Return the mean of the channels: float32 (samples, channels) -> (samples,)."""
    first, *others = samples.T
    if not others:
        return first
    with np.errstate(invalid="ignore"):  # infinity minus infinity is NaN, which check_finite reports
        # Faster than mean(axis=1), and on one thread, unlike a product: each file has a thread of its own.
        mono = first + others[0]
        for channel in others[1:]:
            mono += channel
        mono /= len(samples.T)
    return mono


def is_constant(audio: np.ndarray) -> bool:
    """Tell silence and constant offset, audio of shape (samples,) in which there is nothing to classify."""
    return bool(audio.size == 0 or audio.min() == audio.max())


def check_sample_rate(rate: float | None, name: str) -> int:
    """Return a rate as an integer in Hz, or raise AudioError that calls it `name`."""
    if rate is None:
        raise AudioError(f"{name} is missing: give the rate of the samples in Hz, e.g. sample_rate=44100")
    try:
        hertz = int(rate)
    except (TypeError, ValueError, OverflowError):
        hertz = 0
    if hertz != rate or not MIN_SAMPLE_RATE <= hertz <= MAX_SAMPLE_RATE:
        in_khz = isinstance(rate, int | float) and MIN_SAMPLE_RATE <= rate * 1000 <= MAX_SAMPLE_RATE
        raise AudioError(
            f"{name} must be a whole number of Hz, {MIN_SAMPLE_RATE} to {MAX_SAMPLE_RATE}, got {rate!r}"
            + (f"; if that is kHz, give {rate * 1000:.0f}" if in_khz else "")
        )
    return hertz


def check_finite(audio: np.ndarray, sample_rate: int, name: object, start: int = 0) -> None:
    """Raise AudioError with the time of the first NaN or infinity; `start` is where the audio begins."""
    finite = np.isfinite(audio)
    if not finite.all():
        seconds = (start + int(finite.argmin())) / sample_rate
        raise AudioError(
            f"{name}: expected finite samples, found NaN or infinity at {seconds:.3f} s; cut it out, or "
            "make it silence with numpy.nan_to_num"
        )
