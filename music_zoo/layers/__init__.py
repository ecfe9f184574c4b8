"""The preprocessing stack: waveform to features, equal to librosa, as Keras layers on every backend.

Waveforms are `(batch, samples)`, spectrograms `(batch, bands, frames)`. Layers treat every example by itself.
"""

from music_zoo.layers.compression import LogCompression
from music_zoo.layers.decibels import Decibels
from music_zoo.layers.frames import FrameSelection
from music_zoo.layers.front_end import FrontEnd
from music_zoo.layers.harmonic import HarmonicFilterBank
from music_zoo.layers.mel import MelFilterBank, mel_filter_bank
from music_zoo.layers.normalization import FixedStandardization, MinMaxNormalization, Standardization
from music_zoo.layers.pooling import GlobalPooling
from music_zoo.layers.stft import STFT

__all__ = [
    # the whole stack
    "FrontEnd",
    # its steps, in their usual order
    "STFT",
    "MelFilterBank",
    "HarmonicFilterBank",
    "Decibels",
    "LogCompression",
    "MinMaxNormalization",
    "Standardization",
    "FixedStandardization",
    "FrameSelection",
    # after the backbone
    "GlobalPooling",
    # constants
    "mel_filter_bank",
]
