"""The reject option from the command line, with a small model on audio."""

import csv
import io
import json

import numpy as np
import pytest
import soundfile
from scipy.special import logit
from small import seeded, small_classifier
from typer.testing import CliRunner

from music_zoo import cli
from music_zoo.calibration import conformal_threshold, label_sets, reject_threshold, risk_coverage_curve
from music_zoo.classifier import Classifier
from music_zoo.datasets import open_dataset
from music_zoo.layers import FrontEnd
from music_zoo.models import ResNet

pytestmark = pytest.mark.keras


@pytest.fixture(scope="module")
def model():
    """Sure of its labels, but not as sure of each."""
    classifier = small_classifier()
    classifier.calibrator.temperature.assign(0.2)
    return classifier


@pytest.fixture(scope="module")
def preset(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("presets") / "small"
    model.save_preset(folder)
    return folder


@pytest.fixture(scope="module")
def data(model, tmp_path_factory):
    """Forty files in the folder of what the model takes them for, the least sure ones in the next one."""
    root, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    t = np.arange(8000) / 8000
    pitches, levels = rng.uniform(50, 2000, size=40), rng.uniform(0, 0.3, size=40)
    audios = [
        0.3 * np.sin(2 * np.pi * pitch * t) + level * rng.normal(size=8000)
        for pitch, level in zip(pitches, levels, strict=True)
    ]
    predictions = list(model.classify_many((audio, 8000) for audio in audios))
    sure = np.quantile([found.confidence for found in predictions], 0.4)
    for i, found in enumerate(predictions):
        place = model.labels.index(found.label) + (found.confidence < sure)
        path = root / "held-out" / model.labels[place % 3] / f"{i}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, audios[i], 8000, subtype="FLOAT")
    for label in model.labels:
        (root / "held-out" / label).mkdir(exist_ok=True)
        soundfile.write(root / "held-out" / label / "silence.wav", np.zeros(8000), 8000)
    return root


@pytest.fixture(scope="module")
def expected(model, data):
    """Probabilities and targets, file by file."""
    files = sorted((data / "held-out").glob("*/*.wav"))
    predictions = [result.probabilities for result in model.classify_many(files)]
    return np.stack(predictions), np.array([model.labels.index(file.parent.name) for file in files])


def invoke(*args, status=0):
    result = CliRunner().invoke(cli.app, [str(arg) for arg in args])
    if isinstance(result.exception, Exception):
        raise result.exception
    assert result.exit_code == status, result.output
    return result


def test_reject_finds_the_threshold_area_and_sets(preset, data, expected, tmp_path):
    picture = tmp_path / "new" / "curve.svg"
    args = ("--split", "held-out", "--max-error", "0.35", "--coverage", "0.8", "--delta", "0.1")
    result = invoke("reject", preset, "--data", data, *args, "--plot", picture, "--json")
    got = json.loads(result.stdout)
    threshold, curve = reject_threshold(*expected, 0.35, 0.1), risk_coverage_curve(*expected)
    assert got["reject"] == pytest.approx(vars(threshold))
    assert 0 < threshold.min_confidence and threshold.coverage > 0.3
    assert (got["examples"], got["split"]) == (43, "held-out")
    assert got["error"] == pytest.approx((expected[0].argmax(axis=1) != expected[1]).mean())
    assert got["risk_coverage_area"] == pytest.approx(curve.area)
    lowest = conformal_threshold(*expected, 0.8)
    assert got["label_sets"]["threshold"] == pytest.approx(lowest, rel=1e-4)
    sizes = label_sets(expected[0], lowest).sum(axis=1)
    assert got["label_sets"]["mean_size"] == pytest.approx(sizes.mean())
    assert picture.read_bytes().startswith(b"<?xml")
    rows = list(csv.DictReader(io.StringIO(picture.with_suffix(".csv").read_text())))
    assert [float(row["risk"]) for row in rows] == pytest.approx(curve.risk.tolist())
    assert {path.name for path in picture.parent.iterdir()} == {"curve.svg", "curve.csv"}


def test_reject_says_what_is_guaranteed(preset, data):
    text = invoke("reject", preset, "--data", data / "held-out", "--max-error", "0.4").stdout
    assert "--min-confidence 0." in text
    assert "at most 40.0% of accepted recordings are errors, but for a probability of 0.05" in text
    assert "holds its label with a probability of at least 90%" in text


def test_a_target_that_cannot_be_met_is_exit_status_1(preset, data):
    args = ("reject", preset, "--data", data / "held-out", "--max-error", "0.01")
    text = invoke(*args, status=1).stdout
    assert "No threshold can be guaranteed to keep errors under 0.01" in text
    assert "label sets" in text
    assert json.loads(invoke(*args, "--json", status=1).stdout)["reject"] is None


def test_reject_with_several_labels_a_file(tmp_path, log_mel_root):
    dataset = open_dataset(log_mel_root)
    front_end = FrontEnd.from_config(dataset.front_end)
    backbone = ResNet(n_mels=128, stem_width=2, widths=(2, 4), blocks=(1, 1))
    tagger = Classifier(front_end, backbone, dataset.labels, task="multi_label", window=3.0)
    tagger.set_tensors(seeded(tagger.tensors()))
    tagger.save_preset(tmp_path / "tagger")
    args = ("reject", tmp_path / "tagger", "--data", log_mel_root)
    text = invoke(*args, "--max-error", "0.95").stdout
    assert "is none of its labels" in text
    assert "fma-small validation, 12 recordings" in text
    assert "of the labels of a recording are in its set" in text


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--max-error", "0"], "--max-error must lie between 0 and 1"),
        (["--coverage", "90"], "--coverage must lie between 0 and 1"),
        (["--delta", "nan"], "--delta must lie between 0 and 1"),
        (["--method", "raps"], "expected lac or aps"),
        (["--plot", "curve.txt"], "picture's name must end in"),
    ],
)
def test_wrong_use_is_exit_status_2(monkeypatch, args, says):
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr("music_zoo.zoo.load", None)  # would be called if the error came late
    assert says in invoke("reject", "small", "--data", "missing", *args, status=2).output


def test_tag_shows_who_abstains(preset, model, data, tmp_path):
    files = sorted((data / "held-out").glob("*/*.wav"))[:6]
    confidences = [prediction.confidence for prediction in model.classify_many(files)]
    limit = float(np.median(confidences))
    abstains = [confidence < limit for confidence in confidences]
    assert sum(abstains) == 3
    args = ("tag", *files, "--model", preset, "--min-confidence", limit)
    assert invoke(*args).stdout.count("abstains: no label reaches") == 3
    found = [json.loads(line) for line in invoke(*args, "--json").stdout.splitlines()]
    assert [record["abstains"] for record in found] == abstains
    assert {record["min_confidence"] for record in found} == {limit}
    rows = csv.DictReader(io.StringIO(invoke(*args, "--csv").stdout))
    assert [row["abstains"] for row in rows] == [str(one).lower() for one in abstains]
    plain = invoke("tag", *files, "--model", preset, "--csv").stdout
    assert plain.splitlines()[0] == "source,duration,label,a,b,c"


def test_classify_takes_a_confidence_from_0_to_1(model):
    audio = np.random.default_rng(0).normal(size=8000)
    sure = model.classify(audio, 8000)
    assert sure.min_confidence is None and not sure.abstains
    assert not model.classify(audio, 8000, min_confidence=0).abstains
    assert model.classify(audio, 8000, min_confidence=1).decision is None
    for bad in (-0.1, 1.1, float("nan"), logit(0.99)):
        with pytest.raises(ValueError, match="`min_confidence` must lie between 0 and 1"):
            model.classify(audio, 8000, min_confidence=bad)
