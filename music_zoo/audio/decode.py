"""Any audio file to mono float32 samples, whole or block by block in bounded memory.

What can be wrong with a file is found here, each mistake with its own message. Truncation is found, by
experiment with libsndfile 1.2.2 and FFmpeg 8,

- where the header announces more than can be decoded: WAV, AIFF, AU, FLAC, MP3 with a Xing, Info or VBRI
  frame, MP4/M4A, WavPack, TTA; where the end mark is missing: OGG Vorbis and Opus; where a packet is torn:
  raw AAC;
- but not where nothing in the file tells how long it was: MP3 without such a frame, W64, WAV written to a
  pipe, MPEG-TS, AC-3; nor in Matroska and WebM, whose length may be that of the video.

mpg123, the MP3 decoder in libsndfile, writes notes on broken files ("Illegal Audio-MPEG-Header ...") to the
standard error of the process. libsndfile has no switch for them, and redirecting that descriptor would
disturb other threads.
"""

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np

from music_zoo.audio.arrays import check_finite, check_sample_rate, mix
from music_zoo.audio.readers import AudioInfo, Reader, open_reader
from music_zoo.audio.resample import resample_blocks
from music_zoo.errors import AudioError

# Encoders pad and decoders trim by up to some thousand samples: a loss below this (in seconds) may be no
# loss.
TRUNCATION_TOLERANCE = 0.25


def probe(path: str | os.PathLike) -> AudioInfo:
    """Read the header of an audio file; the audio itself is not looked at.

    Raises:
        AudioError: No file, a folder, an empty file, no audio file, an implausible sample rate.
    """
    with closing(open_reader(Path(path))) as reader:
        return reader.info


def load(
    path: str | os.PathLike, sample_rate: int | None = None, *, allow_truncated: bool = False
) -> tuple[np.ndarray, int]:
    """Decode a whole file, as `librosa.load(path, sr=sample_rate)` does.

    The result equals librosa's, but for the end of an MP3 without a Xing, Info or VBRI frame: librosa stops
    where libsndfile guesses the end, some samples too early, or minutes where the bit rate varies.

    Args:
        path: The file.
        sample_rate: Of the result in Hz; None keeps the file's own.
        allow_truncated: Take what can be decoded of a truncated or damaged file.

    Returns:
        The mean of the channels, float32 (samples,) with full scale at 1, and its sample rate in Hz.

    Raises:
        AudioError: As `stream`.
    """
    rate = probe(path).sample_rate if sample_rate is None else sample_rate
    return np.concatenate(list(stream(path, rate, allow_truncated=allow_truncated))), int(rate)


def stream(
    path: str | os.PathLike,
    sample_rate: int | None = None,
    *,
    block_seconds: float = 10.0,
    allow_truncated: bool = False,
) -> Iterator[np.ndarray]:
    """Decode a file block by block; the blocks joined are what `load` returns.

    Memory holds about one block, however long the file. It is opened when the first block is asked for.

    Args:
        path: The file.
        sample_rate: Of the blocks in Hz; None keeps the file's own, which `probe` tells.
        block_seconds: Length of a block, about; the last one is shorter.
        allow_truncated: Take what can be decoded of a truncated or damaged file.

    Yields:
        The mean of the channels, float32 (samples,) with full scale at 1, never empty.

    Raises:
        AudioError: No file, a folder, an empty file, no audio file, no audio in it, an implausible sample
            rate; NaN or infinity, when it is reached; a truncated or damaged file, when its end is reached.
    """
    if not block_seconds > 0:
        raise ValueError(f"block_seconds must be positive, got {block_seconds}")
    if sample_rate is not None:
        check_sample_rate(sample_rate, "sample_rate")
    with closing(open_reader(Path(path))) as reader:
        own_rate = reader.info.sample_rate
        blocks = _mono(reader, max(1, round(block_seconds * own_rate)), allow_truncated)
        yield from resample_blocks(blocks, own_rate, own_rate if sample_rate is None else sample_rate)


def _mono(reader: Reader, frames: int, allow_truncated: bool) -> Iterator[np.ndarray]:
    """Yield checked mono blocks at the file's own rate; judges at the end whether that came too early."""
    info, decoded = reader.info, 0
    for block in reader.blocks(frames):
        mono = mix(block)
        check_finite(mono, info.sample_rate, info.path, start=decoded)
        decoded += len(mono)
        yield mono

    if decoded == 0:
        announced = f" though its header announces {info.duration:.2f} s" if info.frames else ""
        raise AudioError(
            f"{info.path} holds no audio: 0 samples can be decoded{announced}; get the file again"
        )
    if info.frames is not None and info.frames - decoded > TRUNCATION_TOLERANCE * info.sample_rate:
        fault = f"its header announces {info.duration:.2f} s"
    else:
        fault = reader.fault
    if fault and not allow_truncated:
        raise AudioError(
            f"{info.path} is truncated or damaged: {decoded / info.sample_rate:.2f} s can be decoded, "
            f"but {fault}; get the whole file, or pass allow_truncated=True to take what is there"
        )
