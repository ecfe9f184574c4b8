"""Files of every format, rate, width and number of channels, against soundfile and librosa.load."""

import itertools
import tempfile
import tracemalloc
import wave
from pathlib import Path

import librosa
import numpy as np
import pytest
import soundfile as sf
from hypothesis import given, settings
from hypothesis import strategies as st

from music_zoo import audio

# librosa.load imports audioread, which imports modules that Python 3.13 has dropped.
pytestmark = pytest.mark.filterwarnings("ignore:'(aifc|audioop|sunau)' is deprecated:DeprecationWarning")

RATE = 44100


def noise(seconds: float, rate: int = RATE, channels: int = 2) -> np.ndarray:
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, (round(seconds * rate), channels))
    return samples.astype(np.float32)


def assert_equals_librosa(path: Path, sample_rate: int | None) -> None:
    expected, expected_rate = librosa.load(path, sr=sample_rate)
    samples, rate = audio.load(path, sample_rate)
    assert rate == expected_rate
    assert samples.dtype == np.float32
    assert samples.shape == expected.shape
    np.testing.assert_allclose(samples, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "subtype"),
    [
        *itertools.product(
            ["a.wav"], ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "IMA_ADPCM"]
        ),
        *itertools.product(["a.flac"], ["PCM_S8", "PCM_16", "PCM_24"]),
        *itertools.product(["a.aiff"], ["PCM_S8", "PCM_16", "PCM_24", "FLOAT"]),
        *[
            ("a.ogg", "VORBIS"),
            ("a.opus", "OPUS"),
            ("a.mp3", "MPEG_LAYER_III"),
            ("a.au", "PCM_16"),
            ("a.w64", "PCM_16"),
        ],
        *[("a.caf", "PCM_16"), ("a.rf64", "PCM_16")],
    ],
)
def test_every_format_and_bit_depth(tmp_path, name, subtype):
    path, rate = tmp_path / name, 48000
    container = {".opus": "OGG", ".au": "AU"}.get(path.suffix)
    sf.write(path, noise(0.7, rate), rate, subtype=subtype, format=container)
    for sample_rate in (None, 16000):
        assert_equals_librosa(path, sample_rate)
    info, reference = audio.probe(path), sf.info(path)
    assert (info.path, info.sample_rate, info.channels, info.format) == (path, rate, 2, reference.format)
    assert info.frames == reference.frames
    assert info.duration == reference.duration


@pytest.mark.parametrize("channels", [1, 2, 6, 8])
@pytest.mark.parametrize("rate", [4000, 8000, 11025, 22050, 44100, 96000, 192000])
def test_every_rate_and_number_of_channels(tmp_path, rate, channels):
    sf.write(tmp_path / "a.wav", noise(0.3, rate, channels), rate)
    for sample_rate in (None, 22050, 16000):
        assert_equals_librosa(tmp_path / "a.wav", sample_rate)


@pytest.mark.parametrize("mode", ["CONSTANT", "VARIABLE"])
@pytest.mark.parametrize("rate", [8000, 22050, 32000, 44100, 48000])
def test_every_kind_of_mp3(tmp_path, rate, mode):
    sf.write(tmp_path / "a.mp3", noise(2, rate), rate, bitrate_mode=mode)
    assert_equals_librosa(tmp_path / "a.mp3", 16000)


def test_real_songs_equal_librosa(shared_data):
    songs = sorted((shared_data / "audio").rglob("*.mp3")) + sorted((shared_data / "audio").glob("*.ogg"))
    assert songs
    for path in songs:
        for sample_rate in (None, 16000):
            expected, _ = librosa.load(path, sr=None)
            samples, rate = audio.load(path)
            # An MP3 without a Xing frame: librosa misses up to one frame at its end.
            missed = len(samples) - len(expected)
            assert missed == 0 or (audio.probe(path).frames is None and 0 < missed < 1152), path
            expected = np.append(expected, samples[len(expected) :])
            if sample_rate:
                expected = librosa.resample(expected, orig_sr=rate, target_sr=sample_rate)
            np.testing.assert_allclose(audio.load(path, sample_rate)[0], expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "samples", [np.zeros(5000), np.full(5000, 0.25), np.ones(1), np.full(5000, 1.0), np.full(9, -1.0)]
)
def test_silence_offset_full_scale_and_single_samples_decode(tmp_path, samples):
    sf.write(tmp_path / "a.wav", samples, RATE, subtype="FLOAT")
    np.testing.assert_array_equal(audio.load(tmp_path / "a.wav")[0], samples.astype(np.float32))
    assert_equals_librosa(tmp_path / "a.wav", 16000)


def test_samples_beyond_full_scale_stay_as_they_are(tmp_path):
    sf.write(tmp_path / "a.wav", np.array([0.0, 1.5, -2.5, 0.0]), RATE, subtype="FLOAT")
    np.testing.assert_array_equal(audio.load(tmp_path / "a.wav")[0], np.float32([0, 1.5, -2.5, 0]))


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    frames=st.integers(1, 9000),
    rates=st.tuples(*[st.sampled_from([4000, 11025, 16000, 22050, 44100, 48000])] * 2),
    block_seconds=st.floats(0.001, 1.0),
    suffix=st.sampled_from([".wav", ".flac", ".mp3", ".ogg"]),
)
def test_stream_joined_equals_load(frames, rates, block_seconds, suffix):
    rate, target_rate = rates
    if suffix == ".mp3":
        rate = max(rate, 11025)  # the lowest here that MP3 has
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"a{suffix}"
        sf.write(path, noise(1, 9000)[:frames], rate)
        whole, _ = audio.load(path, target_rate)
        blocks = list(audio.stream(path, target_rate, block_seconds=block_seconds))
        expected, _ = librosa.load(path, sr=target_rate)
    assert all(len(block) for block in blocks)
    np.testing.assert_array_equal(np.concatenate(blocks), whole)
    np.testing.assert_allclose(whole, expected, rtol=0, atol=1e-6)


def test_block_length_is_that_asked_for(tmp_path):
    sf.write(tmp_path / "a.flac", noise(2.5), RATE)
    lengths = [len(block) for block in audio.stream(tmp_path / "a.flac", block_seconds=1)]
    assert lengths == [44100, 44100, 22050]
    with pytest.raises(ValueError, match="block_seconds must be positive, got 0"):
        next(audio.stream(tmp_path / "a.flac", block_seconds=0))


def test_memory_does_not_grow_with_the_length_of_the_file(tmp_path):
    def peak_bytes(minutes: int) -> int:
        path = tmp_path / f"{minutes}.wav"
        with wave.open(str(path), "wb") as file:
            file.setparams((1, 1, 8000, 0, "NONE", ""))
            file.writeframes(np.random.default_rng(0).bytes(minutes * 60 * 8000))
        tracemalloc.start()
        for _ in audio.split(audio.stream(path, 16000), window=48000, hop=24000):
            pass
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    short, long = peak_bytes(2), peak_bytes(30)
    assert long < short * 1.1
    assert long < 6e6  # 30 minutes of float32 at 16 kHz are 115 MB


def test_paths_as_text_and_as_objects(tmp_path):
    path = tmp_path / "Ünïcødé – 音楽.wav"
    sf.write(path, noise(0.1), RATE)
    np.testing.assert_array_equal(audio.load(str(path))[0], audio.load(path)[0])


# An MP3 without the Xing frame that states its length


def without_xing_frame(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[data.index(b"\xff\xfb", 4) :])


@pytest.mark.parametrize("mode", ["CONSTANT", "VARIABLE"])
@pytest.mark.parametrize("id3", [b"", b"ID3\x03\0\0\0\0\x10\0" + bytes(2048)])
def test_mp3_without_xing_frame_is_decoded_to_its_end(tmp_path, mode, id3):
    av = pytest.importorskip("av")
    path = tmp_path / "a.mp3"
    loud_then_silent = noise(8) * (np.arange(8 * RATE) < 4 * RATE)[:, None]
    sf.write(path, loud_then_silent, RATE, bitrate_mode=mode)
    without_xing_frame(path)
    path.write_bytes(id3 + path.read_bytes() + b"TAG".ljust(128, b"\0"))

    with av.open(path) as container:
        expected = np.concatenate([frame.to_ndarray() for frame in container.decode(audio=0)], axis=1).mean(
            axis=0
        )
    samples, _ = audio.load(path)
    np.testing.assert_allclose(samples, expected, atol=2e-5)
    if mode == "VARIABLE":
        assert len(librosa.load(path, sr=None)[0]) < 0.8 * len(samples)  # the reason for all this
    assert audio.probe(path).frames is None
    assert audio.probe(path).duration is None
