import keras
import numpy as np
import pytest
from augmentation_checks import called, called_compiled, check_restored, from_own_config

from music_zoo.layers.augmentation import CHAINS, Chain, Gain, RandomCrop, s3t

pytestmark = pytest.mark.keras

IMAGES = np.random.default_rng(0).uniform(size=(5, 16, 30)).astype("float32")


def test_layers_one_after_the_other():
    chain = Chain([RandomCrop(8, seed=1), Gain(0.5, seed=2)])
    crop, gain = RandomCrop(8, seed=1), Gain(0.5, seed=2)
    np.testing.assert_array_equal(called(chain, IMAGES), called(gain, called(crop, IMAGES)))
    assert chain(keras.Input((16, 30))).shape == (None, 16, 8)


def test_off_unless_training():
    chain = Chain([RandomCrop(8), Gain(0.5)])
    for training in (None, False):
        np.testing.assert_array_equal(called(chain, IMAGES, training), IMAGES[..., 11:19])


def test_empty_chain_is_the_identity():
    np.testing.assert_array_equal(called(CHAINS["multi_view"](seed=1), IMAGES), IMAGES)


def test_s3t_changes_every_example_each_time_anew():
    chain = s3t(seed=1)
    once, twice = called(chain, IMAGES), called(chain, IMAGES)
    assert once.shape == IMAGES.shape
    for changed, before in ((once, IMAGES), (twice, IMAGES), (once, twice)):
        assert (np.abs(changed - before).max(axis=(1, 2)) > 0.01).all()
    np.testing.assert_array_equal(called(chain, IMAGES, training=False), IMAGES)


def test_one_seed_gives_every_layer_another():
    seeds = [layer.seed for layer in s3t(seed=1).layers]
    assert len(set(seeds)) == len(seeds)
    assert np.diff(np.sort(seeds)).min() > 1000  # so many draws until they would repeat each other on PyTorch
    assert seeds == [layer.seed for layer in s3t(seed=1).layers]
    assert set(seeds).isdisjoint(layer.seed for layer in s3t(seed=2).layers)
    np.testing.assert_array_equal(called(s3t(seed=1), IMAGES), called(s3t(seed=1), IMAGES))


@pytest.mark.parametrize("name", CHAINS)
def test_saved_as_config(name):
    sample_rate = {"sample_rate": 22_050} if name == "clmr" else {}
    assert type(from_own_config(CHAINS[name](**sample_rate, seed=3))) is Chain


def test_layers_that_know_no_training():
    chain = Chain([keras.layers.Rescaling(2.0), keras.layers.Activation("relu")])
    np.testing.assert_array_equal(called(chain, IMAGES - 0.5), np.maximum(2 * (IMAGES - 0.5), 0))


def test_saved_and_restored(tmp_path):
    check_restored(s3t(seed=1), IMAGES, tmp_path / "state.weights.h5")


def test_compiled():
    first, second = called_compiled(s3t(seed=1), [IMAGES, IMAGES])
    np.testing.assert_allclose(first, called(s3t(seed=1), IMAGES), atol=1e-5)
    assert np.abs(first - second).max() > 0.01


def test_in_a_model_that_is_fitted():
    model = keras.Sequential(
        [
            keras.Input((16, 30)),
            s3t(seed=1),
            keras.layers.Flatten(),
            keras.layers.Dense(1, kernel_initializer="zeros"),
        ]
    )
    model.compile("sgd", "mse", jit_compile=keras.config.backend() == "jax")
    before = states(model)
    model.predict(IMAGES, batch_size=5, verbose=0)
    assert states(model) == before
    losses = model.fit(IMAGES, np.ones(5), batch_size=3, epochs=2, verbose=0).history["loss"]
    assert np.isfinite(losses).all()
    assert all(now != then for now, then in zip(states(model), before, strict=True))


def states(model) -> list:
    layers = model.layers[0].layers
    return [keras.ops.convert_to_numpy(layer.seed_generator.state).tolist() for layer in layers]
