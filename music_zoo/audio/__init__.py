"""Audio in: any file or array to mono float32 samples at a given rate, cut into windows; no Keras."""

from music_zoo.audio.arrays import from_array, is_constant
from music_zoo.audio.decode import load, probe, stream
from music_zoo.audio.find import find_audio
from music_zoo.audio.readers import AudioInfo
from music_zoo.audio.resample import resample, resample_blocks
from music_zoo.audio.windows import Window, split, times

__all__ = [
    # files
    "find_audio",
    "AudioInfo",
    "probe",
    "load",
    "stream",
    # arrays
    "from_array",
    "is_constant",
    "resample",
    "resample_blocks",
    # windows
    "Window",
    "split",
    "times",
]
