"""The fused layers against those of Keras, which they replace."""

import gc
import weakref

import keras
import numpy as np
import pytest
from keras import ops

from music_zoo.layers import fused

pytestmark = pytest.mark.keras

SHAPES = [((6, 5), -1), ((6, 7, 5), -1), ((6, 5, 7), 1), ((4, 3, 7, 5), -1), ((4, 5, 3, 7), 1)]


def batch(*shape):
    return np.random.default_rng(0).normal(3, 2, shape).astype("float32")


def pair(name, inputs, **settings):
    """A layer of ours and Keras' of that name, built, with the same weights, none at its initial value."""
    layers = [getattr(module, name)(**settings) for module in (fused, keras.layers)]
    for layer in layers:
        layer.build(inputs.shape)
        rng = np.random.default_rng(1)
        layer.set_weights([rng.uniform(0.5, 2, weight.shape) for weight in layer.weights])
    return layers


@pytest.mark.parametrize("cached", [1, fused.CACHED])
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(("shape", "axis"), SHAPES)
def test_batch_normalization_is_that_of_keras(shape, axis, training, cached, monkeypatch):
    monkeypatch.setattr(fused, "CACHED", cached)  # sums in parts, and in one
    x = batch(*shape)
    ours, theirs = pair("BatchNormalization", x, axis=axis, momentum=0.9, epsilon=1e-3)
    outputs = [ops.convert_to_numpy(layer(x, training=training)) for layer in (ours, theirs)]
    np.testing.assert_allclose(*outputs, rtol=1e-4, atol=1e-5)
    for own, keras_own in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(own, keras_own, rtol=1e-4, atol=1e-5)


def test_batch_normalization_without_scale_and_center_standardises():
    x = batch(64, 5)
    layer = fused.BatchNormalization(scale=False, center=False, epsilon=0.0)
    y = ops.convert_to_numpy(layer(x, training=True))
    np.testing.assert_allclose(y, (x - x.mean(axis=0)) / x.std(axis=0), rtol=1e-4, atol=1e-5)


def test_activations_are_freed_without_a_search_for_cycles():
    """They are most of the memory of a training step."""
    layer = fused.BatchNormalization()
    layer(batch(8, 5))
    gc.disable()
    try:
        outputs = weakref.ref(layer(batch(8, 5), training=True))
        assert outputs() is None
    finally:
        gc.enable()


def test_a_frozen_batch_normalization_keeps_its_statistics():
    x = batch(8, 5)
    layer = fused.BatchNormalization(epsilon=1e-3)
    layer.build(x.shape)
    layer.trainable = False
    y = ops.convert_to_numpy(layer(x, training=True))
    np.testing.assert_allclose(y, x / np.sqrt(1.001), rtol=1e-5)
    np.testing.assert_array_equal(layer.moving_mean, np.zeros(5))


@pytest.mark.parametrize("use_bias", [False, True])
@pytest.mark.parametrize("activation", [None, "gelu"])
def test_dense_is_that_of_keras(use_bias, activation):
    x = batch(4, 7, 5)
    ours, theirs = pair("Dense", x, units=3, use_bias=use_bias, activation=activation)
    np.testing.assert_allclose(
        *(ops.convert_to_numpy(layer(x)) for layer in (ours, theirs)), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize(
    ("name", "settings"), [("BatchNormalization", {"epsilon": 1e-3}), ("Dense", {"units": 3})]
)
def test_a_step_of_training_moves_the_weights_as_with_keras(name, settings):
    x, weights = batch(6, 4, 5), []
    for layer in pair(name, x, **settings):
        inputs = keras.Input(x.shape[1:])
        model = keras.Model(inputs, layer(inputs))
        model.compile(keras.optimizers.SGD(0.1), loss="mse")
        target = np.random.default_rng(2).normal(size=model.output_shape[1:])
        model.train_on_batch(x, np.broadcast_to(target, (6, *target.shape)))
        weights.append(model.get_weights())
    for own, keras_own in zip(*weights, strict=True):
        np.testing.assert_allclose(own, keras_own, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["BatchNormalization", "Dense"])
def test_mixed_precision(name):
    x = batch(6, 5)
    layers = pair(name, x, dtype="mixed_bfloat16", **({"units": 3} if name == "Dense" else {}))
    outputs = [layer(x, training=True) for layer in layers]
    assert keras.backend.standardize_dtype(outputs[0].dtype) == "bfloat16"
    np.testing.assert_allclose(
        *(ops.convert_to_numpy(ops.cast(y, "float32")) for y in outputs), rtol=0.02, atol=0.05
    )


@pytest.mark.parametrize("use_bias", [False, True])
@pytest.mark.parametrize(
    ("name", "shape", "settings"),
    [
        ("Conv1D", (2, 9, 5), {"kernel_size": 3, "padding": "same", "activation": "relu"}),
        ("Conv1D", (2, 9, 5), {"kernel_size": 3, "strides": 3}),
        ("Conv2D", (2, 9, 8, 5), {"kernel_size": (3, 2), "strides": 2, "padding": "same"}),
    ],
)
def test_convolutions_are_those_of_keras(name, shape, settings, use_bias):
    x = batch(*shape)
    ours, theirs = pair(name, x, filters=4, use_bias=use_bias, **settings)
    np.testing.assert_allclose(
        *(ops.convert_to_numpy(layer(x)) for layer in (ours, theirs)), rtol=1e-5, atol=1e-5
    )


@pytest.mark.skipif(keras.backend.backend() == "tensorflow", reason="needs a GPU's layout on TensorFlow")
def test_convolution_with_channels_first_is_that_of_keras():
    x = batch(2, 5, 9)
    ours, theirs = pair("Conv1D", x, filters=4, kernel_size=3, data_format="channels_first")
    np.testing.assert_allclose(
        *(ops.convert_to_numpy(layer(x)) for layer in (ours, theirs)), rtol=1e-5, atol=1e-5
    )
