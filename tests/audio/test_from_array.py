"""Arrays in memory: shapes, dtypes, rates, and the mistakes people make with them."""

import numpy as np
import pytest

from music_zoo.audio import from_array, is_constant
from music_zoo.errors import AudioError

RAMP = np.linspace(-1, 1, 101)


def test_mono_and_channels():
    stereo = np.stack([RAMP, RAMP[::-1] / 2]).astype(np.float32)
    np.testing.assert_array_equal(from_array(RAMP, 44100), RAMP.astype(np.float32))
    np.testing.assert_allclose(from_array(stereo, 44100), stereo.mean(axis=0), atol=1e-7)
    np.testing.assert_allclose(from_array(np.tile(RAMP, (8, 1)), 44100), RAMP, atol=1e-7)
    np.testing.assert_array_equal(from_array([0.5], 44100), np.float32([0.5]))


def test_the_callers_array_is_not_shared():
    samples = np.zeros(10, np.float32)
    from_array(samples, 44100)[:] = 1
    assert not samples.any()


@pytest.mark.parametrize(
    ("dtype", "lowest", "middle"),
    [
        (np.int8, -128, 0),
        (np.int16, -(2**15), 0),
        (np.int32, -(2**31), 0),
        (np.uint8, 0, 128),
        (np.uint16, 0, 2**15),
    ],
)
def test_integers_are_scaled_by_their_full_scale(dtype, lowest, middle):
    highest = np.iinfo(dtype).max
    samples = from_array(np.array([lowest, middle, highest], dtype), 44100)
    expected = [-1, 0, (int(highest) - middle) / (middle - lowest)]
    np.testing.assert_allclose(samples, expected, atol=1e-7)
    assert samples.dtype == np.float32


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ">f4", ">i2"])
def test_other_number_formats(dtype):
    samples = from_array(np.array([0, 0.5, 1]).astype(dtype), 44100)
    assert samples.dtype == np.dtype(np.float32)
    assert np.isfinite(samples).all()


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (
            np.zeros((44100, 2)),
            r"got shape \(44100, 2\), which looks like \(samples, channels\); .*transpose",
        ),
        (np.zeros((4, 2, 100)), r"got shape \(4, 2, 100\)"),
        (np.float32(1), r"got shape \(\)"),
        ([], r"holds no audio: its shape is \(0,\)"),
        (np.zeros((2, 0)), r"holds no audio: its shape is \(2, 0\)"),
        ([0, 1, 2], "got dtype int64"),
        (np.zeros(3, complex), "got dtype complex128"),
        (np.zeros(3, bool), "got dtype bool"),
        (["a"], "got dtype <U1"),
        (np.array([0, 12000.0, -32768]), "got a peak of 32768; if they were 16-bit integers"),
        (np.array([0.0] * 100 + [np.nan] + [0.0] * 100), "the array: expected finite .* at 0.100 s"),
        (np.array([np.inf, 0.0]), "at 0.000 s"),
        (np.array([[np.inf, 0.0], [-np.inf, 0.0]]), "at 0.000 s"),
        (np.array([1e300, 0.0]), "at 0.000 s"),
    ],
)
def test_mistakes_are_named(array, message):
    with pytest.raises(AudioError, match=message):
        from_array(array, 1000)


@pytest.mark.parametrize(
    ("rate", "message"),
    [
        (None, "sample_rate is missing.*sample_rate=44100"),
        (44.1, "got 44.1; if that is kHz, give 44100"),
        (16, "got 16; if that is kHz, give 16000"),
        (0, "got 0$"),
        (-44100, "got -44100$"),
        (True, "got True"),
        (22050.5, "got 22050.5$"),
        (float("nan"), "got nan$"),
        (float("inf"), "got inf$"),
        ("44100", "got '44100'$"),
        (10_000_000, "got 10000000$"),
    ],
)
def test_implausible_rates(rate, message):
    with pytest.raises(AudioError, match=message):
        from_array(RAMP, rate)


@pytest.mark.parametrize("rate", [1000, 44100.0, np.int32(48000), np.float32(22050), 768_000])
def test_plausible_rates(rate):
    assert from_array(RAMP, rate).shape == RAMP.shape


@pytest.mark.parametrize(
    ("samples", "expected"),
    [(np.zeros(9), True), (np.full(9, 0.3), True), (np.empty(0), True), (RAMP, False)],
)
def test_is_constant(samples, expected):
    assert is_constant(samples) is expected
