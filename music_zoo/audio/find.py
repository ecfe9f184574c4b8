"""Which files are audio, by their names, and all such files in a folder."""

from os import PathLike
from pathlib import Path

from music_zoo.errors import AudioError

#: The first line is read by libsndfile, the second needs PyAV.
AUDIO_EXTENSIONS = frozenset(
    ".wav .flac .ogg .oga .opus .mp3 .aif .aiff .aifc .au .caf .w64 .rf64".split()
    + ".m4a .mp4 .aac .wma .webm .mka .mkv .mov".split()
)


def is_audio(path: Path) -> bool:
    """Whether a visible file's name ends in one of `AUDIO_EXTENSIONS`, in either case."""
    return path.suffix.lower() in AUDIO_EXTENSIONS and not path.name.startswith(".") and path.is_file()


def find_audio(path: str | PathLike) -> list[Path]:
    """Return the audio files in a folder and its visible sub-folders, sorted; of any other path, itself.

    Links to folders are not followed, so that none is searched twice or for ever.

    Raises:
        AudioError: A folder without audio files.
    """
    path = Path(path)
    if not path.is_dir():
        return [path]
    found = (file for file in path.rglob("*") if is_audio(file))
    files = sorted(file for file in found if not _is_hidden(file.relative_to(path)))
    if not files:
        raise AudioError(f"{path} holds no audio file ({', '.join(sorted(AUDIO_EXTENSIONS))}).")
    return files


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)
