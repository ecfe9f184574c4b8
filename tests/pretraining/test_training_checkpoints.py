import errno

import keras
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from keras import ops
from pretraining.small_trainers import JIT, BatchLosses, clips, compiled_trainer, shared_trainer, state

from music_zoo.datasets.batches import ImageBatches
from music_zoo.errors import PretrainingError
from music_zoo.pretraining import METHODS, checkpoints
from music_zoo.pretraining.checkpoints import CHECKPOINT, HISTORY, PREVIOUS, Checkpoint

pytestmark = pytest.mark.keras

SETTINGS = {"method": "simclr", "widths": (1, 2)}
EPOCHS, BATCHES = 4, 3


class Killed(Exception):
    """Stands for the end of the process."""


class Kill(keras.callbacks.Callback):
    """Ends the training in the middle of an epoch."""

    def __init__(self, epoch: int):
        super().__init__()
        self.at, self.epoch = epoch, None

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if (self.epoch, batch) == (self.at, 1):
            raise Killed


def train(trainer, folder, *callbacks, batches=ImageBatches, epochs: int = EPOCHS) -> list[float]:
    """Take up a training or begin it; the loss after each batch."""
    checkpoint, record = Checkpoint(folder, SETTINGS), BatchLosses()
    begin = checkpoint.restore(trainer)
    data = batches(clips(4 * BATCHES), 4, seed=3, start_epoch=begin)
    trainer.fit(
        data,
        epochs=epochs,
        initial_epoch=begin,
        shuffle=False,
        callbacks=[record, checkpoint, *callbacks],
        verbose=0,
    )
    return record.losses


@pytest.mark.parametrize("method", METHODS)
def test_a_training_that_was_killed_goes_on_as_if_nothing_had_been(method, tmp_path):
    trainer = shared_trainer(method)
    losses = train(trainer, tmp_path / "uninterrupted")
    end = state(trainer)
    with pytest.raises(Killed):
        train(shared_trainer(method), tmp_path / "killed", Kill(epoch=2))
    # A new trainer with other weights and random numbers would do for all methods, but takes long to compile.
    trainer = compiled_trainer(method, seed=9) if method == "moco" else shared_trainer(method)
    assert train(trainer, tmp_path / "killed") == losses[2 * BATCHES :]
    for ours, theirs in zip(state(trainer), end, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    logs = [(tmp_path / run / HISTORY).read_text() for run in ("uninterrupted", "killed")]
    assert logs[0] == logs[1] and len(logs[0].splitlines()) == 1 + EPOCHS
    assert len(set(losses)) == len(losses)


def test_a_finished_training_is_not_trained_on(tmp_path):
    train(shared_trainer("simclr"), tmp_path, epochs=1)
    assert train(shared_trainer("simclr"), tmp_path, epochs=1) == []


def test_a_checkpoint_holds_generators_slots_and_state(tmp_path):
    trainer = shared_trainer("moco")
    train(trainer, tmp_path, epochs=1)
    tensors, about = checkpoints._load(tmp_path / CHECKPOINT)
    names = [name.split()[-1] for name in tensors]
    generators = 4 + len(trainer.views.steps[0].layers)  # segments, dropout and its twin, MoCo's shuffling
    assert names.count("seed_generator_state") == generators
    assert {"queue", "step", "moving_mean", "kernel"} <= set(names)
    slots = 2 * len(trainer.trainable_variables) + 1  # Adam's two moments and the iteration
    assert sum(name.startswith("optimizer") for name in tensors) == slots
    assert about["settings"] == {"method": "simclr", "widths": [1, 2]}
    assert len(about["history"]) == 1 and {"loss", "accuracy", "spread"} == set(about["history"][0])


class Poisoned(ImageBatches):
    """Not a number, from the third epoch on."""

    def batch(self, epoch, index):
        return super().batch(epoch, index) * (np.nan if epoch >= 2 and index == 1 else 1)


def test_a_loss_that_is_not_finite_stops_the_training_and_leaves_the_last_good_checkpoint(tmp_path):
    with pytest.raises(PretrainingError, match="batch 2 of epoch 3.* holds the state after epoch 2.*rate"):
        train(shared_trainer("simclr"), tmp_path, batches=Poisoned)
    trainer = shared_trainer("simclr")
    assert Checkpoint(tmp_path, SETTINGS).restore(trainer) == 2
    assert all(np.isfinite(array).all() for array in state(trainer))


# ---- files, for which a model of one layer will do --------------------------------------------------------


def tiny(units: int = 2, name: str | None = None) -> keras.Model:
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(units, name=name)])
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), jit_compile=JIT)
    return model


def saver(folder, model, epoch: int = 1, **changes) -> Checkpoint:
    """Save `epoch` in weights and history."""
    checkpoint = Checkpoint(folder, SETTINGS | changes)
    checkpoint.set_model(model)
    checkpoint.history = [{"loss": float(number)} for number in range(epoch - 1)]
    for variable in model.weights:
        variable.assign(np.full(variable.shape, epoch))
    checkpoint.on_epoch_end(epoch - 1, {"loss": float(epoch), "knn_accuracy": float("nan")})
    return checkpoint


@pytest.fixture
def two_epochs(tmp_path):
    model = tiny()
    saver(tmp_path, model, 1)
    saver(tmp_path, model, 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([CHECKPOINT, PREVIOUS, HISTORY])
    return tmp_path


def restored(folder, said=None, **changes) -> tuple[int, float]:
    """Number of epochs, and what stands in the weights."""
    model = tiny()
    epochs = Checkpoint(folder, SETTINGS | changes).restore(model, [].append if said is None else said.append)
    weights = np.concatenate([np.ravel(ops.convert_to_numpy(v)) for v in model.weights])
    assert not epochs or len(set(weights)) == 1
    return epochs, weights[0]


def flip(path, place: int = -5, bit: int = 3) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1 << bit
    path.write_bytes(content)


def cut(path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def empty(path) -> None:
    path.write_bytes(b"")


def test_nothing_to_restore(tmp_path):
    assert Checkpoint(tmp_path / "absent", SETTINGS).restore(tiny()) == 0


def test_the_last_epoch_is_restored_under_other_automatic_names(two_epochs):
    said = []
    assert restored(two_epochs, said) == (2, 2.0) and not said  # Keras counts the models of a session


@pytest.mark.parametrize("damage", [flip, cut, empty])
def test_a_damaged_checkpoint_gives_way_to_the_one_before(two_epochs, damage):
    damage(two_epochs / CHECKPOINT)
    said = []
    assert restored(two_epochs, said) == (1, 1.0)
    assert len(said) == 1 and CHECKPOINT in said[0] and "taking the checkpoint before" in said[0]


def test_a_crash_between_two_renames_costs_an_epoch_at_most(two_epochs):
    (two_epochs / CHECKPOINT).unlink()
    assert restored(two_epochs) == (1, 1.0)


@pytest.mark.parametrize("damage", [flip, cut, empty])
def test_two_damaged_checkpoints_are_an_error(two_epochs, damage):
    damage(two_epochs / CHECKPOINT)
    damage(two_epochs / PREVIOUS)
    with pytest.raises(PretrainingError, match="No checkpoint can be read.*delete them to start anew"):
        restored(two_epochs)


@pytest.fixture(scope="module")
def one_epoch(tmp_path_factory):
    folder = tmp_path_factory.mktemp("one")
    model = tiny()
    saver(folder, model)
    return folder, model, (folder / CHECKPOINT).read_bytes()


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_flipped_bit_goes_unnoticed(one_epoch, data):
    folder, model, content = one_epoch
    (folder / CHECKPOINT).write_bytes(content)
    place = data.draw(st.integers(0, len(content) - 1))
    flip(folder / CHECKPOINT, place, data.draw(st.integers(0, 7)))
    with pytest.raises(PretrainingError, match="No checkpoint can be read"):
        Checkpoint(folder, SETTINGS).restore(model)


def test_a_checkpoint_of_other_settings_is_refused(two_epochs):
    with pytest.raises(PretrainingError, match="other settings.*method: 'simclr', now 'moco'"):
        restored(two_epochs, method="moco")


def test_a_checkpoint_of_another_model_is_refused(two_epochs):
    model = tiny(units=5)
    before = state(model)
    with pytest.raises(
        PretrainingError, match=r"another model: 'model 0 kernel' is \(3, 2\) there and \(3, 5\)"
    ):
        Checkpoint(two_epochs, SETTINGS).restore(model)
    for old, new in zip(before, state(model), strict=False):
        np.testing.assert_array_equal(old, new)


def test_a_full_disk_leaves_the_earlier_checkpoint(two_epochs, monkeypatch):
    before = {path.name: path.read_bytes() for path in two_epochs.iterdir()}

    def half(tensors, path, metadata):
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(checkpoints, "save_file", half)
    with pytest.raises(OSError, match="No space left"):
        saver(two_epochs, tiny(), 3)
    assert {path.name: path.read_bytes() for path in two_epochs.iterdir()} == before
    assert restored(two_epochs) == (2, 2.0)


def test_the_writer_s_own_error_is_one_of_the_disk(tmp_path, monkeypatch):
    def fails(tensors, path, metadata):
        raise checkpoints.SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(checkpoints, "save_file", fails)
    with pytest.raises(OSError, match="could not be written.*No space left"):
        saver(tmp_path, tiny())
    assert not list(tmp_path.iterdir())
