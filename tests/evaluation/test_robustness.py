"""A classifier on perturbed audio: the table against scikit-learn's numbers, and audio there is little of."""

import csv
import json

import numpy as np
import pytest
import soundfile
from sklearn.metrics import accuracy_score, average_precision_score, f1_score, log_loss, roc_auc_score
from small import SAMPLE_RATE, small_classifier, song

from music_zoo.datasets import AudioDataset, AudioFolder, AudioSplit, NSynthTest, open_dataset
from music_zoo.errors import DatasetError
from music_zoo.evaluation.evaluate import evaluate
from music_zoo.evaluation.perturbations import PERTURBATIONS
from music_zoo.evaluation.robustness import evaluate_robustness

pytestmark = pytest.mark.keras

#: Of small_classifier.
LABELS = ("a", "b", "c")
NOISE = {"noise": PERTURBATIONS["noise_0.4"]}
SOME = {name: PERTURBATIONS[name] for name in ("time_stretch_1.41", "compression_music", "noise_0.1")}


def recording(i: int) -> np.ndarray:
    return np.roll(song(1 + 0.2 * i), 700 * i) * (0.2 + 0.05 * i)


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    """Nine recordings of one to two windows, three of each label."""
    root = tmp_path_factory.mktemp("music")
    paths = [root / label / f"{i}.wav" for label in LABELS for i in range(3)]
    for i, path in enumerate(paths):
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path, recording(i), SAMPLE_RATE, subtype="FLOAT")
    return paths


@pytest.fixture(scope="module")
def folder(paths):
    return AudioFolder(paths[0].parents[1])


def tags(paths, labels=("c", "x", "a", "b")) -> AudioDataset:
    """The recordings with several labels each, and one that the classifier does not know."""
    targets = np.random.default_rng(1).integers(2, size=(len(paths), len(labels)))
    split = AudioSplit(tuple(paths), targets, tuple(path.stem for path in paths))
    root = paths[0].parents[1]
    return AudioDataset("tags", root, labels, "multi_label", {"test": split}, archive="it")


def classified(classifier, audios) -> np.ndarray:
    results = classifier.classify_many([(audio, SAMPLE_RATE) for audio in audios])
    return np.stack([result.probabilities for result in results]).astype(np.float64)


def ece(confidence: np.ndarray, right: np.ndarray) -> float:
    bins = np.ceil(confidence * 15)
    return sum(abs((right - confidence)[bins == number].sum()) for number in range(16)) / right.size


def test_the_table_is_that_of_scikit_learn(small_classifier, folder):
    numbers = []
    result = evaluate_robustness(
        small_classifier, folder, perturbations=SOME, progress=lambda *args: numbers.append(args)
    )
    assert list(result.metrics) == ["none", *SOME]
    assert (result.examples, result.skipped, result.dataset) == (9, (), str(folder.root))
    assert numbers == [(i, 36) for i in range(1, 37)]
    for name, metrics in result.metrics.items():
        perturb = SOME.get(name, lambda audio, rate, rng: audio)
        audios = [perturb(recording(i), SAMPLE_RATE, np.random.default_rng([0, i])) for i in range(9)]
        probabilities = classified(small_classifier, audios)
        winner, truth = probabilities.argmax(axis=1), folder.targets
        one_hot = np.eye(3)[truth]
        expected = {
            "accuracy": accuracy_score(truth, winner),
            "macro_f1": f1_score(truth, winner, average="macro"),
            "roc_auc": roc_auc_score(one_hot, probabilities, average="macro"),
            "pr_auc": average_precision_score(one_hot, probabilities, average="macro"),
            "nll": log_loss(truth, probabilities / probabilities.sum(axis=1, keepdims=True)),
            "ece": ece(probabilities.max(axis=1), winner == truth),
        }
        assert {key: metrics[key] for key in expected} == pytest.approx(expected, abs=1e-5), name
    unperturbed = evaluate(small_classifier, folder)
    assert result.metrics["none"]["ece"] == pytest.approx(unperturbed.metrics["ece"], abs=1e-5)
    assert result.metrics["none"]["uncalibrated_ece"] == pytest.approx(
        unperturbed.uncalibrated["ece"], abs=1e-5
    )


def test_several_labels_a_file(paths):
    dataset = tags(paths)
    classifier = small_classifier(task="multi_label")
    result = evaluate_robustness(classifier, dataset, perturbations=NOISE)
    draws = [np.random.default_rng([0, i]) for i in range(9)]
    audios = [NOISE["noise"](recording(i), SAMPLE_RATE, draw) for i, draw in enumerate(draws)]
    probabilities = classified(classifier, audios)
    targets = dataset.split("test").targets[:, [2, 3, 0]]  # a, b, c
    metrics = result.metrics["noise"]
    assert (result.split, "accuracy" in metrics) == ("test", False)
    for name, score in (("roc_auc", roc_auc_score), ("pr_auc", average_precision_score)):
        assert metrics[name] == pytest.approx(score(targets, probabilities, average="macro"), abs=1e-6)
    assert metrics["ece"] == pytest.approx(ece(probabilities.ravel(), targets.ravel()), abs=1e-5)
    assert evaluate(classifier, dataset).metrics["roc_auc"] == pytest.approx(
        result.metrics["none"]["roc_auc"]
    )


def test_labels_that_do_not_fit(paths, folder, small_classifier):
    classifier = small_classifier
    with pytest.raises(DatasetError, match="gives one label to a file; the data have several"):
        evaluate_robustness(classifier, tags(paths))
    with pytest.raises(DatasetError, match=r"do not say which files are \['c'\]"):
        evaluate_robustness(_multi_label(), tags(paths, ("a", "b")))
    with pytest.raises(DatasetError, match="the data have one per file"):
        evaluate_robustness(_multi_label(), folder)


def _multi_label():
    return small_classifier(task="multi_label")


def test_the_seed_decides_on_files_and_noise(small_classifier, folder):
    first, again, other = (
        evaluate_robustness(small_classifier, folder, perturbations=NOISE, limit=6, seed=seed)
        for seed in (0, 0, 1)
    )
    assert first == again and first.examples == 6
    assert first.metrics["none"]["nll"] != other.metrics["none"]["nll"]
    whole = [
        evaluate_robustness(small_classifier, folder, perturbations=NOISE, seed=seed).metrics
        for seed in (0, 1)
    ]
    assert whole[0]["none"] == whole[1]["none"] and whole[0]["noise"] != whole[1]["noise"]


def test_silence_and_files_that_cannot_be_used(small_classifier, tmp_path, write_wav):
    for label in LABELS:
        (tmp_path / label).mkdir()
        write_wav(f"{label}/silent.wav", np.zeros(SAMPLE_RATE, np.float32))
        write_wav(f"{label}/short.wav", recording(0)[:1200])
    (tmp_path / "a" / "text.mp3").write_text("no audio")
    write_wav("b/click.wav", recording(0)[:1000])  # 0.125 s, and 0.088 s when it is played faster
    result = evaluate_robustness(small_classifier, AudioFolder(tmp_path))
    assert result.examples == 6
    text, click = result.skipped
    assert "text.mp3" in text and "click.wav, perturbation time_stretch_1.41: " in click
    assert np.isfinite([list(row.values()) for row in result.metrics.values()]).all()


def test_data_that_cannot_be_scored(small_classifier, folder, tmp_path, log_mel_root):
    for label in LABELS:
        (tmp_path / label).mkdir()
        (tmp_path / label / "text.mp3").write_text("no audio")
    with pytest.raises(DatasetError, match=r"none of the 3 files could be used. First: .*text\.mp3"):
        evaluate_robustness(small_classifier, AudioFolder(tmp_path))
    with pytest.raises(DatasetError, match="one class|classes"):
        evaluate_robustness(small_classifier, folder, perturbations=NOISE, limit=1)
    with pytest.raises(DatasetError, match="only audio files can be perturbed"):
        evaluate_robustness(small_classifier, open_dataset(log_mel_root))
    with pytest.raises(ValueError, match="at least 1, got 0"):
        evaluate_robustness(small_classifier, folder, limit=0)


def test_table_and_picture(small_classifier, folder, tmp_path):
    result = evaluate_robustness(small_classifier, folder, perturbations=NOISE)
    plain = json.loads(json.dumps(result.to_dict()))
    assert plain["metrics"] == result.metrics
    result.write_csv(tmp_path / "robustness.csv")
    with (tmp_path / "robustness.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row.pop("perturbation") for row in rows] == ["none", "noise"]
    assert {key: float(value) for key, value in rows[1].items()} == result.metrics["noise"]
    lines = result.to_text().splitlines()
    assert lines[0].endswith(", 9 recordings") and lines[1].split() == list(result.metrics["noise"])
    name, *values = lines[3].split()
    assert name == "noise"
    assert [float(value) for value in values] == pytest.approx(
        list(result.metrics["noise"].values()), abs=1e-4
    )
    right, calibration = result.plot(tmp_path / "robustness.png").axes
    assert (tmp_path / "robustness.png").stat().st_size > 1000
    dots = [line.get_xdata() for line in right.lines if line.get_marker() == "o"]
    accuracy = [row["accuracy"] for row in result.metrics.values()]
    np.testing.assert_array_equal(dots[0], accuracy)
    assert [text.get_text() for text in calibration.get_legend().get_texts()] == ["ece", "uncalibrated ece"]


def test_real_notes(shared_data):
    """Validation notes of NSynth; the classifier knows nothing, so only that numbers come is of interest."""
    dataset = NSynthTest(shared_data / "data" / "nsynth-test")
    classifier = small_classifier(sample_rate=16000, labels=dataset.labels)
    result = evaluate_robustness(classifier, dataset, "validation", limit=8)
    assert (result.examples, result.split) == (8, "validation")
    assert np.isfinite([list(row.values()) for row in result.metrics.values()]).all()
    assert len({row["nll"] for row in result.metrics.values()}) == 9
