"""What audio goes through between a studio and a listener: the perturbations of Won et al. (SMC 2020).

They are those of the study's published `robustness.py`, which took them from MUDA (McFee et al., ISMIR 2015):

- time stretch by the factors 2^-0.5 and 2^0.5 and pitch shift by -1 and +1 semitone, by librosa's phase
  vocoder as there. Which of each pair the study's figures show is not said; here both are rows;
- dynamic range compression by the two presets that MUDA hands to sox's `compand`. Here FFmpeg's filter
  `compand` does it, a port of sox's: the same follower of levels (attack 0.1 s, decay 0.3 s, looking 0.1 s
  ahead) and the same curve, with corners rounded by 0.01 dB. As in sox, samples are clipped to -1 to 1 first;
- white noise whose peak is the signal's highest sample, faded in by 0.1 and 0.4.

All take and return mono float32 `(samples,)` and leave silence silent.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from types import ModuleType

import numpy as np

from music_zoo.errors import MusicZooError

#: From a waveform, its sample rate in Hz and a generator to draw from to another waveform at that rate.
Perturbation = Callable[[np.ndarray, int, np.random.Generator], np.ndarray]

#: Of each preset, level in and level out in dB of full scale; between the points the curve is linear.
COMPRESSION_PRESETS = {
    "music": ((-90, -90), (-70, -58), (-55, -43), (-31, -31), (-21, -21), (0, -20)),
    "speech": ((-90, -90), (-70, -55), (-50, -35), (-31, -31), (-21, -21), (0, -20)),
}


def time_stretch(audio: np.ndarray, factor: float) -> np.ndarray:
    """Play `factor` times as fast at the same pitch: `samples / factor` samples."""
    with _quiet_librosa() as effects:
        return effects.time_stretch(audio, rate=factor)


def pitch_shift(audio: np.ndarray, sample_rate: int, semitones: float) -> np.ndarray:
    """Raise the pitch at the same speed; the length stays."""
    with _quiet_librosa() as effects:
        return effects.pitch_shift(audio, sr=sample_rate, n_steps=semitones)


def compress(audio: np.ndarray, sample_rate: int, preset: str) -> np.ndarray:
    """Compress the dynamic range by a preset of `COMPRESSION_PRESETS`; the length stays."""
    try:
        import av
    except ImportError as error:
        raise _missing("PyAV") from error
    points = "|".join(f"{level}/{out}" for level, out in COMPRESSION_PRESETS[preset])
    graph = av.filter.Graph()
    source = graph.add_abuffer(
        sample_rate=sample_rate, format="dblp", layout="mono", time_base=Fraction(1, sample_rate)
    )
    compand = graph.add(
        "compand", f"attacks=0.1:decays=0.3:points={points}:soft-knee=0.01:gain=0:volume=0:delay=0.1"
    )
    sink = graph.add("abuffersink")
    source.link_to(compand)
    compand.link_to(sink)
    graph.configure()
    samples = np.clip(audio, -1, 1, dtype=np.float64)[np.newaxis]
    frame = av.AudioFrame.from_ndarray(samples, format="dblp", layout="mono")
    frame.sample_rate = sample_rate
    graph.push(frame)
    graph.push(None)
    pieces = []
    while True:
        try:
            pieces.append(graph.pull().to_ndarray()[0])
        except EOFError:
            return np.concatenate(pieces).astype(np.float32)


def white_noise(audio: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Return `(1 - share) * audio + share * noise`, Gaussian noise with its peak at the highest sample."""
    noise = rng.standard_normal(len(audio), dtype=np.float32)
    noise *= audio.max() / np.abs(noise).max()
    return (1 - share) * audio + share * noise


PERTURBATIONS: dict[str, Perturbation] = {
    "time_stretch_0.71": lambda audio, rate, rng: time_stretch(audio, 2**-0.5),
    "time_stretch_1.41": lambda audio, rate, rng: time_stretch(audio, 2**0.5),
    "pitch_shift_-1": lambda audio, rate, rng: pitch_shift(audio, rate, -1),
    "pitch_shift_+1": lambda audio, rate, rng: pitch_shift(audio, rate, 1),
    "compression_music": lambda audio, rate, rng: compress(audio, rate, "music"),
    "compression_speech": lambda audio, rate, rng: compress(audio, rate, "speech"),
    "noise_0.1": lambda audio, rate, rng: white_noise(audio, 0.1, rng),
    "noise_0.4": lambda audio, rate, rng: white_noise(audio, 0.4, rng),
}


@contextmanager
def _quiet_librosa() -> Iterator[ModuleType]:
    """Give librosa's effects, without its warnings about audio that is shorter than a frame."""
    try:
        import librosa
    except ImportError as error:
        raise _missing("librosa") from error
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "n_fft=.* is too large")
        yield librosa.effects


def _missing(package: str) -> MusicZooError:
    return MusicZooError(f'perturbing audio needs {package}: pip install "music-zoo[robustness]"')
