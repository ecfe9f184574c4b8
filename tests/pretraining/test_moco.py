from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops
from pretraining.small_trainers import JIT, clips, pairs, seed_weights, small_encoder, small_trainer

from music_zoo.pretraining import MoCo

pytestmark = pytest.mark.keras

STORED = np.load(Path(__file__).parents[1] / "parity" / "moco.npz")


def original() -> MoCo:
    """What the original's six steps were made with; decay in PyTorch is a part of the loss."""
    decay = keras.regularizers.L2(float(STORED["weight_decay"]) / 2)
    dense = keras.layers.Dense(8, kernel_regularizer=decay, bias_regularizer=decay)
    moco = MoCo(
        keras.Sequential([keras.Input((12,)), dense]),
        projection=(),
        queue_length=int(STORED["K"]),
        temperature=float(STORED["T"]),
        momentum=float(STORED["m"]),
    )
    moco.encoder.set_weights([STORED["weight"].T, STORED["bias"]])
    moco.key_encoder.set_weights([STORED["weight"].T, STORED["bias"]])
    # The original writes from place 0 on and wraps; here the newest keys are first. So that the oldest
    # fall out in the same order, blocks of a batch stand here in the opposite one.
    moco.queue.assign(by_age(STORED["queue0"].T, 0))
    moco.compile(
        keras.optimizers.SGD(float(STORED["lr"]), momentum=float(STORED["sgd_momentum"])), jit_compile=JIT
    )
    return moco


def by_age(rows: np.ndarray, pointer: int) -> np.ndarray:
    """The original's ring, of which `pointer` is the next place to write, with the newest batch first."""
    blocks = np.roll(rows, -pointer, axis=0).reshape(4, 4, -1)
    return blocks[::-1].reshape(16, -1)


def close(ours, stored):
    np.testing.assert_allclose(ops.convert_to_numpy(ours), stored, rtol=0, atol=1e-5)


def test_six_steps_equal_those_of_the_original():
    moco = original()
    for step in range(6):
        stored = {name[6:]: STORED[name] for name in STORED.files if name.startswith(f"step{step}_")}
        decayed = sum(np.sum(ops.convert_to_numpy(v) ** 2) for v in moco.trainable_variables)
        loss = moco.train_on_batch((stored["xq"], stored["xk"]), return_dict=True)
        expected = stored["loss"] + STORED["weight_decay"] / 2 * decayed
        assert float(loss["loss"]) == pytest.approx(expected, abs=2e-5)
        assert float(loss["accuracy"]) == np.mean(stored["logits"].argmax(axis=-1) == 0)
        for network, letter in ((moco.encoder, "q"), (moco.key_encoder, "k")):
            close(network.weights[0], stored[f"{letter}_weight"].T)
            close(network.weights[1], stored[f"{letter}_bias"])
        close(moco.queue, by_age(stored["queue"].T, int(stored["ptr"])))


def test_fit_takes_the_same_six_steps():
    moco = original()
    views = tuple(np.concatenate([STORED[f"step{s}_{x}"] for s in range(6)]) for x in ("xq", "xk"))
    moco.fit(views, batch_size=4, shuffle=False, verbose=0)
    close(moco.encoder.weights[0], STORED["step5_q_weight"].T)
    close(moco.key_encoder.weights[0], STORED["step5_k_weight"].T)
    close(moco.queue, by_age(STORED["step5_queue"].T, int(STORED["step5_ptr"])))


def test_the_queue_need_not_be_a_multiple_of_the_batch():
    moco = small_trainer("moco", views=False, queue_length=7, groups=1)
    moco.compile(keras.optimizers.SGD(0.0), jit_compile=JIT)
    before = ops.convert_to_numpy(moco.queue)
    keys = []
    for step in range(3):
        moco.train_on_batch(pairs(4, seed=step))
        keys.append(ops.convert_to_numpy(moco.queue)[:4])
        expected = np.concatenate([*keys[::-1], before])[:7]
        np.testing.assert_array_equal(ops.convert_to_numpy(moco.queue), expected)
        np.testing.assert_allclose(np.linalg.norm(expected, axis=-1), 1.0, rtol=1e-5)


def test_keys_of_drawn_groups_come_back_in_the_order_of_their_clips():
    encoder = keras.Sequential([keras.Input((16, 16)), keras.layers.Flatten(), keras.layers.Dense(8)])
    moco = MoCo(
        encoder, projection=(), queue_length=9, groups=3
    )  # without normalisation groups change nothing
    moco.compile(keras.optimizers.SGD(0.0), jit_compile=JIT)
    _, second = data = pairs(9)
    expected = ops.convert_to_numpy(encoder(second))
    expected = expected / np.linalg.norm(expected, axis=-1, keepdims=True)
    moco.train_on_batch(data)
    np.testing.assert_allclose(ops.convert_to_numpy(moco.queue), expected, atol=1e-5)


def test_groups_have_statistics_of_their_own():
    losses = {}
    for groups in (1, 2):
        moco = small_trainer("moco", views=False, groups=groups)
        seed_weights(moco)
        first, second = pairs(8)
        query, _ = moco((first, second), training=True)
        losses[groups] = ops.convert_to_numpy(query)
        if groups == 1:
            halves = [
                moco((first[half], second[half]), training=True)[0] for half in np.split(np.arange(8), 2)
            ]
    np.testing.assert_allclose(losses[2], np.concatenate([*map(ops.convert_to_numpy, halves)]), atol=1e-6)
    assert not np.allclose(losses[1], losses[2])


def test_only_normalisation_calls_for_groups():
    plain = keras.Sequential([keras.Input((16, 16)), keras.layers.Flatten()])
    assert MoCo(plain).groups == 1
    assert MoCo(small_encoder()).groups == 4
    nested = keras.Sequential([keras.Input((16, 16)), small_encoder()])
    assert MoCo(nested).groups == 4


def test_outputs_of_zero_have_a_finite_gradient():
    moco = small_trainer("moco", views=False, groups=1)
    moco.projector.weights[-2].assign(0 * moco.projector.weights[-2])
    moco.compile(keras.optimizers.SGD(0.1), jit_compile=JIT)
    silence = np.zeros_like(clips(4, 16))
    moco.train_on_batch((silence, silence))
    assert all(np.isfinite(ops.convert_to_numpy(v)).all() for v in moco.variables)
