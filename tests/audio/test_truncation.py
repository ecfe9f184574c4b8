"""Files that end too early: found wherever the file says how long it was, and usable on demand."""

import re

import numpy as np
import pytest
import soundfile as sf

from music_zoo import audio
from music_zoo.errors import AudioError

RATE, SECONDS = 44100, 20


def write(path, **options) -> None:
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, (SECONDS * RATE, 2)).astype(np.float32)
    with sf.SoundFile(path, "w", RATE, 2, **options) as file:
        for block in np.split(samples, SECONDS):  # libsndfile crashes on long blocks of Vorbis
            file.write(block)


FORMATS = {
    "a.wav": {"subtype": "PCM_24"},
    "a.aiff": {},
    "a.au": {"format": "AU"},
    "a.flac": {},
    "constant.mp3": {"bitrate_mode": "CONSTANT"},
    "variable.mp3": {"bitrate_mode": "VARIABLE"},
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    for name, options in FORMATS.items():
        write(folder / name, **options)
    write(folder / "a.ogg")
    return folder


def cut(source, target, fraction: float) -> None:
    data = source.read_bytes()
    target.write_bytes(data[: round(len(data) * fraction)])


@pytest.mark.parametrize("fraction", [0.97, 0.5, 0.03])
@pytest.mark.parametrize("name", FORMATS)
def test_message_says_both_durations(whole, tmp_path, name, fraction):
    path = tmp_path / name
    cut(whole / name, path, fraction)
    with pytest.raises(AudioError, match=f"{name} is truncated or damaged") as caught:
        audio.load(path)
    decoded, announced = map(float, re.findall(r"(\d+\.\d+) s", str(caught.value)))
    assert announced == pytest.approx(SECONDS, abs=0.1)
    assert decoded == pytest.approx(SECONDS * fraction, abs=0.2)
    assert "allow_truncated=True" in str(caught.value)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("block_seconds", [0.5, 10, 100])
def test_what_is_there_can_be_taken(whole, tmp_path, name, block_seconds):
    cut(whole / name, tmp_path / name, 0.5)
    expected, _ = audio.load(whole / name)
    blocks = audio.stream(tmp_path / name, block_seconds=block_seconds, allow_truncated=True)
    samples = np.concatenate(list(blocks))
    assert len(samples) / RATE == pytest.approx(SECONDS / 2, abs=0.2)
    np.testing.assert_array_equal(samples, expected[: len(samples)])


@pytest.mark.parametrize("name", FORMATS)
def test_a_header_alone_is_no_audio(whole, tmp_path, name):
    header = {"a.wav": 44, "a.aiff": 54, "a.au": 24, "a.flac": 300}.get(name, 60)
    (tmp_path / name).write_bytes((whole / name).read_bytes()[:header])
    with pytest.raises(AudioError, match=name):
        audio.load(tmp_path / name, allow_truncated=True)


@pytest.mark.parametrize("fraction", [0.9999, 0.9, 0.5])
def test_ogg_vorbis_by_its_missing_end_mark(whole, tmp_path, fraction):
    path = tmp_path / "a.ogg"
    cut(whole / "a.ogg", path, fraction)
    with pytest.raises(
        AudioError, match=r"truncated or damaged: .* s can be decoded, but .*end-of-stream mark"
    ):
        audio.load(path)
    samples, _ = audio.load(path, allow_truncated=True)
    np.testing.assert_array_equal(samples, sf.read(path, dtype="float32")[0].mean(axis=1))


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
@pytest.mark.parametrize("frames", [1, 100, 1000, 5000, 20_000])
def test_whole_ogg_files_of_any_length_pass(tmp_path, subtype, frames):
    sf.write(tmp_path / "a.ogg", np.full(frames, 0.1), 48000, format="OGG", subtype=subtype)
    assert len(audio.load(tmp_path / "a.ogg")[0]) == frames


def test_opus_by_its_missing_end_mark(tmp_path):
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, 48000 * 5)
    sf.write(tmp_path / "whole.opus", samples, 48000, format="OGG", subtype="OPUS")
    cut(tmp_path / "whole.opus", tmp_path / "cut.opus", 0.6)
    audio.load(tmp_path / "whole.opus")
    with pytest.raises(AudioError, match="end-of-stream mark"):
        audio.load(tmp_path / "cut.opus")
    assert len(audio.load(tmp_path / "cut.opus", allow_truncated=True)[0]) > 48000


@pytest.mark.parametrize("size", [0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFF000])
def test_wav_written_to_a_pipe_is_whole(whole, tmp_path, size):
    data = bytearray((whole / "a.wav").read_bytes())
    start = data.index(b"data") + 4
    data[start : start + 4] = size.to_bytes(4, "little")
    (tmp_path / "a.wav").write_bytes(data)
    np.testing.assert_array_equal(audio.load(tmp_path / "a.wav")[0], audio.load(whole / "a.wav")[0])


def test_stream_yields_what_it_has_before_it_complains(whole, tmp_path):
    cut(whole / "a.flac", tmp_path / "a.flac", 0.5)
    received = []
    with pytest.raises(AudioError, match="truncated"):
        received.extend(audio.stream(tmp_path / "a.flac", block_seconds=1))
    assert sum(map(len, received)) / RATE == pytest.approx(SECONDS / 2, abs=0.2)
