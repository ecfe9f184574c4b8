import warnings

import librosa
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from layer_checks import run

from music_zoo.layers import MelFilterBank, mel_filter_bank

pytestmark = pytest.mark.keras


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    sample_rate=st.sampled_from([8000, 16000, 22050, 44100, 48000]),
    n_fft=st.sampled_from([255, 256, 512, 1024, 2048]),
    n_mels=st.integers(1, 140),
    fmin=st.sampled_from([0.0, 20.0, 990.0, 1000.0, 1500.0]),
    fmax=st.sampled_from([None, 1600.0, 4000.0, 11025.0]),
    scale=st.sampled_from(["slaney", "htk"]),
    norm=st.sampled_from(["slaney", None]),
)
def test_equals_librosa_to_the_last_digits_and_warns_when_it_does(
    sample_rate, n_fft, n_mels, fmin, fmax, scale, norm
):
    with warnings.catch_warnings(record=True) as theirs:
        warnings.simplefilter("always")
        expected = librosa.filters.mel(
            sr=sample_rate,
            n_fft=n_fft,
            n_mels=n_mels,
            fmin=fmin,
            fmax=fmax,
            htk=scale == "htk",
            norm=norm,
            dtype=np.float64,
        )
    with warnings.catch_warnings(record=True) as ours:
        warnings.simplefilter("always")
        actual = mel_filter_bank(sample_rate, n_fft, n_mels, fmin, fmax, scale, norm)
    np.testing.assert_allclose(actual, expected, rtol=1e-7, atol=0)
    assert len(ours) == len(theirs)


def test_empty_filters_are_warned_about_and_give_zero():
    with pytest.warns(UserWarning, match="Empty filters"):
        expected = librosa.filters.mel(sr=16000, n_fft=256, n_mels=128)
    empty = (expected == 0).all(axis=1)
    empty[0] = False  # starts at 0 Hz: librosa does not count it
    with pytest.warns(UserWarning, match=rf"{empty.sum()} of 128 mel .*first: number {empty.argmax()}\)"):
        layer = MelFilterBank(16000, 256, 128)
    pooled = run(layer, np.ones((1, 129, 2)))[0]
    assert ((pooled == 0).all(axis=1)[1:] == empty[1:]).all()


def test_the_layer_applies_the_filters_and_keeps_precision():
    power = np.random.default_rng(0).random((3, 257, 9)) ** 8
    expected = librosa.filters.mel(sr=16000, n_fft=512, n_mels=40, dtype=np.float64) @ power.astype("float32")
    layer = MelFilterBank(16000, 512, 40)
    assert layer.compute_output_shape((None, 257, None)) == (None, 40, None)
    np.testing.assert_allclose(run(layer, power), expected, rtol=2e-6)


def test_another_number_of_bins_is_an_error():
    with pytest.raises(ValueError, match=r"\(batch, 257, frames\) for n_fft=512.*\(1, 129, 4\)"):
        MelFilterBank(16000, 512, 40)(np.ones((1, 129, 4), "float32"))


@pytest.mark.parametrize(
    "options, problem",
    [
        ({"sample_rate": 0}, "sample_rate must be positive"),
        ({"n_mels": 0}, "n_mels at least 1"),
        ({"fmin": -1.0}, "0 <= fmin < fmax"),
        ({"fmin": 9000.0}, "0 <= fmin < fmax, got fmin=9000.0, fmax=8000.0"),
        ({"scale": "bark"}, "scale must be"),
        ({"norm": "l1"}, "norm must be"),
    ],
)
def test_wrong_arguments(options, problem):
    with pytest.raises(ValueError, match=problem):
        MelFilterBank(**{"sample_rate": 16000} | options)
