import warnings

import numpy as np
import pytest

pytestmark = pytest.mark.keras

import keras  # noqa: E402

from music_zoo.datasets import AudioFolder, AudioSplit  # noqa: E402
from music_zoo.datasets.streaming import AudioBatches  # noqa: E402
from music_zoo.errors import DatasetError  # noqa: E402

RATE, FILES = 8000, 20


@pytest.fixture
def split(write_wav):
    """Files of a second; each is a ramp above its own level, by which a segment tells file and place."""
    ramp = np.linspace(0, 0.02, RATE, dtype=np.float32)
    paths = tuple(write_wav(f"{number:02d}.wav", number / 40 + ramp, RATE) for number in range(FILES))
    return AudioSplit(paths, np.arange(FILES), tuple(path.stem for path in paths))


def batches(split, batch_size=4, seconds=0.1, **settings):
    return AudioBatches(split, batch_size, seconds, RATE, **settings)


def epoch_of(dataset, epoch=0):
    dataset.epoch = epoch
    return [dataset[index] for index in range(len(dataset))]


def test_an_epoch_holds_each_file_once_beside_its_target(split):
    with batches(split) as dataset:
        audio, targets = map(np.concatenate, zip(*epoch_of(dataset), strict=True))
    assert audio.shape == (FILES, 800) and audio.dtype == np.float32
    np.testing.assert_array_equal(np.floor(audio[:, 0] * 40 + 1e-4), targets)
    assert sorted(targets) == list(range(FILES))
    places = audio[:, 0] - targets / 40
    assert np.ptp(places) > 0.01  # not all from the beginning
    np.testing.assert_allclose(np.diff(audio, axis=1), 0.02 / (RATE - 1), atol=1e-6)


@pytest.mark.parametrize("settings", [{"workers": 0}, {"workers": 3, "ahead": 0}, {"workers": 2, "ahead": 9}])
def test_a_batch_depends_on_seed_epoch_and_index_alone(split, settings):
    with batches(split, 6, seed=5) as straight, batches(split, 6, seed=5, start_epoch=1, **settings) as other:
        assert len(straight) == 3
        epoch_of(straight)
        expected = epoch_of(straight, epoch=1)
        for index in (0, 1, 2, 2, 0):
            for ours, theirs in zip(other[index], expected[index], strict=True):
                np.testing.assert_array_equal(ours, theirs)
        assert not np.array_equal(epoch_of(straight, epoch=2)[0][0], expected[0][0])


def test_worker_processes_give_the_same(split):
    with batches(split) as threads, batches(split, workers=1, use_multiprocessing=True) as processes:
        np.testing.assert_array_equal(processes[0][0], threads[0][0])


def test_without_targets(split):
    with batches(split, unlabelled=True) as unlabelled, batches(split._replace(targets=None)) as without:
        np.testing.assert_array_equal(unlabelled[0], without[0])
        assert unlabelled[0].shape == (4, 800)


def test_a_folder_of_audio_and_another_rate(split, tmp_path):
    for path in split.paths:
        label = tmp_path / "folder" / path.stem[0]
        label.mkdir(parents=True, exist_ok=True)
        path.rename(label / path.name)
    with AudioBatches(AudioFolder(tmp_path / "folder"), FILES, 0.5, 2 * RATE) as dataset:
        audio, targets = dataset[0]
    assert audio.shape == (FILES, RATE)
    np.testing.assert_array_equal(targets, audio.mean(axis=1) * 40 >= 10)


def test_a_file_that_vanishes_or_breaks_is_reported_once_and_replaced(split):
    with batches(split) as dataset:
        before = epoch_of(dataset)
        split.paths[3].unlink()
        split.paths[8].write_bytes(b"no audio")
        with pytest.warns(UserWarning, match="another file takes its place") as caught:
            after = epoch_of(dataset)
            more = [batch for epoch in (1, 2) for batch in epoch_of(dataset, epoch)]
        messages = [str(warning.message) for warning in caught]
        assert sum("03.wav" in message for message in messages) == 1
        assert sum("08.wav" in message for message in messages) == 1
        assert set(dataset.broken) == {split.paths[3], split.paths[8]}
    for audio, targets in after + more:
        assert not {3, 8} & set(targets.tolist())
        np.testing.assert_array_equal(np.floor(audio[:, 0] * 40 + 1e-4), targets)
    changed = 0
    for (audio, targets), (old_audio, old_targets) in zip(after, before, strict=True):
        kept = ~np.isin(old_targets, (3, 8))
        np.testing.assert_array_equal(audio[kept], old_audio[kept])
        np.testing.assert_array_equal(targets[kept], old_targets[kept])
        changed += (~kept).sum()
    assert changed == 2
    with batches(split, start_epoch=2) as resumed, warnings.catch_warnings(action="ignore"):
        for ours, theirs in zip(epoch_of(resumed, 2), more[5:], strict=True):
            np.testing.assert_array_equal(ours[0], theirs[0])


def test_too_many_broken_files_are_an_error(split):
    for path in split.paths[:3]:
        path.unlink()
    with batches(split) as dataset, warnings.catch_warnings(action="ignore"):
        with pytest.raises(
            DatasetError, match="3 of 20 files cannot be read, more than the 10%.*there is no file"
        ):
            epoch_of(dataset)
    with batches(split, max_broken=0.2) as dataset, warnings.catch_warnings(action="ignore"):
        assert len(epoch_of(dataset)) == 5


def test_mistakes_are_named(split):
    with pytest.raises(ValueError, match="a batch of 1 to 20 examples"):
        batches(split, 21)
    for settings in ({"seconds": 0}, {"workers": -1}, {"ahead": -1}):
        with pytest.raises(ValueError, match="at least one sample, and no negative workers"):
            batches(split, **settings)


def test_a_resumed_fit_is_the_uninterrupted_one(split):
    def model():
        layers = [keras.Input((800,)), keras.layers.Dense(1, kernel_initializer="ones")]
        return keras.Sequential(layers)

    def run(model, start_epoch, epochs):
        with batches(split, start_epoch=start_epoch) as dataset:
            model.compile(keras.optimizers.SGD(1e-4), "mse")
            model.fit(dataset, initial_epoch=start_epoch, epochs=epochs, shuffle=False, verbose=0)
            assert dataset.epoch == epochs
        return model.get_weights()[0]

    resumed = model()
    run(resumed, 0, 1)
    np.testing.assert_allclose(run(resumed, 1, 2), run(model(), 0, 2), rtol=1e-6)
