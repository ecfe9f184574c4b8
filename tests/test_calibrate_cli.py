"""`music-zoo calibrate` with a small model on stored features, and its cross-validation."""

import json

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.model_selection import StratifiedKFold
from small import seeded, small_classifier
from typer.testing import CliRunner

import music_zoo
from music_zoo import cli
from music_zoo.calibration import fit_temperature
from music_zoo.errors import DatasetError

pytestmark = pytest.mark.keras


@pytest.fixture(scope="module")
def preset(log_mel_root, tmp_path_factory):
    """Of two genres, with a temperature of 5, which is none that the data would give."""
    from music_zoo.classifier import Classifier
    from music_zoo.datasets import open_dataset
    from music_zoo.layers import FrontEnd
    from music_zoo.models import ResNet

    dataset = open_dataset(log_mel_root)
    backbone = ResNet(n_mels=128, stem_width=2, widths=(2, 4), blocks=(1, 1))
    front_end = FrontEnd.from_config(dataset.front_end)
    classifier = Classifier(front_end, backbone, dataset.labels, window=29.0, name="small")
    tensors = seeded(classifier.tensors())
    classifier.set_tensors(tensors | {"calibrator.temperature": np.float32(5)})
    folder = tmp_path_factory.mktemp("presets") / "small"
    classifier.save_preset(folder)
    return folder


def invoke(*args, status=0):
    result = CliRunner().invoke(cli.app, [str(arg) for arg in args])
    if isinstance(result.exception, Exception):
        raise result.exception
    assert result.exit_code == status, result.output
    return result.output


def test_calibrate_writes_a_preset_with_another_calibrator(preset, log_mel_root, tmp_path):
    output = tmp_path / "made" / "calibrated"
    text = invoke("calibrate", preset, "--data", log_mel_root, "--method", "vector", "--output", output)
    assert "small on fma-small, 12 recordings, vector" in text and f"wrote {output}" in text
    assert "on the recordings that it was fitted to, which flatters" in text  # 12 are too few for folds
    scores = {
        words[0]: [float(each) for each in words[1:]] for words in map(str.split, text.splitlines()[2:5])
    }
    assert list(scores) == ["nll", "ece", "mae"]
    uncalibrated, before, after = scores["nll"]
    assert after < min(uncalibrated, before)
    config = json.loads((output / "config.json").read_text())["classifier"]
    assert config["calibrator"] == {"kind": "vector", "config": {}}
    tensors, old = music_zoo.load(output).tensors(), music_zoo.load(preset).tensors()
    assert set(tensors) - set(old) == {"calibrator.scale", "calibrator.bias"}
    np.testing.assert_array_equal(tensors["head.kernel"], old["head.kernel"])


@pytest.mark.parametrize("seed", [0, 1])
def test_cross_validation_scores_each_recording_by_the_others(seed):
    from music_zoo.evaluation.cross_calibration import calibrated_means, cross_calibrated
    from music_zoo.evaluation.split_outputs import SplitOutputs

    model, rng = small_classifier(), np.random.default_rng(seed)
    targets = np.arange(60) % 3
    windows = [2 * np.eye(3)[t] + 2 * rng.normal(size=(1 + i % 3, 3)) for i, t in enumerate(targets)]
    outputs = SplitOutputs("", tuple(each.astype(np.float32) for each in windows), targets)
    model.calibrate_logits(windows, targets)
    temperature = float(model.calibrator.temperature)
    got = cross_calibrated(model, outputs, folds=4, seed=seed)
    expected = np.empty((60, 3))
    for others, held_out in StratifiedKFold(4, shuffle=True, random_state=seed).split(targets, targets):
        own = fit_temperature([windows[i] for i in others], targets[others])
        for i in held_out:
            expected[i] = softmax(windows[i] / own, axis=1).mean(axis=0)
    np.testing.assert_allclose(got, expected, atol=1e-5)
    assert float(model.calibrator.temperature) == temperature
    plain = [softmax(each / temperature, axis=1).mean(axis=0) for each in windows]
    np.testing.assert_allclose(calibrated_means(model, outputs), plain, atol=1e-5)


def test_too_few_recordings_leave_no_preset(preset, log_mel_root, tmp_path):
    with pytest.raises(DatasetError, match="fma-small: Isotonic tables need at least 100"):
        args = ("--method", "isotonic", "--output", tmp_path / "new")
        invoke("calibrate", preset, "--data", log_mel_root, *args)
    assert not (tmp_path / "new").exists()


def test_a_method_that_there_is_not(tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    args = ("--data", tmp_path, "--output", tmp_path / "new", "--method", "platt")
    assert "expected temperature, vector, isotonic" in invoke("calibrate", "small", *args, status=2)
    from music_zoo.calibration import CALIBRATORS
    from music_zoo.calibration_cli import METHODS

    assert tuple(CALIBRATORS) == METHODS
