import keras
import numpy as np
import pytest

from music_zoo.calibration import Temperature

pytestmark = [
    pytest.mark.keras,
    # Keras 3.15 turns TensorFlow variables into arrays in a way that numpy 2 deprecates.
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
]

LOGITS = np.random.default_rng(0).normal(size=(3, 5, 4)).astype(np.float32)


@pytest.mark.parametrize("shape", [(), (4,), (3, 4), (2, 3, 4)])
def test_it_divides_logits_of_any_shape(shape):
    layer = Temperature()
    logits = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    np.testing.assert_array_equal(layer(logits), logits)
    layer.temperature.assign(2.5)
    np.testing.assert_allclose(layer(logits), logits / np.float32(2.5), rtol=1e-6)


def test_a_model_of_unknown_batch_and_length_predicts_with_it():
    inputs = keras.Input((None, 4))
    layer = Temperature()
    model = keras.Model(inputs, layer(inputs))
    assert model.output_shape == (None, None, 4)
    layer.temperature.assign(0.5)
    np.testing.assert_allclose(model.predict(LOGITS, verbose=0), 2 * LOGITS, rtol=1e-6)


def test_training_leaves_it_alone():
    inputs = keras.Input((4,))
    layer = Temperature()
    model = keras.Model(inputs, layer(keras.layers.Dense(3)(inputs)))
    assert len(layer.trainable_weights) == 0 and len(layer.weights) == 1
    layer.temperature.assign(1.5)
    model.compile("sgd", "mse")
    model.fit(LOGITS[0], np.ones((5, 3), np.float32), verbose=0)
    assert float(layer.temperature) == 1.5


def test_it_is_saved_and_loaded_with_its_weight(tmp_path):
    inputs = keras.Input((4,))
    layer = Temperature(name="calibrator")
    model = keras.Model(inputs, layer(inputs))
    layer.temperature.assign(1.25)
    assert layer.temperature.path.endswith("calibrator/temperature")
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")  # registered, so no custom_objects
    assert float(again.get_layer("calibrator").temperature) == 1.25


def test_it_keeps_float32_under_mixed_precision():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        layer = Temperature()
    finally:
        keras.config.set_dtype_policy("float32")
    result = layer(keras.ops.convert_to_tensor(LOGITS.astype(np.float16)))
    assert keras.backend.standardize_dtype(result.dtype) == "float32"
    assert keras.backend.standardize_dtype(layer.temperature.dtype) == "float32"
    assert Temperature.from_config(layer.get_config()).dtype_policy.name == "float32"
