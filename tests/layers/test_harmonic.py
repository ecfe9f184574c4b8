"""Harmonic filters: places, widths and gradient, against the triangles written out in float64."""

from pathlib import Path

import keras
import numpy as np
import pytest
from layer_checks import gradient, run, run_traced

from music_zoo.layers import STFT, Decibels, FrontEnd, HarmonicFilterBank, LogCompression
from music_zoo.layers.harmonic import harmonic_centers

pytestmark = pytest.mark.keras

FIXTURE = Path(__file__).parents[1] / "parity" / "harmoniccnn.npz"


def triangles(
    sample_rate: int, n_fft: int, n_harmonics: int, per_semitone: int, quality: float
) -> np.ndarray:
    """`(n_harmonics, levels, bins)`, one filter at a time."""
    bins = np.arange(n_fft // 2 + 1) * sample_rate / n_fft
    centers = harmonic_centers(sample_rate, n_harmonics, per_semitone)
    filters = np.zeros((*centers.shape, len(bins)))
    for place in np.ndindex(centers.shape):
        center = centers[place]
        width = (0.1079 * center + 24.7) / quality
        rising, falling = 1 + 2 * (bins - center) / width, 1 - 2 * (bins - center) / width
        filters[place] = np.maximum(0, np.minimum(rising, falling))
    return filters


def test_centers_are_those_of_the_original():
    centers = harmonic_centers(16_000)
    assert centers.shape == (6, 128)
    assert centers[0, 0] == pytest.approx(32.7032, abs=1e-4)  # C1
    np.testing.assert_allclose(centers[0, 12] / centers[0, 0], 2**0.5)  # 12 levels of half a semitone
    np.testing.assert_allclose(centers[5], 6 * centers[0])
    with np.load(FIXTURE) as stored:
        np.testing.assert_allclose(centers.ravel(), stored["const__f0"], rtol=1e-6)


@pytest.mark.parametrize("quality", [1.0, 0.7, 3.0])
@pytest.mark.parametrize("settings", [(16_000, 512, 6, 2), (8000, 256, 2, 1)])
def test_filters_are_triangles_around_harmonics(settings, quality):
    layer = HarmonicFilterBank(*settings)
    layer.build((None, settings[1] // 2 + 1, None))
    layer.quality.assign([quality])
    spectrogram = np.random.default_rng(0).uniform(size=(2, settings[1] // 2 + 1, 5))
    expected = np.einsum("hlb,nbt->nhlt", triangles(*settings, quality), spectrogram)
    np.testing.assert_allclose(run(layer, spectrogram), expected, rtol=0, atol=2e-5)
    np.testing.assert_allclose(run_traced(layer, spectrogram.astype("float32")), expected, rtol=0, atol=2e-5)


def test_the_quality_is_the_only_weight_and_has_a_name_of_its_own():
    front_end = FrontEnd([STFT(512, 256), HarmonicFilterBank(16_000), Decibels(top_db=None)], 16_000)
    front_end.build((None, 16_000))
    assert [v.path for v in front_end.trainable_weights] == ["front_end/harmonic_filter_bank/quality"]
    again = FrontEnd.from_config(front_end.get_config())
    again.build((None, 16_000))
    assert [v.path for v in again.weights] == ["front_end/harmonic_filter_bank/quality"]
    assert again.get_config() == front_end.get_config()


def test_gradients_are_finite_on_silence():
    layer = HarmonicFilterBank(8000, 256, 2, 1)
    assert np.isfinite(gradient(layer, np.zeros((1, 129, 3)))).all()


def test_a_spectrogram_of_another_size_is_refused():
    with pytest.raises(ValueError, match=r"expects a spectrogram of shape \(batch, 257, frames\)"):
        run(HarmonicFilterBank(16_000), np.zeros((1, 129, 3)))


@pytest.mark.parametrize("bank, message", [((8000, 512), "8000 Hz"), ((16_000, 256), "n_fft=256")])
def test_a_bank_for_another_stack_is_refused(bank, message):
    with pytest.raises(ValueError, match=f"filter bank is made for {message}"):
        FrontEnd([STFT(512, 256), HarmonicFilterBank(*bank)], 16_000)


def test_log_compression_is_that_of_musicnn():
    values = np.array([[0.0, 1e-6, 1e-4, 1.0, 1e3]])
    np.testing.assert_allclose(run(LogCompression(), values), np.log10(1 + 10_000 * values), rtol=1e-5)
    assert run(LogCompression(10.0), [[0.9]]) == pytest.approx(1)
    assert LogCompression(10.0).get_config()["gain"] == 10.0
    assert np.isfinite(gradient(LogCompression(), np.zeros((1, 4)))).all()
    with pytest.raises(ValueError, match="gain must be positive, got 0"):
        LogCompression(0)


def test_both_serve_in_a_model_of_half_precision():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        layers = [STFT(256, 128), HarmonicFilterBank(8000, 256, 2, 1), LogCompression()]
        features = FrontEnd(layers, 8000)(np.zeros((1, 1000), "float32"))
        assert keras.backend.standardize_dtype(features.dtype) == "float32"
    finally:
        keras.config.set_dtype_policy("float32")
