import keras
import numpy as np
import pytest
from keras import ops
from models.test_swin import SMALL as SMALL_SWIN
from pretraining.small_trainers import (
    JIT,
    OPTIONS,
    BatchLosses,
    clips,
    pairs,
    seed_weights,
    shared_trainer,
    small_encoder,
    small_trainer,
    values,
)
from small import small_front_end

from music_zoo.classifier import Classifier
from music_zoo.errors import PretrainingError
from music_zoo.models import Swin
from music_zoo.pretraining import METHODS, SimCLR

pytestmark = pytest.mark.keras


@pytest.fixture(params=METHODS)
def method(request):
    return request.param


def test_a_step_moves_every_weight_and_no_target_by_a_gradient(method):
    trainer = shared_trainer(method)
    targets = [target for _, target in trainer._targets]
    assert not {id(v) for v in targets} & {id(v) for v in trainer.trainable_variables}
    before, targets_before = values(trainer.trainable_variables), values(targets)
    generators = [v for v in trainer.variables if v.name == "seed_generator_state"]
    drawn = values(generators)

    loss = trainer.train_on_batch(clips(4))

    assert np.isfinite(loss).all()
    for variable, old in zip(trainer.trainable_variables, before, strict=True):
        new = ops.convert_to_numpy(variable)
        assert np.isfinite(new).all() and not np.array_equal(new, old), variable.path
    for target, old in zip(targets, targets_before, strict=True):
        if target.name not in ("moving_mean", "moving_variance"):  # it starts as the online network
            np.testing.assert_allclose(ops.convert_to_numpy(target), old, rtol=1e-6, err_msg=target.path)
    assert int(ops.convert_to_numpy(trainer.step)) == 1
    assert all(not np.array_equal(a, b) for a, b in zip(drawn, values(generators), strict=True))


def test_evaluation_changes_nothing(method):
    trainer = shared_trainer(method)
    before = values(trainer.variables)
    first = trainer.evaluate(clips(8), batch_size=4, verbose=0, return_dict=True)
    assert first == trainer.evaluate(clips(8), batch_size=4, verbose=0, return_dict=True)
    assert all(np.isfinite(value) for value in first.values())
    for variable, old in zip(trainer.variables, before, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(variable), old, err_msg=variable.path)


def test_labels_are_left_unused():
    losses = []
    for labels in (None, np.arange(8)):
        trainer = small_trainer("simclr", views=False)
        seed_weights(trainer)
        trainer.compile("sgd", jit_compile=JIT)
        losses.append(trainer.fit(pairs(8), labels, 4, epochs=1, shuffle=False, verbose=0).history["loss"])
    assert losses[0] == losses[1]


def test_regularizers_of_the_encoder_count():
    added, trainers = 0.0, []
    for decay in (0.0, 0.5):
        regularizer = keras.regularizers.L2(decay)
        trainer = SimCLR(small_encoder(kernel_regularizer=regularizer), projection=(4,))
        seed_weights(trainer)
        trainer.compile("sgd", jit_compile=JIT)
        trainers.append(trainer)
        added = decay * np.sum(values(trainer.trainable_variables)[0] ** 2)
    without, with_ = (t.evaluate(pairs(4), verbose=0, return_dict=True)["loss"] for t in trainers)
    assert with_ == pytest.approx(without + added, rel=1e-5)


@pytest.mark.parametrize("with_statistics", [False, True])
def test_targets_move_by_their_momentum(with_statistics):
    trainer = small_trainer("simclr")
    online = trainer.encoder
    target = trainer.target_of(online, with_statistics)
    old = values(target.variables)
    for variable in online.variables:
        if variable.name != "seed_generator_state":
            variable.assign(variable + 1.0)
    trainer.move_targets(0.75)
    statistics = 0
    for variable, before in zip(target.variables, old, strict=True):
        is_statistic = variable.name in ("moving_mean", "moving_variance")
        moved = before + 0.25 if with_statistics or not is_statistic else before
        np.testing.assert_allclose(ops.convert_to_numpy(variable), moved, rtol=1e-6, atol=1e-6)
        statistics += is_statistic
    assert statistics == 2 and not target.trainable_variables


def test_a_target_normalises_by_its_batch():
    encoder = keras.Sequential(
        [keras.Input((16, 16)), keras.layers.Flatten(), keras.layers.BatchNormalization(epsilon=1e-3)]
    )
    trainer = METHODS["moco"](encoder, projection=(), groups=1, queue_length=6)
    trainer.compile(keras.optimizers.SGD(0.0), jit_compile=JIT)
    first, second = pairs(6)
    trainer.train_on_batch((first, second))
    flat = second.reshape(6, -1).astype("float64")
    normal = (flat - flat.mean(axis=0)) / np.sqrt(flat.var(axis=0) + 1e-3)
    expected = normal / np.linalg.norm(normal, axis=-1, keepdims=True)
    np.testing.assert_allclose(ops.convert_to_numpy(trainer.queue), expected, atol=1e-5)


@pytest.fixture(scope="module")
def swin():
    """A view of a classifier: a network in a network, with random layers."""
    backbone = Swin(**SMALL_SWIN | {"n_mels": 16}, drop_path_rate=0.5)
    classifier = Classifier(small_front_end(), backbone, ("a", "b"), window=1.0)
    return classifier.view("features", "embedding")


def test_the_target_of_a_classifier_is_its_twin_but_for_chance(swin):
    trainer = SimCLR(swin)
    target = trainer.target_of(swin)
    assert [v.name for v in target.variables] == [v.name for v in swin.variables]
    assert not {id(v) for v in target.variables} & {id(v) for v in swin.variables}
    images = clips(3)
    ours, theirs = (ops.convert_to_numpy(network(images)) for network in (swin, target))
    np.testing.assert_array_equal(ours, theirs)
    states = [
        [tuple(v) for v in values(n.variables) if v.shape == (2,) and v.dtype.kind in "iu"]
        for n in (swin, target)
    ]
    assert len(states[0]) and not set(states[0]) & set(states[1])
    ours, theirs = (ops.convert_to_numpy(network(images, training=True)) for network in (swin, target))
    assert not np.allclose(ours, theirs)


def test_a_classifier_learns_without_labels(swin):
    trainer = SimCLR(swin, temperature=0.1)
    trainer.compile(keras.optimizers.Adam(3e-3), jit_compile=swin.jit_compile)
    data = pairs(8)
    losses = [trainer.train_on_batch(data)[0] for _ in range(8)]
    assert np.mean(losses[-3:]) < np.mean(losses[:3])


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_trains(policy):
    keras.config.set_dtype_policy(policy)
    try:
        trainer = small_trainer("moco")
        assert trainer.encoder.compute_dtype != "float32"
        trainer.compile(keras.optimizers.SGD(0.1), jit_compile=JIT)
        record = BatchLosses()
        trainer.fit(clips(8), batch_size=4, callbacks=[record], verbose=0)
        assert np.isfinite(record.losses).all()
        assert all(v.dtype == "float32" for v in [*trainer.trainable_variables, trainer.queue])
    finally:
        keras.config.set_dtype_policy("float32")


def test_clips_reach_the_views_in_full_precision():
    seen = []

    class Look(keras.layers.Layer):
        def call(self, clips):
            seen.append(clips.dtype)
            return clips, clips

    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        trainer = SimCLR(small_encoder(), Look(dtype="float32"))
        trainer(clips(2, 16))
    finally:
        keras.config.set_dtype_policy("float32")
    assert keras.backend.standardize_dtype(seen[0]) == "float32"


class Lengths(keras.utils.PyDataset):
    """Batches of these lengths."""

    def __init__(self, *lengths):
        super().__init__()
        self.lengths = lengths

    def __len__(self):
        return len(self.lengths)

    def __getitem__(self, index):
        return (pairs(self.lengths[index]),)


@pytest.mark.parametrize(
    ("method", "data", "batch_size", "message"),
    [
        ("simclr", pairs(1), None, "at least 2 clips, got one of 1"),
        ("vicreg", pairs(9), 4, "drop the last, smaller batch"),
        ("barlow_twins", pairs(4), 1, "got one of 1"),
        ("simclr", Lengths(1, 4), None, "got one of 1"),
        ("clustering", Lengths(4, 1), None, "got one of 1"),
        ("moco", pairs(40), 16, "at least 4 and at most 12 clips, got one of 16"),
        ("moco", pairs(40), None, "at most 12 clips, got one of 32"),
        ("moco", Lengths(8, 13), None, "at most 12"),
        ("moco", pairs(11), 8, "at least 4 .* got one of 3"),
    ],
)
def test_batches_that_the_loss_cannot_use_are_refused_before_the_training(method, data, batch_size, message):
    trainer = small_trainer(method, views=False)
    trainer.compile("sgd", jit_compile=JIT)
    before = values(trainer.variables)
    with pytest.raises(PretrainingError, match=message):
        trainer.fit(data, None, batch_size, verbose=0)
    for old, new in zip(before, values(trainer.variables), strict=True):
        np.testing.assert_array_equal(old, new)


def test_batches_of_good_length_are_accepted():
    trainer = small_trainer("simclr", views=False)
    trainer.compile("sgd", jit_compile=JIT)
    assert np.isfinite(trainer.fit(Lengths(4, 2), verbose=0).history["loss"]).all()


def test_clips_without_views_are_refused():
    trainer = small_trainer("simclr", views=False)
    with pytest.raises(PretrainingError, match="two views of each clip"):
        trainer(clips(4, 16))


def test_a_queue_without_a_place_is_refused():
    with pytest.raises(PretrainingError, match="queue_length=0"):
        METHODS["moco"](small_encoder(), **OPTIONS["moco"] | {"queue_length": 0})
