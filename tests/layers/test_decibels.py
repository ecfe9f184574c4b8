import librosa
import numpy as np
import pytest
from layer_checks import gradient, run

from music_zoo.layers import Decibels

pytestmark = pytest.mark.keras

LIBROSA = {"power": librosa.power_to_db, "amplitude": librosa.amplitude_to_db}


def spectrograms() -> np.ndarray:
    """Three examples over 16 decades, the second a hundred times louder, the third silent."""
    values = 10 ** np.random.default_rng(0).uniform(-12, 4, (3, 20, 30))
    values[1] *= 100
    values[2] = 0
    values[0, 3] = 0
    return values.astype("float32")


@pytest.mark.parametrize("of", ["power", "amplitude"])
@pytest.mark.parametrize("ref", [1.0, 0.02, 1e-12, "max"])
@pytest.mark.parametrize("amin", [None, 1e-7])
@pytest.mark.parametrize("top_db", [None, 80.0, 0.0])
def test_equals_librosa_for_each_example(of, ref, amin, top_db):
    values = spectrograms()
    actual = run(Decibels(of, ref, amin, top_db), values)
    options = {} if amin is None else {"amin": amin}
    for example, result in zip(values.astype("float64"), actual, strict=True):
        expected = LIBROSA[of](example, ref=np.max if ref == "max" else ref, top_db=top_db, **options)
        np.testing.assert_allclose(result, expected, rtol=0, atol=5e-5)


@pytest.mark.parametrize("ref", [1.0, "max"])
def test_gradient_is_finite_on_silence(ref):
    assert np.isfinite(gradient(Decibels(ref=ref), spectrograms())).all()


@pytest.mark.parametrize(
    "options, problem",
    [
        ({"of": "energy"}, "of must be"),
        ({"ref": "mean"}, "ref must be a positive number or 'max'"),
        ({"ref": 0.0}, "ref must be"),
        ({"amin": 0.0}, "amin must be at least 1.18e-38"),
        ({"top_db": -1.0}, "top_db must not be negative"),
    ],
)
def test_wrong_arguments(options, problem):
    with pytest.raises(ValueError, match=problem):
        Decibels(**options)
