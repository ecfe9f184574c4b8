import numpy as np
import pytest
from layer_checks import gradient, run

from music_zoo.layers import FixedStandardization, MinMaxNormalization, Standardization

pytestmark = pytest.mark.keras


def features() -> np.ndarray:
    return (np.random.default_rng(0).standard_normal((3, 16, 50)) * [[[1]], [[20]], [[1e-4]]] - 60).astype(
        "float32"
    )


def test_min_max_spans_0_to_1_in_each_example():
    values = features().astype("float64")
    low, high = values.min(axis=(1, 2), keepdims=True), values.max(axis=(1, 2), keepdims=True)
    actual = run(MinMaxNormalization(), values)
    np.testing.assert_allclose(actual, (values - low) / (high - low), rtol=0, atol=1e-6)
    assert (actual.min(axis=(1, 2)) == 0).all() and (actual.max(axis=(1, 2)) == 1).all()


def test_standardization_has_mean_0_and_variance_1_in_each_example():
    values = features().astype("float64")
    mean, std = values.mean(axis=(1, 2), keepdims=True), values.std(axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(run(Standardization(), values), (values - mean) / std, rtol=0, atol=2e-5)


def test_fixed_standardization():
    values = features()
    np.testing.assert_allclose(run(FixedStandardization(-60.0, 5.0), values), (values + 60) / 5, atol=1e-6)


@pytest.mark.parametrize("layer_class", [MinMaxNormalization, Standardization])
@pytest.mark.parametrize("constant", [0.0, -100.0, 0.1, 1e30])
def test_a_constant_example_becomes_zeros_with_finite_gradient(layer_class, constant):
    values = np.full((2, 37, 101), constant, "float32")
    layer = layer_class()
    assert (run(layer, values) == 0).all()
    assert np.isfinite(gradient(layer, values)).all()


@pytest.mark.parametrize("layer_class", [MinMaxNormalization, Standardization])
@pytest.mark.parametrize("spread", [1e-37, 1e-20, 1e-12, 1e-6])
def test_hardly_any_spread_is_finite_with_finite_gradient(layer_class, spread):
    values = np.zeros((1, 4, 5), "float32")
    values[0, 1, 2] = spread
    layer = layer_class()
    assert np.isfinite(run(layer, values)).all()
    assert np.isfinite(gradient(layer, values)).all()


def test_std_must_be_positive():
    with pytest.raises(ValueError, match="std must be positive, got 0"):
        FixedStandardization(1.0, 0.0)
