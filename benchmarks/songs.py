"""Synthesised audio files: each different, with what costs decoders and networks as much as music does."""

from pathlib import Path

import numpy as np
import soundfile

SAMPLE_RATE = 44_100
SONG_SECONDS = 180


def song(seconds: float, seed: int = 0) -> np.ndarray:
    """Return chords that change twice a second, drums and noise: `(samples, 2)` float32 at 44.1 kHz."""
    rng = np.random.default_rng(seed)
    beat = SAMPLE_RATE // 2
    t = np.arange(beat, dtype=np.float32) / SAMPLE_RATE
    fade, hiss = np.exp(-6 * t), rng.standard_normal((beat, 2), dtype=np.float32)
    beats = []
    for _ in range(-(-round(seconds * SAMPLE_RATE) // beat)):
        notes = 55 * 2 ** (rng.integers(0, 60, 4) / 12)
        chord = sum(np.sin(2 * np.pi * hz * k * t, dtype=np.float32) / k for hz in notes for k in (1, 2, 3))
        level = rng.uniform(0.02, 0.3, 2).astype(np.float32)
        beats.append(0.05 * (chord * fade)[:, None] + level * fade[:, None] ** 4 * hiss + 0.003 * hiss[::-1])
    return np.concatenate(beats)[: round(seconds * SAMPLE_RATE)]


def write(path: Path, seconds: float = SONG_SECONDS, seed: int = 0) -> Path:
    """Write a song in the format that the name says."""
    samples = song(seconds, seed)
    with soundfile.SoundFile(path, "w", SAMPLE_RATE, 2) as file:
        for start in range(0, len(samples), SAMPLE_RATE):  # libsndfile's Vorbis encoder fails on long writes
            file.write(samples[start : start + SAMPLE_RATE])
    return path


def write_long(path: Path, hours: float) -> Path:
    """Write one mono file in FLAC, the same second over and over: quick to write, small."""
    t = np.arange(SAMPLE_RATE) / SAMPLE_RATE
    second = (8000 * np.sign(np.sin(2 * np.pi * 110 * t))).astype(np.int16)
    minute = np.tile(second, 60)
    with soundfile.SoundFile(path, "w", SAMPLE_RATE, 1, subtype="PCM_16") as file:
        for _ in range(round(hours * 60)):
            file.write(minute)
    return path
