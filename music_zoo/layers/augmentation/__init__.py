"""Random changes of waveforms and log-mel images while training, as Keras layers on every backend."""

from music_zoo.layers.augmentation.base import Augmentation
from music_zoo.layers.augmentation.chains import CHAINS, Chain, clmr, multi_view, s3t
from music_zoo.layers.augmentation.pitch_shift import PitchShift
from music_zoo.layers.augmentation.reverb import Reverb
from music_zoo.layers.augmentation.segments import RandomCrop, TwoSegments
from music_zoo.layers.augmentation.spectrogram import (
    EqualizerTilt,
    FrequencyMasking,
    Gain,
    LogMelMixup,
    RandomResizedCrop,
    TimeMasking,
    TimeWarping,
)
from music_zoo.layers.augmentation.waveform import (
    Delay,
    HighLowPass,
    PolarityInversion,
    WaveformGain,
    WhiteNoise,
)

__all__ = [
    "Augmentation",
    # parts of a track
    "RandomCrop",
    "TwoSegments",
    # log-mel images
    "RandomResizedCrop",
    "TimeWarping",
    "TimeMasking",
    "FrequencyMasking",
    "Gain",
    "EqualizerTilt",
    "LogMelMixup",
    # waveforms
    "PolarityInversion",
    "WhiteNoise",
    "WaveformGain",
    "HighLowPass",
    "Delay",
    "PitchShift",
    "Reverb",
    # named chains
    "CHAINS",
    "Chain",
    "clmr",
    "multi_view",
    "s3t",
]
