"""Two decoders behind one interface: libsndfile (soundfile), and FFmpeg (PyAV) for what that refuses."""

import io
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import soundfile as sf

from music_zoo.audio.arrays import check_sample_rate
from music_zoo.errors import AudioError

_DECODER_ERROR = "there the decoder fails"


@dataclass(frozen=True)
class AudioInfo:
    """What the header of an audio file says.

    Attributes:
        path: The file.
        sample_rate: In Hz.
        channels: How many.
        frames: Samples per channel that the header announces; None where it does not and decoders only guess
            (MP3 without a Xing, Info or VBRI frame, raw AAC, MPEG-TS, Matroska).
        format: The container as libsndfile calls it ("WAV", "MP3", "OGG"), or the codec as FFmpeg does.
    """

    path: Path
    sample_rate: int
    channels: int
    frames: int | None
    format: str

    @property
    def duration(self) -> float | None:
        """In seconds; None where the header does not announce it."""
        return None if self.frames is None else self.frames / self.sample_rate


class Reader(Protocol):
    """An open audio file.

    Attributes:
        info: What its header says.
        fault: Why the audio may end too early, as far as the decoder can tell; final after the last block.
    """

    info: AudioInfo
    fault: str | None

    def blocks(self, frames: int) -> Iterator[np.ndarray]:
        """Yield float32 (about `frames`, channels) from front to back, up to the end or to a fault."""

    def close(self) -> None:
        """Close the file."""


def open_reader(path: Path) -> Reader:
    """Open a file with the first decoder that takes it.

    Raises:
        AudioError: No readable, non-empty, regular file; no decoder takes it; an implausible sample rate.
    """
    if path.is_dir():
        raise AudioError(f"{path} is a folder, not an audio file; give the files in it")
    if not path.exists():
        raise AudioError(f"there is no file {path} (looked for {path.absolute()})")
    if not path.is_file():
        raise AudioError(f"{path} is not a regular file; save the audio to a file first")
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except OSError as error:
        raise AudioError(f"{path} cannot be read: {error.strerror}") from error
    if not head:
        raise AudioError(f"{path} is empty (0 bytes); get the file again")

    try:
        return _SoundfileReader(path)
    except (sf.LibsndfileError, TypeError):  # TypeError: soundfile wants the format of a *.raw spelt out
        pass
    try:
        import av
    except ImportError:
        raise AudioError(
            f"libsndfile cannot read {path}, which begins with {head!r}; if it is M4A, AAC, WMA or a video, "
            'install FFmpeg\'s decoders: pip install "music-zoo[media]"; otherwise it is damaged or no audio'
        ) from None
    try:
        return _PyAVReader(path)
    except av.error.FFmpegError:
        raise AudioError(
            f"neither libsndfile nor FFmpeg can read {path} (it begins with {head!r}): damaged, or no audio"
        ) from None


class _SoundfileReader:
    """Reads what libsndfile reads: WAV, FLAC, OGG, Opus, MP3, AIFF and more."""

    def __init__(self, path: Path):
        self._bytes = None
        # As bytes, because soundfile cannot encode names that are no text; on Windows all are text.
        self._file = _Sequential(path if os.name == "nt" else os.fsencode(path))
        rate = check_sample_rate(self._file.samplerate, f"{path}: the sample rate in its header")
        if self._file.format == "MP3" and not _states_its_length(path):
            frames = None
            self._file.close()
            self._bytes = _Endless(path)
            self._file = _Sequential(self._bytes)
        else:
            frames = self._announced_frames()
        is_torn = self._file.format == "OGG" and not _has_end_of_stream(path)
        self.fault = "there it ends without Ogg's end-of-stream mark" if is_torn else None
        self.info = AudioInfo(path, rate, self._file.channels, frames, self._file.format)

    def _announced_frames(self) -> int:
        """The length in the header, which libsndfile corrects to what is there in WAV, AIFF and AU."""
        frames = self._file.frames
        size = re.search(r"(?:data|SSND|Data Size) *: (\d+) \(should be (\d+)\)", self._file.extra_info)
        if size is None:
            return frames
        announced, present = map(int, size.groups())
        is_unknown = announced >= 0x7FFF0000  # written to a pipe, by a program that could not know the length
        return frames if is_unknown or not present else round(frames * announced / present)

    def blocks(self, frames: int) -> Iterator[np.ndarray]:
        while self.fault != _DECODER_ERROR:
            block = np.full((frames, self.info.channels), np.nan, np.float32)
            try:
                read = self._file.read(out=block)
            except sf.LibsndfileError:
                # A torn FLAC. soundfile does not say how far it came: what it did not write is still NaN.
                self.fault = _DECODER_ERROR
                read = block[: int(np.append(np.isnan(block[:, 0]), True).argmax())]
            if not len(read):
                return
            yield read

    def close(self) -> None:
        self._file.close()
        if self._bytes is not None:
            self._bytes.close()


class _Sequential(sf.SoundFile):
    """Reads front to back: soundfile otherwise seeks after each read, which a torn file does not stand."""

    def seekable(self) -> bool:
        return False


class _Endless(io.FileIO):
    """A file that claims to be a terabyte long.

    Without a Xing frame, libsndfile guesses the length of an MP3 from the size of the file and the bit rate
    of its first frame, and stops there: with a variable bit rate that may be after a third of the music,
    without an error. Told such a size, it guesses far too much and reads on to the true end.
    """

    SIZE = 1 << 40

    def __init__(self, path: Path):
        super().__init__(path)
        self._true_size = path.stat().st_size

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        return super().seek(self.SIZE + offset) if whence == io.SEEK_END else super().seek(offset, whence)

    def readinto(self, buffer) -> int:
        if self.tell() > self._true_size:  # the decoder looks for an ID3v1 tag at the claimed end
            buffer[:] = bytes(len(buffer))
            return len(buffer)
        return super().readinto(buffer)


def _states_its_length(path: Path) -> bool:
    """Whether an MP3 begins with a Xing, Info or VBRI frame, which says how many frames follow."""
    with path.open("rb") as file:
        head = file.read(10)
        if head[:3] == b"ID3":  # a tag before the audio, its size in four bytes of seven bits
            size = 0
            for byte in head[6:]:
                size = size << 7 | byte
            file.seek(size, io.SEEK_CUR)
        head += file.read(4096)
    return any(name in head for name in (b"Xing", b"Info", b"VBRI"))


def _has_end_of_stream(path: Path) -> bool:
    """Whether an Ogg file ends with a whole page that is marked as the last (RFC 3533, section 6).

    No header of an Ogg file announces its length.
    """
    with path.open("rb") as file:
        file.seek(-min(path.stat().st_size, 1 << 17), io.SEEK_END)  # two pages of the largest size
        tail = file.read()
    page = tail[tail.rfind(b"OggS") :]
    size = 27 + page[26] + sum(page[27 : 27 + page[26]]) if len(page) > 26 else 27
    return len(page) >= size and bool(page[5] & 4)


class _PyAVReader:
    """Reads the first audio track of what FFmpeg reads, through PyAV."""

    # Containers that store the length of each track. For others FFmpeg guesses it from the bit rate.
    STATE_THEIR_LENGTH = {"mov,mp4,m4a,3gp,3g2,mj2", "wv", "tta"}

    def __init__(self, path: Path):
        import av

        self._container = av.open(str(path), metadata_errors="replace")  # old tags are often no UTF-8
        self.fault = None
        track = next(iter(self._container.streams.audio), None)
        if track is None or not track.rate or not track.channels:
            self.close()
            raise AudioError(
                f"{path} holds no audio track; FFmpeg takes it for {self._container.format.long_name}"
            )
        rate = check_sample_rate(track.rate, f"{path}: the sample rate in its header")
        is_stated = track.duration and self._container.format.name in self.STATE_THEIR_LENGTH
        frames = round(track.duration * track.time_base * rate) if is_stated else None
        self.info = AudioInfo(path, rate, track.channels, frames, track.codec_context.name.upper())

    def blocks(self, frames: int) -> Iterator[np.ndarray]:
        pending, count = [], 0
        for piece in self._pieces():
            pending.append(piece)
            count += len(piece)
            if count >= frames:
                yield np.concatenate(pending)
                pending, count = [], 0
        if pending:
            yield np.concatenate(pending)

    def _pieces(self) -> Iterator[np.ndarray]:
        """Yield float32 (samples, channels) as FFmpeg delivers them, some thousand samples at a time."""
        import av

        to_float = av.AudioResampler(format="fltp")
        try:
            for decoded in self._container.decode(audio=0):
                for frame in to_float.resample(decoded):
                    yield frame.to_ndarray().T
        except (av.error.FFmpegError, ValueError):  # ValueError: the rate or the channels change midway
            self.fault = _DECODER_ERROR

    def close(self) -> None:
        self._container.close()
