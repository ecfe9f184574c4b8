"""The usual log-mel front ends against librosa in float64, on signals that show every mistake."""

import keras
import librosa
import numpy as np
import pytest
import soundfile
from layer_checks import edge_cases, gradient, run, run_traced, signals

from music_zoo.layers import STFT, Decibels, FrontEnd, MelFilterBank

pytestmark = pytest.mark.keras

SETTINGS = {
    # librosa's defaults, relative to the loudest band of the clip
    "slaney": {
        "sample_rate": 22050,
        "stft": {"n_fft": 2048, "hop_length": 512, "pad_mode": "constant"},
        "mel": {"n_mels": 128, "scale": "slaney", "norm": "slaney"},
        "decibels": {"ref": "max", "top_db": 80.0},
    },
    # torchaudio's, absolute
    "htk": {
        "sample_rate": 16000,
        "stft": {"n_fft": 512, "hop_length": 256, "pad_mode": "reflect"},
        "mel": {"n_mels": 96, "scale": "htk", "norm": None},
        "decibels": {"ref": 1.0, "amin": 1e-10, "top_db": None},
    },
}


def front_end(name: str, method: str = "fft") -> FrontEnd:
    chosen = SETTINGS[name]
    sample_rate = chosen["sample_rate"]
    return FrontEnd(
        [
            STFT(**chosen["stft"], method=method),
            MelFilterBank(sample_rate, chosen["stft"]["n_fft"], **chosen["mel"]),
            Decibels(**chosen["decibels"]),
        ],
        sample_rate,
    )


def librosa_log_mel(name: str, waveform: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Decibels, and how far each band lies below the loudest of its frame, both in float64."""
    chosen = SETTINGS[name]
    n_fft, hop_length, pad_mode = chosen["stft"].values()
    # Padded here, as librosa errs in the last sample of a reflection (see test_stft.py).
    padded = np.pad(waveform, n_fft // 2, mode=pad_mode).astype("float64")
    power = np.abs(librosa.stft(padded, n_fft=n_fft, hop_length=hop_length, center=False)) ** 2
    filters = librosa.filters.mel(
        sr=chosen["sample_rate"],
        n_fft=n_fft,
        n_mels=chosen["mel"]["n_mels"],
        htk=chosen["mel"]["scale"] == "htk",
        norm=chosen["mel"]["norm"],
        dtype=np.float64,
    )
    mel = filters @ power
    options = chosen["decibels"]
    decibels = librosa.power_to_db(mel, **options | {"ref": np.max if options["ref"] == "max" else 1.0})
    tiny = 1e-100
    return decibels, 10 * np.log10((mel + tiny) / (mel.max(axis=0) + tiny))


def assert_equal_to_librosa(name: str, method: str, waveform: np.ndarray) -> None:
    expected, below = librosa_log_mel(name, waveform)
    error = np.abs(run(front_end(name, method), waveform[None])[0] - expected)
    assert error[below > -60].max() < 1e-3
    # Further down, float32 gives each frame a floor of noise: two roundings of its loudest band's amplitude.
    assert (error < 1e-3 + 20 * np.log10(1 + 2**-23 * 10 ** (-below / 20))).all()
    if method == "fft" and name == "slaney":
        assert error.max() < 1.5e-3  # with its floor 80 dB below the loudest; at most 1e-3 where measured


@pytest.mark.parametrize("method", ["fft", "conv"])
@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("signal", signals(8000, 0.1))
def test_equals_librosa_on_test_signals(signal, name, method):
    assert_equal_to_librosa(name, method, signals(SETTINGS[name]["sample_rate"])[signal])


@pytest.mark.parametrize("method", ["fft", "conv"])
@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize(
    "song", ["vibe-ace", "sugar-plum-fairy", "lets-go-fishin", "solo-trumpet", "brahms-hungarian-dance-5"]
)
def test_equals_librosa_on_music(shared_data, song, name, method):
    # Read as if it had the front end's rate: the comparison does not mind.
    start, samples = 2 * SETTINGS[name]["sample_rate"], 2 * SETTINGS[name]["sample_rate"]
    channels, _ = soundfile.read(
        shared_data / "audio" / f"{song}.ogg", samples, start, dtype="float32", always_2d=True
    )
    assert_equal_to_librosa(name, method, channels.mean(axis=1))


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("method", ["fft", "conv"])
def test_edge_cases_are_finite_with_finite_gradient(name, method):
    stack = front_end(name, method)
    waveforms = np.stack(list(edge_cases(4096).values()))
    assert np.isfinite(run(stack, waveforms)).all()
    assert np.isfinite(gradient(stack, waveforms)).all()


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("method", ["fft", "conv"])
def test_an_example_does_not_depend_on_its_neighbours(name, method):
    stack = front_end(name, method)
    quiet, silence = signals(4096, 1.0)["noise"], np.zeros(4096, "float32")
    examples = np.stack([quiet, 100 * quiet[::-1], silence, -quiet, silence])
    for example, features in zip(examples, run(stack, examples), strict=True):
        np.testing.assert_allclose(run(stack, example[None])[0], features, rtol=0, atol=1e-3)


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("method", ["fft", "conv"])
def test_eager_equals_traced(name, method):
    stack = front_end(name, method)
    waveforms = np.stack(
        [signals(4096, 1.0)[signal] for signal in ("noise", "click", "noise", "click", "noise")]
    )
    assert stack(keras.Input((None,))).shape == (None, SETTINGS[name]["mel"]["n_mels"], None)
    np.testing.assert_allclose(run_traced(stack, waveforms), run(stack, waveforms), rtol=0, atol=1e-3)
