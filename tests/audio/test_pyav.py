"""What libsndfile refuses and FFmpeg reads: M4A, raw AAC, Matroska, WavPack, video; and how it fails."""

import socket
import sys
from pathlib import Path

import librosa
import numpy as np
import pytest
import soundfile as sf

from music_zoo import audio
from music_zoo.errors import AudioError

av = pytest.importorskip("av")

RATE, SECONDS = 44100, 12
CODECS = {
    "a.m4a": ("aac", {"movflags": "faststart"}),
    "lossless.m4a": ("alac", {"movflags": "faststart"}),
    "a.wv": ("wavpack", {}),
    "a.aac": ("aac", {}),
    "a.mka": ("aac", {}),
    "a.ac3": ("ac3", {}),
}
STATE_THEIR_LENGTH = {"a.m4a", "lossless.m4a", "a.wv"}


def music(channels: int = 2) -> np.ndarray:
    """Noise of low frequencies, which an encoder keeps: float32 (channels, samples)."""
    noise = np.random.default_rng(0).standard_normal((channels, SECONDS * RATE + 99))
    smooth = np.apply_along_axis(np.convolve, 1, noise, np.hanning(100), "valid")
    return (0.5 * smooth / np.abs(smooth).max()).astype(np.float32)


def write(path: Path, codec: str, options: dict, with_video: bool = False, title: str = "") -> None:
    with av.open(str(path), "w", options=options) as container:
        container.metadata["title"] = title
        video = container.add_stream("mpeg4", rate=5) if with_video else None
        stream = container.add_stream(codec, rate=RATE, layout="stereo")
        if video:
            video.width = video.height = 64
            container.mux(video.encode(av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8))))
            container.mux(video.encode())
        frame = av.AudioFrame.from_ndarray(music(), format="fltp", layout="stereo")
        frame.rate, frame.pts = RATE, 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("media")
    for name, (codec, options) in CODECS.items():
        write(folder / name, codec, options)
    return folder


@pytest.mark.parametrize("name", CODECS)
def test_decodes_to_what_was_encoded(folder, name):
    with pytest.raises(sf.LibsndfileError):
        sf.info(folder / name)
    samples, rate = audio.load(folder / name)
    assert rate == RATE and samples.dtype == np.float32
    original = music().mean(axis=0)
    # Raw streams keep the silence that the encoder puts before the music: find it by correlation.
    shift = int(np.argmax(np.correlate(samples[:30_000], original[:20_000], "valid")))
    assert shift == 0 if name in STATE_THEIR_LENGTH else shift < 2500
    error = samples[shift:][: len(original)] - original[: len(samples) - shift]
    assert np.sqrt((error**2).mean()) < 0.1 * original.std()
    assert len(samples) / RATE == pytest.approx(SECONDS, abs=0.1)

    info = audio.probe(folder / name)
    assert (info.sample_rate, info.channels, info.format) == (RATE, 2, CODECS[name][0].upper())
    assert info.duration == (pytest.approx(SECONDS, abs=0.05) if name in STATE_THEIR_LENGTH else None)


def test_lossless_is_lossless(folder):
    expected = np.round(music() * 32768).mean(axis=0) / 32768
    np.testing.assert_allclose(audio.load(folder / "lossless.m4a")[0], expected, atol=2 / 32768)


@pytest.mark.parametrize("block_seconds", [0.1, 1, 100])
def test_blocks_and_resampling(folder, block_seconds):
    whole, rate = audio.load(folder / "a.m4a")
    blocks = list(audio.stream(folder / "a.m4a", 16000, block_seconds=block_seconds))
    expected = librosa.resample(whole, orig_sr=rate, target_sr=16000)
    np.testing.assert_allclose(np.concatenate(blocks), expected, atol=1e-6)
    assert block_seconds == 100 or len(blocks) >= SECONDS / block_seconds / 2


def test_sound_of_a_video(tmp_path):
    write(tmp_path / "a.mp4", "aac", {}, with_video=True)
    assert len(audio.load(tmp_path / "a.mp4")[0]) / RATE == pytest.approx(SECONDS, abs=0.1)


def test_video_without_sound(tmp_path):
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        video = container.add_stream("mpeg4", rate=5)
        video.width = video.height = 64
        container.mux(video.encode(av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8))))
        container.mux(video.encode())
    with pytest.raises(AudioError, match="a.mp4 holds no audio track"):
        audio.load(tmp_path / "a.mp4")


@pytest.mark.parametrize("name", ["a.m4a", "lossless.m4a", "a.wv", "a.aac"])
def test_truncated(folder, tmp_path, name):
    data = (folder / name).read_bytes()
    (tmp_path / name).write_bytes(data[: len(data) // 2])
    fault = "its header announces 12" if name in STATE_THEIR_LENGTH else "there the decoder fails"
    with pytest.raises(AudioError, match=f"{name} is truncated .* [56].* s can be decoded, but {fault}"):
        audio.load(tmp_path / name)
    samples, _ = audio.load(tmp_path / name, allow_truncated=True)
    np.testing.assert_array_equal(samples, audio.load(folder / name)[0][: len(samples)])
    assert len(samples) / RATE == pytest.approx(SECONDS / 2, abs=0.6)


def test_m4a_that_lost_its_index(tmp_path):
    write(tmp_path / "a.m4a", "aac", {})  # without faststart the index comes last
    data = (tmp_path / "a.m4a").read_bytes()
    (tmp_path / "a.m4a").write_bytes(data[: len(data) // 2])
    with pytest.raises(AudioError, match="neither libsndfile nor FFmpeg can read .*a.m4a"):
        audio.load(tmp_path / "a.m4a", allow_truncated=True)


def test_without_pyav_the_message_names_the_extra(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(
        AudioError, match=r'libsndfile cannot read .*a\.m4a.* pip install "music-zoo\[media\]"'
    ):
        audio.load(folder / "a.m4a")


@pytest.mark.parametrize("name", ["song.m3u8", "song.mp3"])
def test_a_playlist_opens_no_connection(tmp_path, name):
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        address = f"http://127.0.0.1:{server.getsockname()[1]}/a.ts"
        playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\n{address}\n#EXT-X-ENDLIST\n"
        (tmp_path / name).write_text(playlist)
        with pytest.raises(AudioError, match=name):
            audio.load(tmp_path / name)
        with pytest.raises(BlockingIOError):  # nobody has called
            server.accept()


def test_title_that_is_not_utf_8(tmp_path):
    write(tmp_path / "a.m4a", "aac", {"movflags": "faststart"}, title="Xyzzy")
    data = (tmp_path / "a.m4a").read_bytes()
    assert data.count(b"Xyzzy") == 1
    (tmp_path / "a.m4a").write_bytes(data.replace(b"Xyzzy", b"X\xfczz\xff"))
    assert len(audio.load(tmp_path / "a.m4a")[0]) / RATE == pytest.approx(SECONDS, abs=0.1)
