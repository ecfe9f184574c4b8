"""A segment of an audio file, of which little more is decoded; no Keras, so that workers start fast."""

import math
import os
from pathlib import Path

import numpy as np
import soundfile as sf

from music_zoo.audio import load, probe, resample
from music_zoo.audio.arrays import check_finite, mix
from music_zoo.audio.readers import AudioInfo
from music_zoo.errors import AudioError

# Decoded before and after a segment, in seconds, and cut off after the resampling, whose filter needs it.
MARGIN = 0.05
# After a seek an MP3 decoder lacks the bits that earlier frames have saved up: found wrong were up to six
# frames of 576 samples. Decoded before a segment of MP3, in samples.
MP3_MARGIN = 10_000


def read_segment(path: str | os.PathLike, samples: int, sample_rate: int, position: float) -> np.ndarray:
    """Decode a segment of a file; it is what `music_zoo.audio.load` gives there.

    The decoder seeks to the segment where the file says how long it is and libsndfile reads it. Other files
    are decoded whole, and so is Ogg, since libsndfile 1.2.2 takes a place on its last page for another, some
    hundred samples off. A file shorter than the segment is repeated.

    Args:
        path: The file.
        samples: Length of the segment.
        sample_rate: Of the segment in Hz.
        position: Where it lies, from 0 (the beginning of the file) to below 1 (its end).

    Returns:
        The mean of the channels, `(samples,)` float32.

    Raises:
        AudioError: A file that cannot be used, or is damaged there.
    """
    info = probe(path)
    is_long = info.frames is not None and info.frames * sample_rate >= samples * info.sample_rate
    if is_long and info.format != "OGG":
        segment = _sought(info, samples, sample_rate, position)
        if segment is not None:
            return segment
    audio, _ = load(path, sample_rate)
    if len(audio) <= samples:
        return np.resize(audio, samples)  # numpy.resize repeats
    start = int(position * (len(audio) - samples + 1))
    return audio[start : start + samples].copy()


def try_segment(path: Path, samples: int, sample_rate: int, position: float) -> np.ndarray | str:
    """Return `read_segment`, or a message why it could not be read."""
    try:
        return read_segment(path, samples, sample_rate, position)
    except (AudioError, OSError) as error:
        return str(error)


def _sought(info: AudioInfo, samples: int, sample_rate: int, position: float) -> np.ndarray | None:
    """Return a segment found by seeking; None if libsndfile does not read the file."""
    # Segments begin where a sample of the file and one of the result coincide, every so many of each.
    divisor = math.gcd(info.sample_rate, sample_rate)
    own_step, step = info.sample_rate // divisor, sample_rate // divisor
    starts = (info.frames * sample_rate // info.sample_rate - samples) // step + 1
    margin = math.ceil(MARGIN * info.sample_rate / own_step)
    first = int(position * starts)
    before = min(first, margin + (info.format == "MP3") * math.ceil(MP3_MARGIN / own_step))
    count = (before + math.ceil(samples / step) + margin) * own_step
    try:
        # As bytes, because soundfile cannot encode names that are no text; on Windows all are text.
        with sf.SoundFile(info.path if os.name == "nt" else os.fsencode(info.path)) as file:
            file.seek((first - before) * own_step)
            block = file.read(count, dtype="float32", always_2d=True)
    except TypeError:  # a *.raw, whose format soundfile wants spelt out
        return None
    except sf.LibsndfileError as error:
        if _opens(info.path):
            raise AudioError(f"{info.path} is damaged: its decoder fails: {error}") from error
        return None
    audio = mix(block)
    check_finite(audio, info.sample_rate, info.path, start=(first - before) * own_step)
    segment = resample(audio, info.sample_rate, sample_rate)[before * step : before * step + samples]
    if len(segment) < samples:
        raise AudioError(
            f"{info.path} is truncated: its header announces {info.duration:.2f} s, of which "
            f"{samples / sample_rate:.2f} s from {first * step / sample_rate:.2f} s on cannot be decoded; "
            "get the file again"
        )
    return segment


def _opens(path: Path) -> bool:
    try:
        sf.SoundFile(path if os.name == "nt" else os.fsencode(path)).close()
    except sf.LibsndfileError:
        return False
    return True
