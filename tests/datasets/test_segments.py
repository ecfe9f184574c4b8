import math

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from music_zoo.audio import load, probe
from music_zoo.datasets.segments import read_segment, try_segment
from music_zoo.errors import AudioError


def sweep(seconds, rate, channels=1):
    t = np.arange(round(seconds * rate)) / rate
    mono = 0.4 * np.sin(2 * np.pi * (100 + 150 * t) * t)
    return np.stack([mono, -0.3 * mono][:channels], axis=1).astype(np.float32)


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3", "au"])
@pytest.mark.parametrize(("own", "rate"), [(44_100, 16_000), (22_050, 22_050), (16_000, 22_050)])
def test_a_segment_is_what_load_gives_there(tmp_path, suffix, own, rate):
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, sweep(4, own, channels=2), own)
    whole, _ = load(path, rate)
    step = rate // math.gcd(own, rate)
    samples = rate // 2 + 7
    for position in (0.0, 0.31, 0.77, 0.9999):
        segment = read_segment(path, samples, rate, position)
        start = int(position * ((len(whole) - samples) // step + 1)) * step
        if suffix == "ogg":  # decoded whole, and cut anywhere
            start = int(position * (len(whole) - samples + 1))
        assert segment.shape == (samples,) and segment.dtype == np.float32
        np.testing.assert_allclose(segment, whole[start : start + samples], atol=2e-4)


def test_positions_reach_from_the_beginning_to_the_end(write_wav):
    audio = np.linspace(-1, 1, 1000, dtype=np.float32)
    path = write_wav("a.wav", audio)
    assert read_segment(path, 100, 8000, 0.0)[0] == audio[0]
    assert read_segment(path, 100, 8000, np.nextafter(1, 0))[-1] == audio[-1]
    np.testing.assert_array_equal(read_segment(path, 1000, 8000, 0.5), audio)


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    frames=st.integers(1, 4000),
    samples=st.integers(1, 3000),
    rates=st.sampled_from([(8000, 8000), (8000, 16_000), (11_025, 8000)]),
    position=st.floats(0, 1, exclude_max=True),
)
def test_a_segment_has_its_length_whatever_the_file(write_wav, frames, samples, rates, position):
    own, rate = rates
    path = write_wav("a.wav", np.ones(frames, np.float32), own)
    segment = read_segment(path, samples, rate, position)
    assert segment.shape == (samples,)
    assert np.isfinite(segment).all()


def test_a_short_file_is_repeated(write_wav):
    audio = np.arange(3, dtype=np.float32) / 4
    path = write_wav("a.wav", audio)
    np.testing.assert_array_equal(read_segment(path, 7, 8000, 0.9), audio[[0, 1, 2, 0, 1, 2, 0]])


def test_little_more_than_the_segment_is_decoded(tmp_path, monkeypatch):
    path = tmp_path / "long.flac"
    soundfile.write(path, sweep(60, 8000), 8000)
    read = []
    original = soundfile.SoundFile.read
    monkeypatch.setattr(
        soundfile.SoundFile, "read", lambda self, n, **k: read.append(n) or original(self, n, **k)
    )
    read_segment(path, 8000, 8000, 0.5)
    assert sum(read) < 2 * 8000


def test_what_is_wrong_is_told(tmp_path, write_wav):
    with pytest.raises(AudioError, match="there is no file"):
        read_segment(tmp_path / "none.wav", 10, 8000, 0)
    (tmp_path / "text.wav").write_text("no audio")
    with pytest.raises(AudioError, match="text.wav"):
        read_segment(tmp_path / "text.wav", 10, 8000, 0)
    path = write_wav("cut.wav", np.ones(8000, np.float32))
    path.write_bytes(path.read_bytes()[:16_000])
    assert "cut.wav is damaged" in try_segment(path, 1000, 8000, 0.9)
    assert "cut.wav is truncated" in try_segment(path, 1000, 8000, 0.45)
    bad = write_wav("nan.wav", np.full(8000, np.nan, np.float32))
    assert "expected finite samples" in try_segment(bad, 1000, 8000, 0.5)


def test_seeking_in_real_mp3(shared_data):
    paths = sorted((shared_data / "audio" / "fma-songs").glob("*.mp3"))
    stated = [path for path in paths if probe(path).frames]
    for path in stated[:3]:
        own = probe(path)
        step = 16_000 // math.gcd(own.sample_rate, 16_000)
        whole, _ = load(path, 16_000)
        start = int(0.6 * ((own.frames * 16_000 // own.sample_rate - 16_000) // step + 1)) * step
        segment = read_segment(path, 16_000, 16_000, 0.6)
        np.testing.assert_allclose(segment, whole[start : start + 16_000], atol=1e-4)
    assert stated
