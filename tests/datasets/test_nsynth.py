import json
import re

import numpy as np
import pytest

from music_zoo.datasets import NSynthTest, open_dataset
from music_zoo.errors import DatasetError

NOTES = {"bass_1-30-100": "bass_1", "bass_2-30-100": "bass_2", "reed_1-60-025": "reed_1"}
TABLE = "instrument,family,notes,split\nbass_1,bass,1,train\nbass_2,bass,1,test\nreed_1,reed,1,train\n"


@pytest.fixture
def root(tmp_path):
    (tmp_path / "audio").mkdir()
    for note in NOTES:
        (tmp_path / "audio" / f"{note}.opus").touch()
    (tmp_path / "examples.json").write_text(json.dumps({n: {"instrument_str": i} for n, i in NOTES.items()}))
    (tmp_path / "instrument-split.csv").write_text(TABLE)
    return tmp_path


def test_notes_go_where_their_instrument_goes(root):
    dataset = open_dataset(root)
    assert dataset.labels == ("bass", "reed")
    paths, targets, ids = dataset.split("train")
    assert ids == ("bass_1-30-100", "reed_1-60-025")
    assert targets.tolist() == [0, 1]
    assert paths[0] == root / "audio" / "bass_1-30-100.opus"
    assert dataset.split("validation").ids == ()
    assert (dataset.groups_of("train").tolist(), dataset.grouped_by) == (["bass_1", "reed_1"], "instruments")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda root: (root / "examples.json").unlink(), "missing: examples.json"),
        (
            lambda root: (root / "audio" / "bass_2-30-100.opus").unlink(),
            "1 of 3 audio files are missing, such as audio/bass_2",
        ),
        (lambda root: (root / "examples.json").write_text("{"), "examples.json: expected an object"),
        (lambda root: (root / "examples.json").write_text('{"x": {}}'), "examples.json: expected an object"),
        (
            lambda root: (root / "instrument-split.csv").write_text(TABLE + "reed_1,reed,1,test\n"),
            "in one split",
        ),
        (lambda root: (root / "instrument-split.csv").write_text(TABLE.replace("reed", "lead")), "reed_1"),
        (lambda root: (root / "instrument-split.csv").write_text(TABLE.replace("test", "dev")), "['dev']"),
    ],
)
def test_what_is_missing_or_damaged_is_named(root, spoil, message):
    spoil(root)
    with pytest.raises(DatasetError, match=re.escape(message)):
        NSynthTest(root)


def test_an_unknown_split_is_told(root):
    with pytest.raises(DatasetError, match="splits train, validation, test; got 'dev'"):
        NSynthTest(root).split("dev")


def test_the_real_set_is_whole_and_no_instrument_is_in_two_splits(shared_data):
    dataset = open_dataset(shared_data / "data" / "nsynth-test")
    assert len(dataset.labels) == 10 and "synth_lead" not in dataset.labels
    splits = {name: dataset.split(name) for name in ("train", "validation", "test")}
    assert {name: len(split.ids) for name, split in splits.items()} == {
        "train": 2377,
        "validation": 475,
        "test": 1244,
    }
    instruments = [{note.rsplit("-", 2)[0] for note in split.ids} for split in splits.values()]
    assert sum(map(len, instruments)) == len(set.union(*instruments)) == 53
    for split in splits.values():
        families = [note.split("_")[0] for note in split.ids]
        assert [dataset.labels[target] for target in split.targets] == families
        assert split.targets.dtype == np.int64
    assert splits["test"].paths[0].is_file()
