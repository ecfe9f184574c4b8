"""Exported files give the model's own probabilities, in their runtimes; what goes wrong leaves nothing."""

import json
import zipfile
from importlib.util import find_spec
from pathlib import Path

import keras
import numpy as np
import pytest
from small import SAMPLE_RATE, small_classifier
from typer.testing import CliRunner

import music_zoo
from music_zoo import cli, export
from music_zoo.ensemble import Ensemble
from music_zoo.errors import ExportError
from music_zoo.hub.preset_files import read_preset

pytestmark = [
    pytest.mark.keras,
    pytest.mark.skipif(
        not all(find_spec(name) for names in export.PACKAGES.values() for name in names),
        reason="exporting needs music-zoo[tensorflow,export]",
    ),
]
#: Other backends let TensorFlow convert in a child process, which costs seconds and is tested once.
on_tensorflow = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="TensorFlow converts, and its runs test that"
)
RUN = {"onnx": export._run_onnx, "litert": export._run_litert, "saved_model": export._run_saved_model}


def windows(count: int = 3, length: int = SAMPLE_RATE) -> np.ndarray:
    """Noise of different loudness: not what the exporter itself looks at."""
    return (
        10.0 ** -np.arange(1, count + 1)[:, None] * np.random.default_rng(5).normal(size=(count, length))
    ).astype(np.float32)


def calibrated(model, method: str):
    """With a calibrator that was fitted to noisy answers, so that it changes much."""
    rng = np.random.default_rng(1)
    logits = rng.normal(size=(300, 3)).astype(np.float32)
    noisy = logits + rng.normal(size=logits.shape)
    model.calibrate_logits(
        logits[:, None], noisy.argmax(1) if model.task == "single_label" else noisy > 0, method
    )
    return model


def small_ensemble(task: str, calibrate_on: str) -> Ensemble:
    members = [small_classifier(task=task, seed=seed) for seed in (0, 1)]
    return Ensemble(members, calibrate_on=calibrate_on)


def assert_same(model, path, format, tolerance=1e-5):
    audio = windows(length=model.window_samples)
    expected = model.predict(audio, verbose=0)
    assert np.abs(expected[0] - expected[-1]).max() > 100 * tolerance  # or a constant would pass
    run = RUN[format](path)
    for count in (3, 1):
        got = run(audio[:count])
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, expected[:count], rtol=0, atol=tolerance)


@on_tensorflow
@pytest.mark.parametrize("method", ["temperature", "vector", "isotonic"])
@pytest.mark.parametrize("task", ["single_label", "multi_label"])
def test_onnx_gives_calibrated_probabilities(tmp_path, task, method):
    model = calibrated(small_classifier(task=task), method)
    assert model.export_onnx(tmp_path / "model.onnx") == tmp_path / "model.onnx"
    assert_same(model, tmp_path / "model.onnx", "onnx")


@on_tensorflow
@pytest.mark.parametrize(
    ("task", "where"), [("single_label", "mean"), ("multi_label", "mean"), ("multi_label", "members")]
)
def test_onnx_of_an_ensemble(tmp_path, task, where):
    ensemble = small_ensemble(task, where)
    ensemble.calibrator.set_weights([np.float32(2.5)])
    ensemble.export_onnx(tmp_path / "model.onnx")
    assert_same(ensemble, tmp_path / "model.onnx", "onnx")


@on_tensorflow
@pytest.mark.parametrize(
    ("format", "task", "method"),
    [
        ("saved_model", "single_label", "isotonic"),
        ("litert", "multi_label", "vector"),
        pytest.param("saved_model", "multi_label", "vector", marks=pytest.mark.slow),
        pytest.param("litert", "single_label", "isotonic", marks=pytest.mark.slow),
    ],
)
def test_other_formats_give_calibrated_probabilities(tmp_path, format, task, method):
    model = calibrated(small_classifier(task=task), method)
    export.export(model, tmp_path / "model", format)
    assert_same(model, tmp_path / "model", format)


@on_tensorflow
def test_every_format_says_what_the_model_is(tmp_path):
    import onnxruntime

    model = small_classifier(labels=["a", "b", "ü, c"], name="three")
    for format in export.FORMATS:
        export.export(model, tmp_path / format, format)
    session = onnxruntime.InferenceSession(tmp_path / "onnx")
    found = session.get_modelmeta().custom_metadata_map
    assert json.loads(found["labels"]) == ["a", "b", "ü, c"]
    assert {key: found[key] for key in ("name", "task", "sample_rate", "window", "window_samples")} == {
        "name": "three",
        "task": "single_label",
        "sample_rate": "8000",
        "window": "1.0",
        "window_samples": "8000",
    }
    assert [(each.name, each.shape) for each in (*session.get_inputs(), *session.get_outputs())] == [
        ("waveform", ["batch", 8000]),
        ("probabilities", ["batch", 3]),
    ]
    assert json.loads(zipfile.ZipFile(tmp_path / "litert").read("music_zoo.json")) == found
    assert json.loads((tmp_path / "saved_model" / "assets.extra" / "music_zoo.json").read_text()) == found


def test_the_command_writes_a_file_that_runs(tmp_path):
    """On other backends than TensorFlow: the only test of the child process."""
    model = calibrated(small_classifier(), "isotonic")
    model.save_preset(tmp_path / "preset")
    arguments = ["export", tmp_path / "preset", "--output", tmp_path / "new" / "model.onnx"]
    result = CliRunner().invoke(cli.app, [str(each) for each in arguments])
    assert result.exit_code == 0, result.output
    assert "windows of 8000 samples at 8000 Hz" in result.stderr
    assert_same(model, tmp_path / "new" / "model.onnx", "onnx")


@pytest.mark.slow
@on_tensorflow
def test_the_child_process_under_mixed_precision(tmp_path):
    """The child computes in float32, whatever the policy here."""
    model = small_classifier()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        export.export(model, tmp_path / "model.onnx")
    finally:
        keras.config.set_dtype_policy("float32")
    assert_same(model, tmp_path / "model.onnx", "onnx")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet-fma", "resnet-gtzan"])
@pytest.mark.parametrize("format", export.FORMATS)
def test_a_preset_gives_its_golden_probabilities(tmp_path, format, name):
    model = music_zoo.load(name)
    export.export(model, tmp_path / "model", format)
    golden = read_preset(Path(music_zoo.__file__).parent / "presets" / name).golden
    sound = np.resize(golden["waveform"].astype(np.float32) / 32768, (1, model.window_samples))
    got = RUN[format](tmp_path / "model")(sound)
    np.testing.assert_allclose(got, golden["probabilities"], rtol=0, atol=1e-4)


@pytest.mark.slow
@on_tensorflow
@pytest.mark.parametrize("name", ["swin-mini", "music-tagging-transformer-student", "self-attention-cnn"])
def test_onnx_of_attention_and_gelu(tmp_path, name):
    model = music_zoo.load(name, pretrained=False, num_classes=3)
    model.export_onnx(tmp_path / "model.onnx")
    audio = windows(length=model.window_samples)
    got = export._run_onnx(tmp_path / "model.onnx")(audio)
    np.testing.assert_allclose(got, model.predict(audio, verbose=0), rtol=0, atol=1e-5)


# ---- what goes wrong -------------------------------------------------------------------------------------


def test_an_unknown_format(small_classifier, tmp_path):
    with pytest.raises(ValueError, match="onnx, saved_model, litert; got 'coreml'"):
        export.export(small_classifier, tmp_path / "model", "coreml")
    result = CliRunner().invoke(cli.app, ["export", "resnet-fma", "--output", "x", "--format", "coreml"])
    assert result.exit_code == 2
    assert not list(tmp_path.iterdir())


def test_a_missing_package(small_classifier, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "find_spec", lambda name: None if name == "tf2onnx" else find_spec(name))
    with pytest.raises(ExportError, match=r'needs tf2onnx, .*pip install "music-zoo\[tensorflow,export\]"'):
        small_classifier.export_onnx(tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("format", export.FORMATS)
def test_a_place_that_cannot_be_written(small_classifier, tmp_path, format):
    (tmp_path / "file").write_text("kept")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_text("kept")
    for path in ("file/model", "folder"):
        with pytest.raises(OSError, match="file|folder"):
            export.export(small_classifier, tmp_path / path, format)
    if format == "saved_model":
        with pytest.raises(FileExistsError):
            export.export(small_classifier, tmp_path / "file", format)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "file", "folder"]


@on_tensorflow
def test_probabilities_that_differ_leave_the_older_file(tmp_path, monkeypatch):
    model = small_classifier()
    (tmp_path / "model.onnx").write_text("older")
    monkeypatch.setattr(model, "predict", lambda *args, **kwargs: np.full((3, 3), 1 / 3, np.float32))
    with pytest.raises(ExportError, match="probabilities of the exported onnx differ by 0"):
        model.export_onnx(tmp_path / "model.onnx")
    assert (tmp_path / "model.onnx").read_text() == "older"
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


@on_tensorflow
def test_what_a_converter_raises_is_told(small_classifier, tmp_path, monkeypatch):
    def fail(*args):
        raise RuntimeError("no such\noperator")

    monkeypatch.setattr(export, "_finish_onnx", fail)
    with pytest.raises(ExportError, match="cannot be converted to onnx: RuntimeError: no such operator"):
        small_classifier.export_onnx(tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_a_child_that_fails_says_why(small_classifier, tmp_path, monkeypatch):
    def fail(command, **settings):
        return export.subprocess.CompletedProcess(command, 1, "", "I0000 noise\nMemoryError: too much\n")

    monkeypatch.setattr(export.subprocess, "run", fail)
    monkeypatch.setattr(keras.backend, "backend", lambda: "torch")
    with pytest.raises(ExportError, match="onnx on TensorFlow failed: MemoryError: too much"):
        small_classifier.export_onnx(tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())
