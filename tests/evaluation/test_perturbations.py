"""Perturbed audio against what closed forms say of sines, square waves and noise."""

import sys

import numpy as np
import pytest

from music_zoo.errors import MusicZooError
from music_zoo.evaluation.perturbations import (
    COMPRESSION_PRESETS,
    PERTURBATIONS,
    compress,
    pitch_shift,
    time_stretch,
    white_noise,
)

RATE = 8000


def sine(hertz: float, seconds: float) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * RATE)) / RATE)).astype(np.float32)


def peak(audio: np.ndarray) -> float:
    """The frequency in Hz at which the spectrum is highest."""
    spectrum = np.abs(np.fft.rfft(audio * np.hanning(len(audio)), n=1 << 17))
    return spectrum.argmax() * RATE / (1 << 17)


def square_wave(decibels: float, seconds: float) -> np.ndarray:
    """Its samples are all of one level, so a follower of levels comes to rest there."""
    signs = np.where(np.arange(round(seconds * RATE)) // 10 % 2, 1, -1)
    return (10 ** (decibels / 20) * signs).astype(np.float32)


@pytest.mark.parametrize("factor", [2**-0.5, 2**0.5])
def test_stretching_changes_the_length_and_keeps_the_pitch(factor):
    stretched = time_stretch(sine(440, 2), factor)
    assert len(stretched) == pytest.approx(2 * RATE / factor, abs=1)
    assert peak(stretched) == pytest.approx(440, abs=1)


@pytest.mark.parametrize("semitones", [-1, 1])
def test_shifting_changes_the_pitch_and_keeps_the_length(semitones):
    shifted = pitch_shift(sine(440, 2), RATE, semitones)
    assert len(shifted) == 2 * RATE
    assert peak(shifted) == pytest.approx(440 * 2 ** (semitones / 12), abs=1)


@pytest.mark.parametrize("preset", COMPRESSION_PRESETS)
@pytest.mark.parametrize("level", [-70, -62, -55, -50, -43, -37, -31, -26, -21, -10.5, 0])
def test_compression_comes_to_rest_on_the_preset_s_curve(preset, level):
    compressed = compress(square_wave(level, 6), RATE, preset)
    assert len(compressed) == 6 * RATE
    levels = 20 * np.log10(np.abs(compressed[5 * RATE :]))
    expected = np.interp(level, *np.transpose(COMPRESSION_PRESETS[preset]))
    np.testing.assert_allclose(levels, expected, atol=0.03)


def test_compression_is_that_of_the_study():
    # the presets "music standard" and "speech" in its robustness.py, handed to sox's compand
    assert COMPRESSION_PRESETS == {
        "music": ((-90, -90), (-70, -58), (-55, -43), (-31, -31), (-21, -21), (0, -20)),
        "speech": ((-90, -90), (-70, -55), (-50, -35), (-31, -31), (-21, -21), (0, -20)),
    }


def test_compression_follows_levels_and_looks_a_tenth_of_a_second_ahead():
    # From -21 dB (out: the same) to 0 dB (out: -20 dB, a gain of -20 dB). The mean level follows with a time
    # constant of 0.1 s, which is the delay: when the loud part comes, it has gone 1 - 1/e of the way.
    audio = np.concatenate([square_wave(-21, 3), square_wave(0, 3)])
    level = np.abs(compress(audio, RATE, "music")[3 * RATE])
    quiet, loud = 10 ** (-21 / 20), 1
    follower = loud + (quiet - loud) * np.exp(-1)
    expected = np.interp(20 * np.log10(follower), (-21, 0), (-21, -20)) - 20 * np.log10(follower)
    assert 20 * np.log10(level) == pytest.approx(expected, abs=0.1)


def test_samples_beyond_full_scale_are_clipped_before_compression():
    np.testing.assert_array_equal(
        compress(square_wave(6, 1), RATE, "music"), compress(square_wave(0, 1), RATE, "music")
    )


@pytest.mark.parametrize("share", [0.1, 0.4])
def test_noise_has_its_peak_at_the_highest_sample_and_is_white(share):
    audio = sine(440, 2) - np.float32(0.1)  # highest at 0.4, lowest at -0.6
    noise = (white_noise(audio, share, np.random.default_rng(0)) - (1 - share) * audio) / share
    assert np.abs(noise).max() == pytest.approx(0.4, rel=1e-5)
    bands = (np.abs(np.fft.rfft(noise)[1:]) ** 2).reshape(4, -1).mean(axis=1)
    np.testing.assert_allclose(bands / bands.mean(), 1, atol=0.1)  # of 2000 exponential values: +- 0.022


def test_the_rates_are_those_of_the_study():
    audio = sine(440, 1)
    perturbed = {
        name: perturb(audio, RATE, np.random.default_rng(0)) for name, perturb in PERTURBATIONS.items()
    }
    assert len(perturbed["time_stretch_0.71"]) > len(audio) > len(perturbed["time_stretch_1.41"])
    assert peak(perturbed["pitch_shift_-1"]) == pytest.approx(440 / 2 ** (1 / 12), abs=2)
    assert peak(perturbed["pitch_shift_+1"]) == pytest.approx(440 * 2 ** (1 / 12), abs=2)
    for name, share in (("noise_0.1", 0.1), ("noise_0.4", 0.4)):
        by_hand = white_noise(audio, share, np.random.default_rng(0))
        np.testing.assert_array_equal(perturbed[name], by_hand)
    assert len(perturbed) == 8


@pytest.mark.parametrize("name", PERTURBATIONS)
@pytest.mark.parametrize("samples", [1, 100, 3000])
def test_silence_stays_silent_however_short(name, samples):
    silent = PERTURBATIONS[name](np.zeros(samples, np.float32), RATE, np.random.default_rng(0))
    assert silent.dtype == np.float32 and not silent.any()


@pytest.mark.parametrize("name, module", [("time_stretch_0.71", "librosa"), ("compression_music", "av")])
def test_a_package_that_is_missing(monkeypatch, name, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MusicZooError, match=r'pip install "music-zoo\[robustness\]"'):
        PERTURBATIONS[name](sine(440, 1), RATE, np.random.default_rng(0))
