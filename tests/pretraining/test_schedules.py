from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

from music_zoo.pretraining.schedules import cosine, warmup_cosine

pytestmark = pytest.mark.keras

STORED = np.load(Path(__file__).parents[1] / "parity" / "losses.npz")


def test_the_published_momentum():
    steps = int(STORED["network_momentum_length"])
    assert steps == 999 * 5
    got = ops.convert_to_numpy(cosine(0.996, 1.0, np.arange(20), steps))
    np.testing.assert_allclose(got, STORED["network_momentum_first_20_of_4epochs_5steps"], atol=2e-7)
    last = ops.convert_to_numpy(cosine(0.996, 1.0, steps - 1, steps))
    np.testing.assert_allclose(last, STORED["network_momentum_last"], atol=2e-7)


def test_the_published_temperatures():
    epochs = np.arange(len(STORED["clustering_teacher_temp"]))
    got = ops.convert_to_numpy(cosine(0.02, 0.04, epochs, 10))
    np.testing.assert_allclose(got, STORED["clustering_teacher_temp"], atol=1e-8)
    got = ops.convert_to_numpy(cosine(0.1, 0.1, epochs, 10))
    np.testing.assert_allclose(got, STORED["clustering_student_temp"], atol=1e-8)


def test_a_cosine_stays_where_it_ends():
    got = ops.convert_to_numpy(cosine(2.0, 1.0, np.array([-5, 0, 5, 10, 11, 1000]), 10))
    np.testing.assert_allclose(got, [2, 2, 1.5, 1, 1, 1], atol=1e-6)
    assert float(ops.convert_to_numpy(cosine(2.0, 1.0, 0, 0))) == 1


def test_a_cosine_of_a_counting_variable():
    step = keras.Variable(5, dtype="int32", trainable=False)
    assert float(ops.convert_to_numpy(cosine(0.0, 1.0, step, 10))) == pytest.approx(0.5)


@pytest.mark.parametrize("warmup", [0, 10])
def test_warm_up_and_fall(warmup):
    rate = warmup_cosine(0.3, 110, warmup, final=0.01)
    got = [float(ops.convert_to_numpy(rate(step))) for step in (5, warmup, (110 + warmup) // 2, 110, 500)]
    first = 0.15 if warmup else 0.01 + 0.29 * (1 + np.cos(np.pi * 5 / 110)) / 2
    np.testing.assert_allclose(got, [first, 0.3, (0.3 + 0.01) / 2, 0.01, 0.01], rtol=1e-5)


def test_a_warm_up_is_saved_with_its_optimizer():
    optimizer = keras.optimizers.SGD(warmup_cosine(0.3, 100, 10))
    again = keras.optimizers.SGD.from_config(optimizer.get_config())
    assert float(ops.convert_to_numpy(again.learning_rate)) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0.1, 100, 100), "before the training of 100 steps"),
        ((0.1, 100, -1), "got -1 steps"),
        ((0.1, 100, 0, 0.2), "final <= peak"),
        ((0.0, 100), "peak > 0"),
    ],
)
def test_impossible_schedules_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        warmup_cosine(*arguments)
