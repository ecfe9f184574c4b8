import json

import keras
import numpy as np
import pytest
from layer_checks import run, signals

from music_zoo.layers import (
    STFT,
    Decibels,
    FixedStandardization,
    FrameSelection,
    FrontEnd,
    MelFilterBank,
    MinMaxNormalization,
    Standardization,
)
from music_zoo.layers.front_end import LAYERS

pytestmark = pytest.mark.keras

# Every layer, every argument away from its default, on an input it takes.
WAVEFORM, SPECTROGRAM = (None, 900), (None, 33, 40)
EVERY_LAYER = {
    "STFT": ({"n_fft": 64, "hop_length": 20, "win_length": 50, "window": "hamming", "center": False,
              "pad_mode": "reflect", "power": 1.0, "method": "conv"}, WAVEFORM),
    "MelFilterBank": ({"sample_rate": 8000, "n_fft": 64, "n_mels": 6, "fmin": 100.0, "fmax": 3500.0,
                       "scale": "htk", "norm": None}, SPECTROGRAM),
    "HarmonicFilterBank": ({"sample_rate": 8000, "n_fft": 64, "n_harmonics": 2, "per_semitone": 1},
                           SPECTROGRAM),
    "LogCompression": ({"gain": 100.0}, SPECTROGRAM),
    "Decibels": ({"of": "amplitude", "ref": "max", "amin": 1e-6, "top_db": 60.0}, SPECTROGRAM),
    "MinMaxNormalization": ({}, SPECTROGRAM),
    "Standardization": ({}, SPECTROGRAM),
    "FixedStandardization": ({"mean": 3.0, "std": 2.0}, SPECTROGRAM),
    "FrameSelection": ({"n_frames": 7, "trim": 2}, SPECTROGRAM),
}  # fmt: skip


def full_stack() -> FrontEnd:
    return FrontEnd(
        [
            STFT(256, 100),
            MelFilterBank(8000, 256, 24),
            Decibels(ref="max"),
            MinMaxNormalization(),
            FrameSelection(16, trim=1),
            Standardization(),
            FixedStandardization(0.5, 2.0),
        ],
        8000,
        name="my_front_end",
    )


def waveforms() -> np.ndarray:
    return np.stack([signals(8000, 0.5)[name] for name in ("noise", "exponential sweep")])


def test_every_layer_is_in_the_table_and_here():
    assert set(EVERY_LAYER) == set(LAYERS)


@pytest.mark.parametrize("name", LAYERS)
def test_layer_contract(name, tmp_path):
    arguments, shape = EVERY_LAYER[name]
    layer = LAYERS[name](**arguments, name="mine")
    config = layer.get_config()
    assert config == {"name": "mine"} | arguments
    assert LAYERS[name].from_config(json.loads(json.dumps(config))).get_config() == config

    values = np.random.default_rng(0).random((2, *shape[1:]), "float32")
    expected = run(layer, values)
    assert len(layer.weights) == (name == "HarmonicFilterBank")
    assert layer.compute_output_shape((2, *shape[1:])) == expected.shape
    inputs = keras.Input(shape[1:])
    model = keras.Model(inputs, layer(inputs))
    assert model.output.shape == (None, *expected.shape[1:])
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    assert type(loaded.get_layer("mine")) is LAYERS[name]
    np.testing.assert_allclose(loaded.predict(values, verbose=0), expected, rtol=1e-4, atol=1e-4)


def test_config_round_trip_is_plain_json():
    stack = full_stack()
    config = json.loads(json.dumps(stack.get_config()))
    assert config["layers"][4] == {"layer": "FrameSelection", "config": {"n_frames": 16, "trim": 1}}
    rebuilt = FrontEnd.from_config(config)
    assert rebuilt.get_config() == config
    np.testing.assert_array_equal(run(rebuilt, waveforms()), run(stack, waveforms()))


def test_saved_in_a_model_and_loaded_in_safe_mode(tmp_path):
    stack = full_stack()
    inputs = keras.Input((None,))
    model = keras.Model(inputs, keras.layers.Dense(3)(stack(inputs)))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    assert loaded.get_layer("my_front_end").get_config() == stack.get_config()
    assert len(loaded.weights) == 2
    np.testing.assert_allclose(
        loaded.predict(waveforms(), verbose=0), model.predict(waveforms(), verbose=0), rtol=0, atol=1e-6
    )


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float16"])
def test_computes_in_float32_under_any_policy(policy):
    expected = run(full_stack(), waveforms())
    previous = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        stack = full_stack()
        inputs = keras.Input((None,), dtype="float32")
        model = keras.Model(inputs, stack(inputs))
        assert keras.backend.standardize_dtype(stack(waveforms()).dtype) == "float32"
        assert keras.backend.standardize_dtype(model.output.dtype) == "float32"
        np.testing.assert_array_equal(run(stack, waveforms()), expected)
        np.testing.assert_allclose(model.predict(waveforms(), verbose=0), expected, rtol=0, atol=1e-4)
    finally:
        keras.config.set_dtype_policy(previous)


def test_with_method_changes_the_transform_and_nothing_else():
    stack = full_stack()
    other = stack.with_method("conv")
    assert (stack.layers[0].method, other.layers[0].method) == ("fft", "conv")
    assert other.with_method("fft").get_config() == stack.get_config()
    np.testing.assert_allclose(run(other, waveforms()), run(stack, waveforms()), rtol=0, atol=1e-4)


def test_no_layers_pass_waveforms_on():
    stack = FrontEnd([], 16000)
    assert stack.min_samples == 1
    assert stack.compute_output_shape((None, None)) == (None, None)
    np.testing.assert_array_equal(run(stack, waveforms()), waveforms())
    assert FrontEnd.from_config(stack.get_config()).with_method("conv").layers == []


@pytest.mark.parametrize(
    "options, trim, shortest",
    [({}, 0, 1), ({}, 2, 200), ({"pad_mode": "reflect"}, 0, 129), ({"center": False}, 3, 556)],
)
def test_min_samples_is_the_shortest_waveform_taken(options, trim, shortest):
    stack = FrontEnd([STFT(256, 100, method="conv", **options), Decibels(), FrameSelection(8, trim)], 8000)
    assert stack.min_samples == shortest
    assert run(stack, np.ones((1, shortest))).shape == (1, 129, 8)
    with pytest.raises(ValueError, match="at least"):
        stack.compute_output_shape((1, shortest - 1))


def config_with(*layers) -> dict:
    return {"sample_rate": 8000, "layers": list(layers)}


@pytest.mark.parametrize(
    "config, problem",
    [
        ({"layers": []}, "keys 'sample_rate' and 'layers'"),
        (config_with() | {"dtype": "float16"}, "keys 'sample_rate' and 'layers'"),
        (config_with("STFT"), "Layer 0 .* must be"),
        (config_with({"layer": "STFT", "class_name": "Lambda"}), "Layer 0 .* must be"),
        (config_with({"layer": "Lambda"}), "Layer 0 .* 'Lambda', which is none of STFT, "),
        (config_with({"layer": ["STFT"]}), "Layer 0 .* which is none of STFT, "),
        (config_with({"layer": "STFT", "config": {"n_fft": 0}}), "Layer 0 .*STFT: n_fft must be at least 2"),
        (config_with({"layer": "STFT", "config": {"n_fft": "512"}}), "Layer 0 .*STFT: "),
        (config_with({"layer": "STFT", "config": {"fft": 512}}), "Layer 0 .*STFT: .*unexpected keyword"),
        (config_with({"layer": "STFT", "config": {"dtype": "float16"}}), "unexpected keyword"),
        (config_with({"layer": "STFT", "config": [512]}), "Layer 0 .*STFT: "),
        (config_with() | {"sample_rate": 0}, "sample_rate must be positive"),
    ],
)
def test_wrong_configs(config, problem):
    with pytest.raises(ValueError, match=problem):
        FrontEnd.from_config(config)


def test_layers_that_contradict_each_other():
    with pytest.raises(ValueError, match="made for 16000 Hz, the front end for 8000 Hz"):
        FrontEnd([STFT(512), MelFilterBank(16000, 512, 20)], 8000)
    with pytest.raises(ValueError, match="made for n_fft=512, the STFT before it has n_fft=1024"):
        FrontEnd([STFT(1024), MelFilterBank(8000, 512, 20)], 8000)
    with pytest.raises(ValueError, match="n_fft=None"):
        FrontEnd([MelFilterBank(8000, 512, 20)], 8000)


def test_only_layers_of_this_package():
    with pytest.raises(ValueError, match="made of STFT, .*; got Dense"):
        FrontEnd([keras.layers.Dense(3)], 8000)
