"""A run of a noisy student: its labels, its temperature, what it refuses."""

import csv

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

import music_zoo
from music_zoo.datasets import dequantize, open_splits
from music_zoo.errors import DatasetError, PretrainingError
from music_zoo.pretraining.distillation import DistillSettings, distill
from music_zoo.pretraining.run import new_classifier

pytestmark = pytest.mark.keras

NETWORK = {"stem_width": 2, "widths": [2, 4], "blocks": [1, 1]}
SETTINGS = DistillSettings(student="resnet-compact", student_options=NETWORK, epochs=1, batch_size=8)


@pytest.fixture(scope="module")
def log_mels(log_mel_root):
    return open_splits(log_mel_root)


def teacher(log_mels, labels=("Rock", "Folk")):
    return new_classifier("resnet-compact", log_mels, "teacher", NETWORK, labels=labels, task="single_label")


@pytest.mark.filterwarnings("ignore:The held-out files determine no temperature")
def test_a_student_becomes_a_calibrated_preset(log_mels, tmp_path):
    said = []
    student = distill(SETTINGS, teacher(log_mels), log_mels, tmp_path / "run", say=said.append)
    assert said[-1] == f"wrote {tmp_path / 'run' / 'preset'}"
    loaded = music_zoo.load(tmp_path / "run" / "preset")
    assert loaded.labels == ("Rock", "Folk")  # in the teacher's order
    (row,) = csv.DictReader((tmp_path / "run" / "log.csv").read_text().splitlines())
    assert float(row["loss"]) == pytest.approx(
        float(row["labelled_loss"]) + float(row["distillation_loss"]), rel=1e-5
    )

    validation = log_mels.split("validation")
    logits = loaded.view("features", "logits").predict(dequantize(validation.features), verbose=0)
    targets = np.array([loaded.labels.index(log_mels.labels[target]) for target in validation.targets])

    def nll(temperature):
        return -log_softmax(logits / temperature, axis=1)[np.arange(len(targets)), targets].mean()

    best = minimize_scalar(nll, bounds=(0.01, 100), method="bounded")
    found = float(loaded.calibrator.temperature)
    assert found == float(student.calibrator.temperature)
    assert found == 1 or nll(found) == pytest.approx(best.fun, abs=1e-4)

    said.clear()
    distill(SETTINGS, teacher(log_mels), log_mels, tmp_path / "run", say=said.append)
    assert said[0].endswith("nothing is left to do")


def test_labels_must_be_the_teachers(log_mels, tmp_path):
    with pytest.raises(DatasetError, match="different labels. Only in the data: ..Rock"):
        distill(SETTINGS, teacher(log_mels, ("Folk", "Jazz")), log_mels, tmp_path / "run")


def test_too_few_recordings_are_told(log_mels, tmp_path):
    settings = SETTINGS.model_copy(update={"batch_size": 100})
    with pytest.raises(PretrainingError, match="batch of 1 to 24 examples"):
        distill(settings, teacher(log_mels), log_mels, tmp_path / "run")
