import keras
import librosa
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from layer_checks import edge_cases, gradient, run, run_traced, signals

from music_zoo.errors import AudioError
from music_zoo.layers import STFT

pytestmark = pytest.mark.keras

METHODS = ("fft", "conv")


def librosa_power(waveform, n_fft, hop_length, center=True, pad_mode="constant", **options):
    # Padded here: librosa 0.11 pads the tail on its own and with "reflect" gets the very last sample wrong
    # when hop_length divides the number of samples (numpy.pad and torchaudio agree with this form).
    if center:
        waveform = np.pad(waveform, n_fft // 2, mode=pad_mode)
    transform = librosa.stft(
        waveform.astype("float64"), n_fft=n_fft, hop_length=hop_length, center=False, **options
    )
    return np.abs(transform) ** 2


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("pad_mode", ["constant", "reflect"])
@pytest.mark.parametrize("name", signals(8000))
def test_equals_librosa(name, pad_mode, method):
    waveform = signals(8000)[name]
    expected = librosa_power(waveform, 512, 128, pad_mode=pad_mode)
    actual = run(STFT(512, 128, pad_mode=pad_mode, method=method), waveform[None])[0]
    # Amplitudes to a few float32 roundings of the frame's loudest; one long sum takes more of them.
    roundings = {"fft": 8, "conv": 48}[method]
    loudest = np.sqrt(expected.max(axis=0)) + 1e-12
    assert (np.abs(np.sqrt(actual) - np.sqrt(expected)) / loudest).max() < roundings * 2**-24


@st.composite
def layers(draw) -> STFT:
    n_fft = draw(st.integers(2, 70))
    return STFT(
        n_fft,
        hop_length=draw(st.integers(1, n_fft)),
        win_length=draw(st.one_of(st.none(), st.integers(2, n_fft))),
        window=draw(st.sampled_from(["hann", "hamming"])),
        center=draw(st.booleans()),
        pad_mode=draw(st.sampled_from(["constant", "reflect"])),
        method=draw(st.sampled_from(METHODS)),
    )


def librosa_like(layer: STFT, waveform: np.ndarray) -> np.ndarray:
    config = layer.get_config()
    return librosa_power(
        waveform, **{key: config[key] for key in config.keys() - {"name", "power", "method"}}
    )


@settings(max_examples=100, deadline=None, derandomize=True)
@given(layer=layers(), beyond=st.integers(0, 150))
def test_shapes_and_shortest_lengths_are_exact(layer, beyond):
    samples = layer.min_length(1) + beyond
    expected = librosa_like(layer, np.zeros(samples)).shape
    assert layer.compute_output_shape((3, samples)) == (3, *expected)
    for frames in range(1, expected[1] + 1):
        shortest = layer.min_length(frames)
        assert layer.compute_output_shape((1, shortest))[-1] >= frames
        if shortest > layer.min_length(1):
            assert layer.compute_output_shape((1, shortest - 1))[-1] < frames


@settings(max_examples=6, deadline=None, derandomize=True)
@given(layer=layers(), beyond=st.integers(0, 150))
def test_any_arguments_and_length_equal_librosa(layer, beyond):
    waveform = np.random.default_rng(beyond).standard_normal(layer.min_length(1) + beyond).astype("float32")
    actual = run(layer, waveform[None])
    assert actual.shape == layer.compute_output_shape((1, len(waveform)))
    np.testing.assert_allclose(actual[0], librosa_like(layer, waveform), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("n_fft", "hop_length"), [(2048, 512), (400, 160), (96, 96), (62, 31), (37, 37)])
def test_the_transform_in_two_products_equals_librosa(n_fft, hop_length):
    layer = STFT(n_fft, hop_length, method="conv")
    waveform = np.random.default_rng(0).standard_normal(3 * n_fft + 5).astype("float32")
    expected = librosa_power(waveform, n_fft, hop_length)
    actual = run(layer, waveform[None])[0]
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5 * expected.max())


@pytest.mark.parametrize("method", METHODS)
def test_magnitude_is_the_root_of_power(method):
    waveform = np.stack([signals(8000, 0.5)["noise"], edge_cases(4000)["silence"]])
    power = run(STFT(256, 64, method=method), waveform)
    np.testing.assert_allclose(
        run(STFT(256, 64, power=1.0, method=method), waveform), np.sqrt(power), rtol=1e-6, atol=1e-18
    )


@pytest.mark.parametrize("method", METHODS)
def test_magnitude_is_finite_with_finite_gradient(method):
    layer = STFT(64, 16, power=1.0, method=method)
    waveforms = np.stack(list(edge_cases(600).values()))
    assert np.isfinite(run(layer, waveforms)).all()
    assert np.isfinite(gradient(layer, waveforms)).all()


@pytest.mark.parametrize("method", METHODS)
def test_traced_with_unknown_batch_and_length(method):
    layer = STFT(128, 48, method=method)
    assert layer(keras.Input((None,))).shape == (None, 65, None)
    waveform = signals(8000, 0.25)["noise"].reshape(4, -1)
    np.testing.assert_allclose(run_traced(layer, waveform), run(layer, waveform), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "options, least",
    [
        ({}, 1),
        ({"pad_mode": "reflect"}, 33),
        ({"center": False}, 64),
        ({"center": False, "pad_mode": "reflect"}, 64),
    ],
)
def test_too_short_says_how_much_is_needed(options, least):
    layer = STFT(64, 16, method="conv", **options)
    assert run(layer, np.ones((1, least))).shape == (1, 33, 1 if least != 33 else 3)
    with pytest.raises(AudioError, match=f"at least {least} samples"):
        layer.compute_output_shape((1, least - 1))
    with pytest.raises(AudioError, match=f"at least {least} samples.*got {least - 1}"):
        layer(np.ones((1, least - 1), "float32"))


def test_a_waveform_without_batch_axis_is_an_error():
    with pytest.raises(AudioError, match=r"\(batch, samples\).*waveform\[None\]"):
        STFT()(np.zeros(4096, "float32"))


@pytest.mark.parametrize(
    "options, problem",
    [
        ({"n_fft": 1}, "n_fft must be at least 2"),
        ({"hop_length": 0}, "hop_length must be 1 to n_fft = 2048"),
        ({"hop_length": 2049}, "hop_length must be 1 to n_fft = 2048"),
        ({"win_length": 4096}, "win_length must be 2 to n_fft = 2048"),
        ({"window": "kaiser"}, "window must be one of .*hann"),
        ({"pad_mode": "edge"}, "pad_mode must be one of .*reflect"),
        ({"power": 3.0}, "power must be one of"),
        ({"method": "dft"}, "method must be one of .*conv"),
    ],
)
def test_wrong_arguments(options, problem):
    with pytest.raises(ValueError, match=problem):
        STFT(**options)


@pytest.mark.parametrize("method, transforms", [("fft", True), ("conv", False)])
def test_conv_has_no_fourier_transform_in_its_graph(method, transforms):
    layer = STFT(64, 16, method=method)
    waveform = np.zeros((1, 320), "float32")
    layer(waveform)
    backend = keras.config.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        graph = tf.function(layer).get_concrete_function(tf.TensorSpec((None, None))).graph
        operations = " ".join(operation.type for operation in graph.get_operations())
    elif backend == "jax":
        import jax

        operations = str(jax.make_jaxpr(layer)(waveform))
    else:
        import torch

        with torch.profiler.profile() as profile:
            layer(torch.tensor(waveform))
        operations = " ".join(event.key for event in profile.key_averages())
    assert ("fft" in operations.lower()) == transforms
