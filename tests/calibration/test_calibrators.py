import keras
import numpy as np
import pytest
from calibration.calibration_cases import multi_label_case, single_label_case
from scipy.special import expit, log_softmax, softmax

from music_zoo.calibration import (
    CALIBRATORS,
    Isotonic,
    Temperature,
    VectorScaling,
    fit_isotonic,
    fit_temperature,
    fit_vector_scaling,
)

pytestmark = pytest.mark.keras

CASES = {"single_label": single_label_case(150, 4, seed=0), "multi_label": multi_label_case(150, 4, seed=0)}
LOGITS = np.random.default_rng(1).normal(scale=3, size=(5, 3, 4)).astype(np.float32)


def fitted(kind, task):
    layer = Isotonic(task, name="calibrator") if kind == "isotonic" else CALIBRATORS[kind](name="calibrator")
    layer.build((None, 4))
    logits, targets = CASES[task]
    layer.fit(2 * logits, targets, task)
    return layer


def values(tensor):
    return keras.ops.convert_to_numpy(tensor)


def expected(kind, task, logits):
    """Calibrated probabilities in float64, from what the fitting functions return."""
    case = CASES[task]
    if kind == "temperature":
        logits = logits / fit_temperature(2 * case[0], case[1], task)
    elif kind == "vector":
        scale, bias = fit_vector_scaling(2 * case[0], case[1], task)
        logits = scale * logits + bias
    activated = softmax(logits, axis=-1) if task == "single_label" else expit(logits)
    if kind != "isotonic":
        return activated
    temperature, knots, table = fit_isotonic(2 * case[0], case[1], task)
    posteriors = (
        softmax(logits / temperature, axis=-1) if task == "single_label" else expit(logits / temperature)
    )
    looked_up = np.stack([np.interp(posteriors[..., c], knots[c], table[c]) for c in range(4)], axis=-1)
    return looked_up / (looked_up.sum(axis=-1, keepdims=True) if task == "single_label" else 1)


@pytest.mark.parametrize("task", list(CASES))
@pytest.mark.parametrize("kind", list(CALIBRATORS))
@pytest.mark.parametrize("shape", [(5, 3, 4), (15, 4), (4,)])
def test_the_layer_does_what_was_fitted(kind, task, shape):
    logits = LOGITS.ravel()[: np.prod(shape)].reshape(shape)
    out = values(fitted(kind, task)(logits))
    assert out.shape == shape and out.dtype == np.float32
    probabilities = softmax(out, axis=-1) if task == "single_label" else expit(out)
    np.testing.assert_allclose(probabilities, expected(kind, task, logits.astype(np.float64)), atol=1e-5)


@pytest.mark.parametrize("task", list(CASES))
@pytest.mark.parametrize("kind", list(CALIBRATORS))
def test_a_saved_model_says_the_same(kind, task, tmp_path):
    layer = fitted(kind, task)
    inputs = keras.Input((None, 4))
    model = keras.Model(inputs, layer(inputs))
    assert not layer.trainable_weights
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(again.predict_on_batch(LOGITS), values(layer(LOGITS)), atol=1e-6)


@pytest.mark.parametrize("task", list(CASES))
def test_extreme_logits_give_finite_ones(task):
    extreme = np.array([[200.0, -200, 0, 0], [-1e4, -1e4, -1e4, 1e4]], np.float32)
    assert np.isfinite(values(fitted("isotonic", task)(extreme))).all()


@pytest.mark.parametrize("task", list(CASES))
def test_before_the_fit_they_change_nothing(task):
    for layer in (Temperature(), VectorScaling(), Isotonic(task)):
        out = values(layer(LOGITS / 3))
        if task == "single_label":  # up to a constant
            np.testing.assert_allclose(log_softmax(out, axis=-1), log_softmax(LOGITS / 3, axis=-1), atol=1e-2)
        else:
            np.testing.assert_allclose(out, LOGITS / 3, atol=1e-2)


def test_they_keep_float32_under_mixed_precision():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        layers = [VectorScaling(), Isotonic()]
    finally:
        keras.config.set_dtype_policy("float32")
    for layer in layers:
        assert values(layer(keras.ops.convert_to_tensor(LOGITS, "float16"))).dtype == np.float32
        assert {keras.backend.standardize_dtype(v.dtype) for v in layer.weights} == {"float32"}


def test_a_table_of_another_task_is_refused():
    layer = Isotonic("single_label")
    layer.build((None, 4))
    with pytest.raises(ValueError, match="single_label posteriors"):
        layer.fit(*CASES["multi_label"], "multi_label")
    with pytest.raises(ValueError, match="`task` must be"):
        Isotonic("softmax")
