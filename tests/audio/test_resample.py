"""Resampling, whole and block by block, against librosa and a closed form."""

import librosa
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from music_zoo.audio import resample, resample_blocks
from music_zoo.errors import AudioError

RATES = [4000, 8000, 11025, 16000, 22050, 32000, 44100, 48000, 96000, 192000]


def noise(samples: int) -> np.ndarray:
    return np.random.default_rng(samples).standard_normal(samples).astype(np.float32)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(samples=st.integers(1, 20_000), orig_sr=st.sampled_from(RATES), target_sr=st.sampled_from(RATES))
def test_equals_librosa(samples, orig_sr, target_sr):
    signal = noise(samples)
    expected = librosa.resample(signal, orig_sr=orig_sr, target_sr=target_sr)
    np.testing.assert_allclose(resample(signal, orig_sr, target_sr), expected, rtol=0, atol=1e-6)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    lengths=st.lists(st.integers(0, 3000), max_size=12),
    orig_sr=st.sampled_from(RATES),
    target_sr=st.sampled_from(RATES),
)
def test_does_not_depend_on_the_blocks(lengths, orig_sr, target_sr):
    signal = noise(sum(lengths))
    blocks = np.split(signal, np.cumsum(lengths)[:-1]) if lengths else []
    converted = [signal[:0], *resample_blocks(blocks, orig_sr, target_sr)]
    np.testing.assert_array_equal(np.concatenate(converted), resample(signal, orig_sr, target_sr))


def test_a_tone_stays_where_it_is():
    seconds = np.arange(44100) / 44100, np.arange(16000) / 16000
    before, expected = (np.sin(2 * np.pi * 1000 * t) for t in seconds)
    after = resample(before.astype(np.float32), 44100, 16000)
    np.testing.assert_allclose(after[500:-500], expected[500:-500], atol=1e-4)


def test_above_half_the_target_rate_nothing_is_left():
    tone = np.sin(2 * np.pi * 12000 * np.arange(44100) / 44100).astype(np.float32)
    assert np.abs(resample(tone, 44100, 16000)[500:-500]).max() < 1e-4


@pytest.mark.parametrize("rates", [(44100, 0), (44.1, 16000), (44100, None)])
def test_implausible_rates(rates):
    with pytest.raises(AudioError, match="orig_sr must|target_sr must|target_sr is missing"):
        resample(noise(10), *rates)
