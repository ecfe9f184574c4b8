"""Front ends of published models against values recorded from their PyTorch code."""

from pathlib import Path

import fixture_rules
import keras
import numpy as np
import pytest

from music_zoo.layers import STFT, Decibels, FrontEnd, MelFilterBank

pytestmark = pytest.mark.keras

HTK = {"scale": "htk", "norm": None}
SLANEY_BEYOND_NYQUIST = {"scale": "slaney", "norm": None, "fmax": 11025.0}
# Deezer's spectrogram is divided by the sum of the squared window, which for decibels is a reference.
WINDOW_POWER = 1024 * 3 / 8
FRONT_ENDS = {
    "sota96": (16000, 512, 96, HTK, Decibels(top_db=None)),
    "sota128": (16000, 512, 128, HTK, Decibels(top_db=None)),
    "mtt": (22050, 1024, 128, HTK, Decibels(top_db=None)),
    "deezer": (
        16000,
        1024,
        128,
        SLANEY_BEYOND_NYQUIST,
        Decibels(ref=WINDOW_POWER, amin=1e-10 * WINDOW_POWER, top_db=100.0),
    ),
}


def waveforms(sample_rate: int) -> np.ndarray:
    """0.75 s of formula signals whose last third is digital silence."""
    samples = int(0.75 * sample_rate)
    batch = fixture_rules.wave_batch(samples, sample_rate)
    batch[:, 2 * samples // 3 :] = 0
    return batch


@pytest.mark.filterwarnings("ignore:.*mel filters catch no frequency bin")  # as the originals have them
@pytest.mark.parametrize("method", ["fft", "conv"])
@pytest.mark.parametrize("name", FRONT_ENDS)
def test_front_end_equals_the_original(name, method):
    sample_rate, n_fft, n_mels, mel, decibels = FRONT_ENDS[name]
    stack = FrontEnd(
        [
            STFT(n_fft, n_fft // 2, pad_mode="reflect", method=method),
            MelFilterBank(sample_rate, n_fft, n_mels, **mel),
            decibels,
        ],
        sample_rate,
    )
    waveform = waveforms(sample_rate)
    power = keras.ops.convert_to_numpy(stack.layers[0](waveform))
    actual = keras.ops.convert_to_numpy(stack(waveform))

    with np.load(Path(__file__).parent / "frontend.npz") as stored:
        scale = WINDOW_POWER if name == "deezer" else 1.0
        assert actual.shape[-1] == stored[f"{name}_frames"]
        np.testing.assert_allclose(
            power[:, :, 10] / scale, stored[f"{name}_stft_power_frame10"], rtol=1e-4, atol=1e-7
        )
        # The originals compute their filters in float32, which costs them up to 3e-4 dB.
        np.testing.assert_allclose(actual[:, :, ::3], stored[f"{name}_db"], rtol=0, atol=1e-3)
