"""Synthesise the twelve seconds of music that the repository ships: drums, bass, chords, a lead.

    python examples/make_demo_song.py examples/demo.ogg

Own one to try things on: no recording, no samples, nobody's rights.
"""

import sys

import numpy as np
import soundfile

RATE = 44_100
BEAT = 0.5  # seconds, at 120 beats per minute
BARS = 6
CHORDS = [(57, 60, 64), (53, 57, 60), (48, 52, 55), (55, 59, 62)]  # A minor, F, C, G, as MIDI notes


def main(path: str) -> None:
    """Write the song to `path`, in the format that its suffix names."""
    rng = np.random.default_rng(7)
    song = np.zeros((round(BARS * 4 * BEAT * RATE) + RATE, 2))

    def add(sound: np.ndarray, beat: float, pan: float = 0.0) -> None:
        start = round(beat * BEAT * RATE)
        song[start : start + len(sound)] += sound[:, None] * [1 - max(pan, 0), 1 + min(pan, 0)]

    for beat in range(BARS * 4):
        chord = CHORDS[beat // 4 % 4]
        add(kick(), beat)
        add(hat(rng), beat + 0.5, pan=0.3)
        if beat % 2:
            add(clap(rng), beat, pan=-0.1)
        for half in (0.0, 0.5):
            add(0.25 * saw(chord[0] - 24, 0.22), beat + half)
        if beat % 4 == 0:
            for i, note in enumerate(chord):
                add(0.07 * saw(note, 1.9, attack=0.1), beat, pan=0.4 * (i - 1))
        if beat >= 8:
            for step in range(4):
                add(0.08 * saw(chord[step % 3] + 12, 0.11), beat + step / 4, pan=-0.5 + step / 3)
    song = np.tanh(1.2 * song[: round(BARS * 4 * BEAT * RATE)])
    soundfile.write(path, 0.8 * song / np.abs(song).max(), RATE)
    print(f"wrote {path}: {len(song) / RATE:.1f} s")


def envelope(seconds: float, attack: float = 0.004, decay: float = 4.0) -> np.ndarray:
    """Rise for `attack` seconds, then fall exponentially."""
    t = np.arange(round(seconds * RATE)) / RATE
    return np.minimum(t / attack, 1) * np.exp(-decay * t / seconds)


def saw(note: int, seconds: float, attack: float = 0.004) -> np.ndarray:
    """A sawtooth of twelve partials."""
    t = np.arange(round(seconds * RATE)) / RATE
    frequency = 440 * 2 ** ((note - 69) / 12)
    partials = sum(np.sin(2 * np.pi * k * frequency * t) / k for k in range(1, 13))
    return partials * envelope(seconds, attack)


def kick() -> np.ndarray:
    """A sine that falls from 160 to 45 Hz."""
    t = np.arange(round(0.3 * RATE)) / RATE
    return np.sin(2 * np.pi * (45 * t - 115 / 30 * np.exp(-30 * t))) * envelope(0.3)


def hat(rng: np.random.Generator) -> np.ndarray:
    """A short burst of noise without its low end."""
    return 0.15 * np.diff(rng.standard_normal(round(0.08 * RATE) + 1)) * envelope(0.08)


def clap(rng: np.random.Generator) -> np.ndarray:
    """A burst of noise."""
    return 0.3 * rng.standard_normal(round(0.18 * RATE)) * envelope(0.18, decay=6)


if __name__ == "__main__":
    main(*sys.argv[1:])
