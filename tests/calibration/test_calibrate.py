"""Models with calibrators of every kind: fitted in place, saved and loaded."""

import json

import keras
import numpy as np
import pytest
from scipy.special import expit, softmax
from small import small_classifier

import music_zoo
from music_zoo.calibration import CALIBRATORS, fit_temperature, fit_vector_scaling
from music_zoo.classifier import Classifier
from music_zoo.ensemble import Ensemble
from music_zoo.errors import PresetError
from music_zoo.hub.preset_files import read_preset

pytestmark = pytest.mark.keras

FILES = 120


@pytest.fixture(scope="module")
def features():
    return np.random.default_rng(0).uniform(size=(FILES, 16, 13)).astype(np.float32)


def data(model, features):
    """Logits and targets; the heads are set so that logits spread by 2 and a temperature of 2 is right."""
    for member in getattr(model, "members", [model]):
        logits = member.view("features", "logits").predict(features, verbose=0)
        scale, kernel, bias = 2 / logits.std(axis=0), *member.head.get_weights()
        member.head.set_weights([kernel * scale, (bias - logits.mean(axis=0)) * scale])
    logits = model.view("features", "logits").predict(features, verbose=0)
    own = logits if logits.ndim == 2 else logits[:, 0]
    rng = np.random.default_rng(1)
    if model.task == "multi_label":
        return logits, (rng.uniform(size=own.shape) < expit(own / 2)).astype(int)
    cumulative = softmax(own / 2, axis=1).cumsum(axis=1)
    return logits, (rng.uniform(size=(len(own), 1)) > cumulative[:, :-1]).sum(axis=1)


@pytest.mark.parametrize("task", ["single_label", "multi_label"])
def test_every_view_has_the_new_calibrator(features, task):
    model = small_classifier(task=task)
    logits, targets = data(model, features)
    view = model.features_model
    before = view.predict(features, verbose=0)  # compiled with the old one
    activation = expit if task == "multi_label" else lambda z: softmax(z, axis=1)
    model.compile()
    model.calibrate(features, targets, "vector", inputs="features")
    scale, bias = fit_vector_scaling(logits, targets, task)
    expected = activation(logits * scale + bias)
    assert np.abs(expected - before).max() > 0.01
    np.testing.assert_allclose(view.predict(features, verbose=0), expected, atol=1e-5)
    np.testing.assert_allclose(model.probabilities_of(logits), expected, atol=1e-5)
    assert model.compiled and [name for name in model.tensors() if name.startswith("calibrator")] == [
        "calibrator.scale",
        "calibrator.bias",
    ]
    waveforms = np.random.default_rng(2).normal(size=(3, model.window_samples)).astype(np.float32)
    np.testing.assert_allclose(
        model.predict_on_batch(waveforms),
        model.probabilities_of(model.view("waveform", "logits").predict_on_batch(waveforms)),
        atol=1e-5,
    )
    model.calibrate(features, targets, inputs="features")
    temperature = fit_temperature(logits, targets, task)
    np.testing.assert_allclose(view.predict(features, verbose=0), activation(logits / temperature), atol=1e-5)


@pytest.mark.filterwarnings("ignore:The held-out files determine no temperature")
def test_waveforms_and_their_features_give_the_same():
    model, other = small_classifier(), small_classifier()
    waveforms = np.random.default_rng(2).normal(size=(12, model.window_samples)).astype(np.float32)
    targets = np.arange(12) % 3
    model.calibrate(waveforms, targets, "vector")
    heard = model.view("waveform", "features").predict(waveforms, verbose=0)
    other.calibrate(heard, targets, "vector", inputs="features")
    for name in ("calibrator.scale", "calibrator.bias"):
        np.testing.assert_allclose(model.tensors()[name], other.tensors()[name], rtol=1e-3, atol=1e-4)


def small_ensemble(calibrate_on, task="single_label"):
    members = [small_classifier(seed=seed, task=task) for seed in (0, 1)]
    return Ensemble(members, calibrate_on=calibrate_on)


@pytest.mark.parametrize("kind", list(CALIBRATORS))
@pytest.mark.parametrize("build", [small_classifier, lambda: small_ensemble("mean")])
def test_presets_and_keras_files_keep_it(features, kind, build, tmp_path):
    model = build()
    model.calibrate(features, data(model, features)[1], kind, inputs="features")
    expected = model.features_model.predict(features[:8], verbose=0)
    model.save_preset(tmp_path / "preset")
    model.save(tmp_path / "model.keras")
    config = json.loads((tmp_path / "preset" / "config.json").read_text())[model.kind]
    assert config.get("calibrator", {"kind": "temperature"})["kind"] == kind
    for again in (music_zoo.load(tmp_path / "preset"), keras.saving.load_model(tmp_path / "model.keras")):
        assert type(again.calibrator) is CALIBRATORS[kind]
        np.testing.assert_allclose(again.features_model.predict(features[:8], verbose=0), expected, atol=1e-5)
    fresh = model.with_labels(["x", "y"])
    assert "calibrator" not in fresh.get_config()


@pytest.mark.parametrize("task", ["single_label", "multi_label"])
@pytest.mark.parametrize("calibrate_on", ["members", "mean"])
def test_an_ensemble_is_fitted_where_its_calibrator_acts(features, calibrate_on, task):
    model = small_ensemble(calibrate_on, task)
    logits, targets = data(model, features)
    model.calibrate(features, targets, inputs="features")
    if calibrate_on == "members":
        expected = fit_temperature(logits, targets, task)  # members are windows
    else:
        posteriors = (expit(logits) if task == "multi_label" else softmax(logits, axis=2)).mean(axis=1)
        pooled = np.log(posteriors) - (np.log1p(-posteriors) if task == "multi_label" else 0)
        expected = fit_temperature(pooled, targets, task)
    assert float(model.calibrator.temperature) == pytest.approx(expected, rel=1e-4)
    windows = np.stack([logits, logits], axis=1)  # two equal windows say no more than one
    model.calibrate_logits(windows, targets)
    assert float(model.calibrator.temperature) == pytest.approx(expected, rel=1e-4)


def test_training_goes_on_after_a_change_of_kind(features):
    model = small_classifier()
    targets = data(model, features)[1]
    view = model.features_model
    view.compile("adam")
    view.fit(features[:32], targets[:32], verbose=0)
    model.calibrate(features, targets, "isotonic", inputs="features")
    table = model.tensors()["calibrator.values"]
    view.fit(features[:32], targets[:32], verbose=0)
    np.testing.assert_array_equal(model.tensors()["calibrator.values"], table)
    assert int(view.optimizer.iterations) == 2


def test_half_precision_leaves_the_table_its_digits(features):
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = small_classifier()
    finally:
        keras.config.set_dtype_policy("float32")
    logits, targets = data(model, features)
    model.calibrate(features, targets, "vector", inputs="features")
    scale, bias = fit_vector_scaling(logits, targets)
    told = model.features_model.predict(features, verbose=0)
    assert told.dtype == np.float32
    np.testing.assert_allclose(told, softmax(logits * scale + bias, axis=1), atol=1e-5)


def test_what_cannot_be_fitted_changes_nothing(features):
    model = small_classifier()
    tensors = model.tensors()
    for targets, method, message in [
        (np.zeros(FILES, int), "vector", "index 1, 2"),
        (np.full(FILES, 3), "temperature", "0..2 for 3 classes"),
        (np.zeros(FILES, int), "platt", "temperature, vector, isotonic; got 'platt'"),
        (np.arange(FILES - 1) % 3, "vector", "shape"),
    ]:
        with pytest.raises(ValueError, match=message):
            model.calibrate(features, targets, method, inputs="features")
    with pytest.raises(ValueError, match="100 held-out files, got 20"):
        model.calibrate(features[:20], np.arange(20) % 3, "isotonic", inputs="features")
    for name, tensor in model.tensors().items():
        np.testing.assert_array_equal(tensor, tensors[name])


@pytest.mark.parametrize(
    "calibrator",
    [
        {"kind": "platt", "config": {}},
        {"kind": "isotonic", "config": {"task": "multi_label"}},
        {"kind": "vector", "config": {"no": 1}},
        {"kind": "isotonic"},
        "isotonic",
    ],
)
def test_configs_that_name_no_calibrator(calibrator, tmp_path):
    small_classifier().save_preset(tmp_path / "preset")
    files = read_preset(tmp_path / "preset")
    files.config["classifier"]["calibrator"] = calibrator
    with pytest.raises(PresetError, match="describes no classifier"):
        Classifier.from_preset_files(files)
