"""Sample-rate conversion by soxr (quality HQ), whole or block by block, equal to librosa.resample."""

import math
from collections.abc import Iterable, Iterator

import numpy as np
import soxr

from music_zoo.audio.arrays import check_sample_rate


def resample(audio: np.ndarray, orig_sr: int, target_sr: int) -> np.ndarray:
    """Convert one signal, float32 (samples,), from `orig_sr` to `target_sr` Hz; see `resample_blocks`."""
    audio = np.asarray(audio, np.float32)
    return np.concatenate([audio[:0], *resample_blocks([audio], orig_sr, target_sr)])


def resample_blocks(blocks: Iterable[np.ndarray], orig_sr: int, target_sr: int) -> Iterator[np.ndarray]:
    """Convert a stream of audio, holding one block at a time.

    The filter runs on across the blocks: the joined output does not depend on how the input was cut.

    Args:
        blocks: Consecutive pieces of one signal, float32 of shape (samples,), of any lengths.
        orig_sr: Rate of the input in Hz.
        target_sr: Rate of the output in Hz.

    Yields:
        Pieces of the result, float32 of shape (samples,), ceil(samples * target_sr / orig_sr) in all.

    Raises:
        AudioError: An implausible rate.
    """
    orig_sr, target_sr = check_sample_rate(orig_sr, "orig_sr"), check_sample_rate(target_sr, "target_sr")
    if orig_sr == target_sr:
        yield from blocks
        return
    converter = soxr.ResampleStream(orig_sr, target_sr, num_channels=1, dtype="float32", quality="HQ")
    taken = given = 0
    for block in blocks:
        converted = converter.resample_chunk(block)
        taken, given = taken + len(block), given + len(converted)
        if len(converted):
            yield converted
    tail = converter.resample_chunk(np.empty(0, np.float32), last=True)
    # soxr rounds the length to the nearest sample; librosa rounds it up and adds one zero where they differ.
    length = math.ceil(taken * (target_sr / orig_sr))
    tail = np.pad(tail, (0, length - given - len(tail)))
    if len(tail):
        yield tail
