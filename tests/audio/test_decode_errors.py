"""Files that cannot be used: each mistake has its own message."""

import os
import re
import sys

import numpy as np
import pytest
import soundfile as sf

from music_zoo import audio
from music_zoo.errors import AudioError

RATE = 44100


def noise(seconds: float, channels: int = 2) -> np.ndarray:
    return np.random.default_rng(0).uniform(-0.5, 0.5, (round(seconds * RATE), channels)).astype(np.float32)


@pytest.fixture(
    params=[audio.probe, audio.load, lambda path: next(audio.stream(path))], ids=["probe", "load", "stream"]
)
def read(request):
    return request.param


def test_missing_file(tmp_path, monkeypatch, read):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        AudioError, match=f"there is no file song.mp3 .*{re.escape(str(tmp_path / 'song.mp3'))}"
    ):
        read("song.mp3")


def test_folder(tmp_path, read):
    with pytest.raises(AudioError, match="is a folder, not an audio file"):
        read(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_pipe(tmp_path, read):
    os.mkfifo(tmp_path / "pipe.wav")
    with pytest.raises(AudioError, match="pipe.wav is not a regular file"):
        read(tmp_path / "pipe.wav")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_file_without_permission(tmp_path, read):
    (tmp_path / "a.wav").write_bytes(b"RIFF")
    (tmp_path / "a.wav").chmod(0)
    with pytest.raises(AudioError, match="a.wav cannot be read: Permission denied"):
        read(tmp_path / "a.wav")


@pytest.mark.parametrize("name", ["a.mp3", "a.wav", "a.flac", "a"])
def test_empty_file(tmp_path, read, name):
    (tmp_path / name).touch()
    with pytest.raises(AudioError, match=f"{name} is empty \\(0 bytes\\)"):
        read(tmp_path / name)


@pytest.mark.parametrize("name", ["a.mp3", "a.wav", "a.ogg", "a.m4a", "a"])
@pytest.mark.parametrize("has_pyav", [True, False])
def test_text_renamed(tmp_path, monkeypatch, read, name, has_pyav):
    if has_pyav:
        pytest.importorskip("av")
    else:
        monkeypatch.setitem(sys.modules, "av", None)
    (tmp_path / name).write_text("Dear diary, this is no music.\n" * 100)
    readers = "neither libsndfile nor FFmpeg can read" if has_pyav else "libsndfile cannot read"
    with pytest.raises(AudioError, match=rf"{readers} .*{name}.*b'Dear diary, this'") as caught:
        read(tmp_path / name)
    assert ('pip install "music-zoo[media]"' in str(caught.value)) is not has_pyav


def test_samples_without_any_header(tmp_path, read):
    (tmp_path / "a.raw").write_bytes(bytes(1000))
    with pytest.raises(AudioError, match="a.raw"):
        read(tmp_path / "a.raw")


@pytest.mark.parametrize("name", ["a.mp3", "a.flac", "a.wav", "a.ogg"])
def test_random_bytes(tmp_path, read, name):
    (tmp_path / name).write_bytes(np.random.default_rng(0).bytes(100_000))
    with pytest.raises(AudioError, match=name):
        read(tmp_path / name)


def test_mp3_that_is_only_a_tag(tmp_path, read):
    (tmp_path / "a.mp3").write_bytes(b"ID3\x03\0\0\0\0\x10\0" + bytes(3000))
    with pytest.raises(AudioError, match="a.mp3"):
        read(tmp_path / "a.mp3")


@pytest.mark.parametrize("name", ["a.wav", "a.aiff"])
def test_no_samples(tmp_path, name):
    sf.write(tmp_path / name, np.empty((0, 2)), RATE)
    assert audio.probe(tmp_path / name).duration == 0
    with pytest.raises(AudioError, match=f"{name} holds no audio: 0 samples can be decoded"):
        audio.load(tmp_path / name)
    with pytest.raises(AudioError, match="holds no audio"):
        audio.load(tmp_path / name, 16000, allow_truncated=True)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("sample_rate", [None, 16000])
@pytest.mark.parametrize("channel", [0, 1, slice(None)])
def test_nan_and_infinity_are_found_with_their_time(tmp_path, bad, sample_rate, channel):
    samples = noise(13)
    samples[round(12.5 * RATE), channel] = bad
    sf.write(tmp_path / "a.wav", samples, RATE, subtype="FLOAT")
    with pytest.raises(
        AudioError, match=r"a\.wav: expected finite samples, found NaN or infinity at 12\.500 s"
    ):
        audio.load(tmp_path / "a.wav", sample_rate)


def test_opposite_infinities_are_found(tmp_path):
    samples = noise(1)
    samples[0] = np.inf, -np.inf
    sf.write(tmp_path / "a.wav", samples, RATE, subtype="FLOAT")
    with pytest.raises(AudioError, match="at 0.000 s"):
        audio.load(tmp_path / "a.wav")


@pytest.mark.parametrize("rate", [1, 999, 768_001, 2**31 - 1])
def test_absurd_rate_in_the_header(tmp_path, read, rate):
    sf.write(tmp_path / "a.wav", noise(0.1), RATE)
    data = bytearray((tmp_path / "a.wav").read_bytes())
    data[24:28] = rate.to_bytes(4, "little")
    (tmp_path / "a.wav").write_bytes(data)
    with pytest.raises(AudioError, match=f"a.wav: the sample rate in its header must be .* got {rate}"):
        read(tmp_path / "a.wav")


@pytest.mark.parametrize("sample_rate", [0, -16000, 44.1, 16000.5, np.nan, np.inf, "16000", 10**9])
def test_absurd_target_rate(tmp_path, sample_rate):
    sf.write(tmp_path / "a.wav", noise(0.1), RATE)
    with pytest.raises(AudioError, match="sample_rate must be a whole number of Hz"):
        audio.load(tmp_path / "a.wav", sample_rate)
