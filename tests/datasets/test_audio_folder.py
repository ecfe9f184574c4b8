import re

import pytest

from music_zoo.datasets import AudioFolder, open_dataset
from music_zoo.errors import DatasetError


def lay_out(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def test_files_are_sorted_and_labelled_by_their_folder(tmp_path):
    lay_out(tmp_path, "tense/b.WAV", "calm/2.mp3", "calm/1.flac", "tense/a.ogg")
    folder = AudioFolder(str(tmp_path))
    assert folder.labels == ("calm", "tense")
    assert [str(path.relative_to(tmp_path)) for path in folder.paths] == [
        *("calm/1.flac", "calm/2.mp3", "tense/a.ogg", "tense/b.WAV")
    ]
    assert folder.targets.tolist() == [0, 0, 1, 1]
    assert len(folder) == 4


def test_what_is_not_audio_is_passed_over(tmp_path):
    lay_out(
        tmp_path, "readme.md", "stray.wav", ".cache/x.wav", "calm/a.wav", "calm/cover.jpg", "calm/._a.wav"
    )
    (tmp_path / "calm" / "folder.wav").mkdir()
    folder = AudioFolder(tmp_path)
    assert folder.labels == ("calm",)
    assert [path.name for path in folder.paths] == ["a.wav"]


def test_labels_mean_the_same_in_each_split(tmp_path):
    lay_out(tmp_path, "train/calm/a.wav", "train/tense/b.wav", "test/tense/c.wav")
    train, test = AudioFolder(tmp_path, "train"), AudioFolder(tmp_path, split="test")
    assert train.labels == test.labels == ("calm", "tense")
    assert train.targets.tolist() == [0, 1]
    assert test.targets.tolist() == [1]
    assert test.split == "test"


@pytest.mark.parametrize(
    ("names", "split", "message"),
    [
        (["a.wav"], None, "has no sub-folders"),
        (
            ["calm/a.wav", "tense/notes.txt"],
            None,
            "the label 'tense' holds no audio file (expected .aac, .aif",
        ),
        (["train/calm/a.wav"], None, "if 'train' is a split, say split='train'"),
        (["train/calm/a.wav", "test/calm/b.wav"], "dev", "no split 'dev': expected a folder of that name"),
        (["train/calm/a.wav", "test/calm/b.wav"], "dev", "found the folders ['test', 'train']"),
        (["train/a.wav"], "train", "has no sub-folders"),
        (["train/calm/a.txt"], "train", "the label 'calm' holds no audio file"),
    ],
)
def test_mistakes_are_named(tmp_path, names, split, message):
    lay_out(tmp_path, *names)
    with pytest.raises(DatasetError, match=re.escape(message)):
        AudioFolder(tmp_path, split)


def test_a_missing_folder_is_told(tmp_path):
    for opener in (AudioFolder, open_dataset):
        with pytest.raises(DatasetError, match="nowhere is no folder"):
            opener(tmp_path / "nowhere")


def test_open_dataset_recognises_it(tmp_path):
    lay_out(tmp_path, "train/calm/a.wav")
    assert open_dataset(tmp_path / "train").labels == ("calm",)
    assert open_dataset(tmp_path, split="train").split == "train"


def test_open_dataset_says_what_it_expected(tmp_path):
    lay_out(tmp_path, "a.wav")
    with pytest.raises(
        DatasetError, match="tracks.csv and part-.*clips.csv.*instrument-split.csv.*sub-folder"
    ):
        open_dataset(tmp_path)
