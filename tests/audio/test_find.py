import pytest

from music_zoo.audio.find import AUDIO_EXTENSIONS, find_audio, is_audio
from music_zoo.errors import AudioError


@pytest.fixture
def folder(tmp_path):
    for name in (
        "b/2.MP3", "b/1.flac", "a.wav", "c/d/deep.Opus",
        ".hidden.wav", "b/._1.flac", ".trash/old.wav", "b/.cache/x.ogg",
        "notes.txt", "cover.jpg", "wav", "list.m3u",
    ):  # fmt: skip
        path = tmp_path / "music" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "music" / "folder.wav").mkdir()
    return tmp_path / "music"


def test_finds_visible_audio_in_all_visible_folders_sorted(folder):
    found = find_audio(folder)
    assert found == [folder / name for name in ("a.wav", "b/1.flac", "b/2.MP3", "c/d/deep.Opus")]
    assert find_audio(str(folder)) == found


def test_a_folder_below_hidden_ones_can_be_searched(folder):
    assert find_audio(folder / ".trash") == [folder / ".trash" / "old.wav"]


def test_what_is_named_is_taken_whatever_its_name(folder):
    for name in ("notes.txt", ".hidden.wav", "missing.wav"):
        assert find_audio(folder / name) == [folder / name]


def test_links_to_files_are_found_and_links_to_folders_not_followed(folder):
    (folder / "c" / "link.wav").symlink_to(folder / "a.wav")
    (folder / "c" / "round").symlink_to(folder)
    (folder / "c" / "broken.wav").symlink_to(folder / "missing.wav")
    assert [path.name for path in find_audio(folder / "c")] == ["deep.Opus", "link.wav"]


def test_a_folder_without_audio_is_an_error_that_names_the_endings(tmp_path):
    with pytest.raises(AudioError, match=r"holds no audio file \(\.aac, .*\.flac, .*\.wav"):
        find_audio(tmp_path)


def test_every_ending_is_known_in_either_case(tmp_path):
    for ending in AUDIO_EXTENSIONS:
        for name in (f"x{ending}", f"X{ending.upper()}"):
            (tmp_path / name).touch()
            assert is_audio(tmp_path / name)
