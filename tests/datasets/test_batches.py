import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytestmark = pytest.mark.keras

import keras  # noqa: E402

from music_zoo.datasets.batches import Batches, ImageBatches  # noqa: E402


class Rows(Batches):
    """Batches of the numbers of the examples."""

    def batch(self, epoch, index):
        return self.rows(epoch, index)


def numbered(examples=10, frames=6) -> np.ndarray:
    """Images `(examples, 4, frames)` uint8 that tell which example, and at which frame."""
    images = 16 * np.arange(examples)[:, None, None] + np.arange(frames)
    return np.repeat(images, 4, axis=1).astype(np.uint8)


def linear_model(frames):
    layers = [keras.Input((4, frames)), keras.layers.Flatten(), keras.layers.Dense(1)]
    model = keras.Sequential(layers)
    model.layers[-1].set_weights([np.full((4 * frames, 1), 0.1), np.zeros(1)])
    return model


class Epochs(keras.callbacks.Callback):
    """Notes the epoch of the batches when Keras begins one of its own."""

    def __init__(self, batches):
        super().__init__()
        self.batches, self.seen = batches, []

    def on_epoch_begin(self, epoch, logs=None):
        self.seen.append((epoch, self.batches.epoch))


@settings(deadline=None, max_examples=30)
@given(size=st.integers(1, 40), data=st.data(), seed=st.integers(0, 2**32), epoch=st.integers(0, 1000))
def test_each_epoch_is_a_permutation_without_its_ragged_end(size, data, seed, epoch):
    batch_size = data.draw(st.integers(1, size))
    batches = Rows(size, batch_size, seed, start_epoch=epoch)
    rows = np.concatenate([batches[index] for index in range(len(batches))])
    assert len(rows) == size // batch_size * batch_size
    assert len(set(rows.tolist())) == len(rows)
    assert set(rows.tolist()) <= set(range(size))


def test_epochs_and_seeds_differ():
    first, other_seed, again = (Rows(100, 100, seed)[0] for seed in (0, 1, 0))
    next_epoch = Rows(100, 100, 0, start_epoch=1)[0]
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other_seed)
    assert not np.array_equal(first, next_epoch)


def test_a_batch_depends_on_seed_epoch_and_index_alone():
    images = numbered(examples=12, frames=16)
    once = ImageBatches(images, 4, seed=3, crop=5, start_epoch=7)
    forwards = [once[index] for index in range(3)]
    again = ImageBatches(images, 4, seed=3, crop=5)
    again[1]
    again.epoch = 7
    for index in (2, 0, 1, 1):
        np.testing.assert_array_equal(again[index], forwards[index])


def test_crops_are_pieces_of_their_image_beside_their_target():
    images, targets = numbered(), np.arange(10) * 3
    starts = set()
    batches = ImageBatches(images, 2, seed=0, targets=targets, crop=4)
    for epoch in range(8):
        batches.epoch = epoch
        for crops, of in batches:
            assert crops.shape == (2, 4, 4) and crops.dtype == np.float32
            values = np.rint(crops * 255).astype(int)
            np.testing.assert_array_equal(values[:, 0, 0] // 16 * 3, of)
            np.testing.assert_array_equal(np.diff(values, axis=2), 1)
            np.testing.assert_allclose(crops, values / 255, rtol=1e-6)
            starts |= set((values[:, 0, 0] % 16).tolist())
    assert starts == {0, 1, 2}


def test_floats_stay_and_may_be_mapped_from_disk(tmp_path):
    images = np.random.default_rng(0).standard_normal((5, 4, 6)).astype(np.float16)
    np.save(tmp_path / "features.npy", images)
    batches = ImageBatches(np.load(tmp_path / "features.npy", mmap_mode="r"), 5)
    assert batches[0].dtype == np.float32
    np.testing.assert_array_equal(batches[0], images[batches.rows(0, 0)].astype(np.float32))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 11}, "a batch of 1 to 10 examples"),
        ({"batch_size": 0}, "a batch of 1 to 10 examples"),
        ({"batch_size": 2, "crop": 7}, "a crop of 1 to 6 frames, got 7"),
        ({"batch_size": 2, "crop": 0}, "a crop of 1 to 6 frames, got 0"),
        ({"batch_size": 2, "targets": np.zeros(9)}, "a target for each of 10 examples, got 9"),
    ],
)
def test_mistakes_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        ImageBatches(numbered(), **arguments)
    with pytest.raises(ValueError, match="expected features"):
        ImageBatches(np.zeros((3, 4)), 1)
    with pytest.raises(IndexError, match="0 to 4; got 5"):
        ImageBatches(numbered(), 2)[5]


@pytest.mark.parametrize("batch_size", [5, 2])  # two batches an epoch, and five
def test_fit_begins_with_the_first_epoch_and_a_resumed_run_is_the_uninterrupted_one(batch_size):
    targets = np.linspace(0, 1, 10)

    def run(model, epochs, start_epoch):
        batches = ImageBatches(numbered(), batch_size, 1, targets, crop=4, start_epoch=start_epoch)
        model.compile(keras.optimizers.SGD(0.3), "mse", metrics=["mae"])
        watch = Epochs(batches)
        model.fit(
            batches, initial_epoch=start_epoch, epochs=epochs, shuffle=False, verbose=0, callbacks=[watch]
        )
        assert watch.seen == [(epoch, epoch) for epoch in range(start_epoch, epochs)]
        assert batches.epoch == epochs
        return model.get_weights()[0]

    uninterrupted = run(linear_model(4), 3, 0)
    resumed = linear_model(4)
    run(resumed, 1, 0)
    resumed = run(resumed, 3, 1)
    np.testing.assert_allclose(resumed, uninterrupted, rtol=1e-6)


def test_validation_between_the_epochs_does_not_disturb_them():
    batches = ImageBatches(numbered(), 2, 0, np.zeros(10))
    model = linear_model(6)
    model.compile("sgd", "mse")
    watch = Epochs(batches)
    model.fit(
        batches, validation_data=(np.zeros((4, 4, 6)), np.zeros(4)), epochs=2, shuffle=False, verbose=0,
        callbacks=[watch],
    )  # fmt: skip
    assert watch.seen == [(0, 0), (1, 1)]


def test_another_order_of_the_batches_is_told():
    batches = ImageBatches(numbered(), 1, 0, np.zeros(10))
    batches.on_epoch_begin()
    batches[0]
    with pytest.warns(UserWarning, match="shuffle=False"):
        batches[5]


def test_fit_that_shuffles_is_told_to_leave_it():
    batches = ImageBatches(numbered(), 1, 0, np.zeros(10))
    model = linear_model(6)
    model.compile("sgd", "mse")
    random.seed(0)
    with pytest.warns(UserWarning, match="give fit shuffle=False"):
        model.fit(batches, verbose=0)
