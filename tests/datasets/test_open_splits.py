import json

import numpy as np
import pytest

from music_zoo.datasets import LogMelDataset, open_splits
from music_zoo.errors import AudioError, DatasetError


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")


def test_log_mels_as_they_are(log_mel_root):
    assert isinstance(open_splits(log_mel_root), LogMelDataset)


def test_folders_of_splits(tmp_path):
    touch(tmp_path, "train/b/1.wav", "train/a/2.wav", "train/a/1.wav", "test/b/3.wav", "other/c/4.wav")
    data = open_splits(tmp_path)
    assert (data.splits, data.labels, data.task) == (("train", "test"), ("a", "b", "c"), "single_label")
    assert data.split("train").ids == ("train/a/1.wav", "train/a/2.wav", "train/b/1.wav")
    np.testing.assert_array_equal(data.split("train").targets, [0, 0, 1])
    np.testing.assert_array_equal(data.split("test").targets, [1])


def test_any_audio_is_one_split_without_labels(tmp_path):
    touch(tmp_path, "x/y/2.flac", "1.wav", "notes.txt")
    data = open_splits(tmp_path)
    assert data.splits == ("train",) and not data.labels
    assert data.split("train").ids == ("1.wav", "x/y/2.flac")
    assert data.split("train").targets is None


def test_nsynth_test_notes(tmp_path):
    instruments = {"bass_0": "train", "bass_1": "validation", "reed_0": "test"}
    rows = [f"{name},{name.split('_')[0]},{split}" for name, split in instruments.items()]
    (tmp_path / "instrument-split.csv").write_text("\n".join(["instrument,family,split", *rows]) + "\n")
    notes = {f"{name}-60": {"instrument_str": name} for name in instruments}
    (tmp_path / "examples.json").write_text(json.dumps(notes))
    touch(tmp_path, *(f"audio/{note}.opus" for note in notes))
    data = open_splits(tmp_path)
    assert (data.name, data.labels) == ("nsynth-test", ("bass", "reed"))
    assert [data.split(name).ids for name in data.splits] == [("bass_0-60",), ("bass_1-60",), ("reed_0-60",)]


def test_what_is_no_data(tmp_path):
    with pytest.raises(DatasetError, match="is no folder"):
        open_splits(tmp_path / "nothing")
    with pytest.raises(AudioError, match="holds no audio file"):
        open_splits(tmp_path)
    touch(tmp_path, "tracks.csv")  # known, and damaged
    with pytest.raises(DatasetError, match="part-0.npz"):
        open_splits(tmp_path)
