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
    HarmonicFilterBank,
    LogCompression,
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


STACKS = {
    "frames chosen before the transform": [
        STFT(256, 96), MelFilterBank(8000, 256, 24), LogCompression(), FixedStandardization(1.0, 2.0),
        FrameSelection(9, trim=1), MinMaxNormalization(),
    ],
    "the same, of a plain spectrogram": [STFT(64, 20), Decibels(top_db=None), FrameSelection(9)],
    "after the bands, before decibels": [
        STFT(256, 96), MelFilterBank(8000, 256, 24), Decibels(ref="max", top_db=30.0), MinMaxNormalization(),
        LogCompression(), FrameSelection(9, trim=2), Standardization(),
    ],
    "after statistics of all frames": [
        STFT(256, 96), MelFilterBank(8000, 256, 3), Decibels(), Standardization(),
        FixedStandardization(0.5, 2.0), FrameSelection(9),
    ],
    "more frames than there are": [STFT(256, 100), Decibels(top_db=5.0), FrameSelection(50)],
    "none, magnitudes": [STFT(256, 64, power=1.0), MelFilterBank(8000, 256, 24), Decibels("amplitude")],
    "harmonics": [STFT(256, 64), HarmonicFilterBank(8000, 256, 2, 1), Decibels(ref="max"), FrameSelection(9)],
}  # fmt: skip


def one_by_one(stack: FrontEnd, values: np.ndarray) -> np.ndarray:
    """What the stack's layers give, each called on all that the one before gives."""
    for layer in stack.layers:
        values = run(layer, values)
    return values


@pytest.mark.parametrize(
    ("name", "length", "method"),
    [
        *((name, 4000, method) for name in STACKS for method in ("fft", "conv")),
        ("frames chosen before the transform", None, "conv"),
        ("after the bands, before decibels", None, "fft"),
    ],
)
def test_the_short_way_gives_what_the_layers_give(name, length, method, monkeypatch):
    stack = FrontEnd(STACKS[name], 8000).with_method(method)
    audio = waveforms() * np.geomspace(1, 1e-4, 4000, dtype="float32")  # no frame is like another
    expected = one_by_one(FrontEnd.from_config(stack.get_config()), audio)
    monkeypatch.setattr("music_zoo.layers.stft.BLOCK_SAMPLES", 20 * 256)  # many blocks, the last shorter
    inputs = keras.Input((length,))
    model = keras.Model(inputs, stack(inputs))
    np.testing.assert_allclose(model.predict(audio, verbose=0), expected, rtol=1e-4, atol=1e-4)
    assert np.ptp(expected, axis=-1).max() > 100 * 1e-4


def test_frames_that_are_dropped_cost_nothing(monkeypatch):
    seen = []
    transform, decibels = STFT._fft, Decibels.call
    monkeypatch.setattr(
        STFT,
        "_fft",
        lambda self, padded, hop: seen.append(padded.shape[1] // 256) or transform(self, padded, hop),
    )
    monkeypatch.setattr(
        Decibels, "call", lambda self, values: seen.append(values.shape[-1]) or decibels(self, values)
    )
    for name, expected in (
        ("frames chosen before the transform", [9]),
        ("after the bands, before decibels", [16, 9 + 2]),  # of the others, the extremes
    ):
        seen.clear()
        run(FrontEnd(STACKS[name], 8000), waveforms())
        assert seen == expected


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
