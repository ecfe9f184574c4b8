import json

import numpy as np
import pytest

from music_zoo.datasets import AudioSplit, MemoryMappedFeatures, dequantize, write_features
from music_zoo.errors import DatasetError


@pytest.fixture
def split(write_wav):
    paths = tuple(write_wav(f"{n}.wav", np.full(1000 + n, n / 10, np.float32)) for n in range(6))
    return AudioSplit(paths, np.arange(6) * 2, tuple("abcdef"))


class Levels:
    """A front end: the level, in four bands and as many frames as there are hundreds of samples."""

    sample_rate = 8000

    def __init__(self, fail_at=None):
        self.calls, self.fail_at = 0, fail_at

    def __call__(self, audio):
        if self.calls == self.fail_at:
            raise KeyboardInterrupt
        self.calls += 1
        return np.repeat(audio[:, None, ::100], 4, axis=1)

    def get_config(self):
        return {"bands": (4,)}


def test_features_come_back_with_their_names(split, tmp_path):
    done = []
    written = write_features(
        split, Levels(), tmp_path / "out", seconds=0.1, progress=lambda *numbers: done.append(numbers)
    )
    assert done == [(n, 6) for n in range(1, 7)]
    for features in (written, MemoryMappedFeatures(tmp_path / "out")):
        assert isinstance(features.features, np.memmap) and not features.features.flags.writeable
        assert features.features.shape == (6, 4, 8) and features.features.dtype == np.float32
        np.testing.assert_array_equal(features.features[:, 0, 0], np.arange(6, dtype=np.float32) / 10)
        assert features.ids == split.ids and len(features) == 6 and features.skipped == {}
        assert (
            features.front_end == {"bands": [4]} and features.sample_rate == 8000 and features.seconds == 0.1
        )
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["features.json", "features.npy"]
    np.testing.assert_array_equal(np.load(tmp_path / "out" / "features.npy"), written.features)


def test_short_files_are_repeated_and_whole_files_taken(split, tmp_path):
    repeated = write_features(split, Levels(), tmp_path / "repeated", seconds=0.2)
    assert repeated.features.shape == (6, 4, 16)
    with pytest.raises(DatasetError, match=r"b: features of shape \(4, 11\).*give `seconds`"):
        write_features(split, Levels(), tmp_path / "whole")


@pytest.mark.parametrize("stop", [0, 1, 4])
def test_an_interrupted_run_goes_on_where_it_stopped(split, tmp_path, stop):
    with pytest.raises(KeyboardInterrupt):
        write_features(split, Levels(fail_at=stop), tmp_path, seconds=0.1)
    with pytest.raises(DatasetError, match="not finished: call write_features again"):
        MemoryMappedFeatures(tmp_path)
    # As if it had been killed while it wrote.
    if stop:
        with (tmp_path / "features.npy.part").open("ab") as file:
            file.write(b"half a row")
    with (tmp_path / "features.journal").open("ab") as file:
        file.write(b'{"id": "tor')
    second = Levels()
    features = write_features(split, second, tmp_path, seconds=0.1)
    assert second.calls == 6 - stop
    np.testing.assert_array_equal(features.features[:, 3, 2], np.arange(6, dtype=np.float32) / 10)
    assert features.ids == split.ids


def test_a_run_interrupted_between_its_last_steps(split, tmp_path, monkeypatch):
    def fail(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("music_zoo.datasets.features.replacing", fail)
        with pytest.raises(KeyboardInterrupt):
            write_features(split, Levels(), tmp_path, seconds=0.1)
    second = Levels()
    assert len(write_features(split, second, tmp_path, seconds=0.1)) == 6 and second.calls == 0


def test_an_unfinished_run_with_other_settings_is_told(split, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        write_features(split, Levels(fail_at=2), tmp_path, seconds=0.1)
    with pytest.raises(DatasetError, match="unfinished run with other recordings or settings"):
        write_features(split, Levels(), tmp_path, seconds=0.05)
    (tmp_path / "features.npy.part").write_bytes(b"")
    with pytest.raises(DatasetError, match="cut short: delete it"):
        write_features(split, Levels(), tmp_path, seconds=0.1)


def test_what_was_there_is_replaced(split, tmp_path):
    write_features(split, Levels(), tmp_path, seconds=0.1)
    assert write_features(split, Levels(), tmp_path, seconds=0.05).features.shape == (6, 4, 4)


def test_recordings_that_cannot_be_used_are_left_out(split, tmp_path):
    split.paths[0].unlink()
    split.paths[4].write_bytes(b"no audio")
    features = write_features(split, Levels(), tmp_path, seconds=0.1)
    assert features.ids == tuple("bcdf") and features.features.shape == (4, 4, 8)
    assert set(features.skipped) == {"a", "e"} and "there is no file" in features.skipped["a"]
    np.testing.assert_array_equal(features.targets(split), [2, 4, 6, 10])
    with pytest.raises(DatasetError, match="1 recordings are not in the split, such as f"):
        features.targets(split._replace(ids=tuple("abcdeg")))
    with pytest.raises(DatasetError, match="no targets"):
        features.targets(split._replace(targets=None))
    for path in split.paths:
        path.unlink(missing_ok=True)
    with pytest.raises(DatasetError, match="none of 6 recordings can be used: there is no file"):
        write_features(split, Levels(), tmp_path / "none", seconds=0.1)


def test_eight_bits(split, tmp_path):
    features = write_features(split, Levels(), tmp_path, seconds=0.1, dtype=np.uint8).features
    assert features.dtype == np.uint8
    np.testing.assert_allclose(dequantize(features)[:, 0, 0], np.arange(6) / 10, atol=1 / 510)
    with pytest.raises(DatasetError, match="must be from 0 to 1; got -"):
        write_features(split, lambda a: -1 - a, tmp_path, seconds=0.1, sample_rate=8000, dtype="uint8")


def test_mistakes_are_told(split, tmp_path):
    with pytest.raises(ValueError, match="sample_rate is missing"):
        write_features(split, lambda audio: audio, tmp_path)
    with pytest.raises(DatasetError, match="missing: features.npy, features.json"):
        MemoryMappedFeatures(tmp_path / "none")
    write_features(split, Levels(), tmp_path, seconds=0.1)
    table = json.loads((tmp_path / "features.json").read_text())
    (tmp_path / "features.json").write_text(json.dumps({**table, "ids": ["a"]}))
    with pytest.raises(DatasetError, match="names 1 recordings, features.npy holds 6"):
        MemoryMappedFeatures(tmp_path)
    (tmp_path / "features.json").write_text("{}")
    with pytest.raises(DatasetError, match="cannot be read"):
        MemoryMappedFeatures(tmp_path)


@pytest.mark.keras
def test_a_front_end_of_layers_fills_the_batches(split, tmp_path):
    from small import small_front_end

    from music_zoo.datasets.batches import ImageBatches

    front_end = small_front_end()
    features = write_features(split, front_end, tmp_path, seconds=0.1, dtype=np.uint8)
    assert features.front_end == json.loads(json.dumps(front_end.get_config()))
    images, targets = ImageBatches(features.features, 6, targets=features.targets(split), crop=4)[0]
    assert images.shape == (6, 16, 4) and images.max() <= 1
    assert sorted(targets) == [0, 2, 4, 6, 8, 10]
