"""A classifier scored on stored features and on folders of audio, with and without its temperature."""

import csv
import json

import keras
import numpy as np
import pytest
from scipy.special import log_softmax, softmax
from small import SAMPLE_RATE, seeded, small_front_end, song
from small import small_classifier as build

from music_zoo import DatasetError, Ensemble
from music_zoo.classifier import Classifier
from music_zoo.datasets import AudioFolder, open_dataset
from music_zoo.evaluation.evaluate import evaluate
from music_zoo.layers import FrontEnd
from music_zoo.models import ResNet

pytestmark = pytest.mark.keras

GENRES = ("Folk", "Pop", "Rock")


@pytest.fixture(scope="module")
def fma(tmp_path_factory):
    """A data set of nine tracks in FMA-small's layout; a third each for training, validation and test."""
    root = tmp_path_factory.mktemp("fma")
    splits = np.repeat(["train", "validation", "test"], 3)
    with (root / "tracks.csv").open("w", newline="") as file:
        rows = [(i, split, GENRES[i % 3], GENRES[i % 3]) for i, split in enumerate(splits)]
        csv.writer(file).writerows([("track_id", "split", "genre", "genres"), *rows])
    images = np.random.default_rng(0).integers(256, size=(9, 128, 128), dtype=np.uint8)
    np.savez(root / "part-0.npz", track_id=np.arange(9), logmel=images)
    return open_dataset(root)


def on_stored_features(dataset, labels, seed=0, **front_end) -> Classifier:
    config = dataset.front_end | front_end
    backbone = ResNet(n_mels=128, stem_width=2, widths=(2, 4), blocks=(1, 1))
    classifier = Classifier(FrontEnd.from_config(config), backbone, labels, window=30.0, name="small")
    tensors = seeded(classifier.tensors(), seed)
    classifier.set_tensors(tensors | {"calibrator.temperature": np.float32(2)})
    return classifier


@pytest.fixture(scope="module")
def classifier(fma):
    return on_stored_features(fma, ("Rock", "Folk", "Pop"))  # in another order than the data's


@pytest.mark.parametrize("split", [None, "test", "validation"])
def test_stored_features_by_hand(fma, classifier, split):
    evaluation = evaluate(classifier, fma, split)
    assert (evaluation.model, evaluation.dataset, evaluation.split) == ("small", "fma-small", split or "test")
    assert evaluation.examples == 3 and evaluation.skipped == ()

    rows = fma.splits == (split or "test")
    images = (fma.features[rows] / 255).astype(np.float32)
    truth = [("Rock", "Folk", "Pop").index(GENRES[i % 3]) for i in np.flatnonzero(rows)]
    kernel, bias = (keras.ops.convert_to_numpy(v) for v in classifier.head.weights)
    embeddings = classifier.view("features", "embedding").predict_on_batch(images)
    logits = embeddings.astype(np.float64) @ kernel + bias
    accuracy = (logits.argmax(axis=1) == truth).mean()
    for metrics, temperature in ((evaluation.metrics, 2), (evaluation.uncalibrated, 1)):
        assert metrics["accuracy"] == pytest.approx(accuracy)
        nll = -log_softmax(logits / temperature, axis=1)[range(3), truth].mean()
        assert metrics["nll"] == pytest.approx(nll, rel=1e-5)


def test_text_has_a_line_per_metric(fma, classifier):
    evaluation = evaluate(classifier, fma)
    lines = evaluation.to_text().splitlines()
    assert lines[0] == "small on fma-small test, 3 recordings"
    assert lines[1].split() == ["calibrated", "uncalibrated", "perfect"]
    name, calibrated, uncalibrated = next(line for line in lines if "nll" in line).split()
    assert float(calibrated) == pytest.approx(evaluation.metrics["nll"], abs=1e-4)
    assert float(uncalibrated) == pytest.approx(evaluation.uncalibrated["nll"], abs=1e-4)


def probabilities_on_test(dataset, classifier):
    """Of the test split, which holds one recording of each genre, in the order of GENRES."""
    images = (dataset.features[dataset.splits == "test"] / 255).astype(np.float32)
    return classifier.view("features", "probabilities").predict_on_batch(images)


def test_intervals_stand_beside_the_numbers(fma, classifier):
    plain, evaluation = evaluate(classifier, fma), evaluate(classifier, fma, resamples=50)
    assert plain.intervals == {}
    assert evaluation.metrics == plain.metrics
    for column in ("calibrated", "uncalibrated"):
        assert evaluation.intervals[column].keys() == evaluation.metrics.keys()
    winners = probabilities_on_test(fma, classifier).argmax(axis=1)
    is_right = np.array([classifier.labels[winner] for winner in winners]) == GENRES
    drawn = is_right[np.random.default_rng(0).integers(3, size=(50, 3))].mean(axis=1)
    expected = tuple(np.percentile(drawn, (2.5, 97.5)))
    assert evaluation.intervals["calibrated"]["accuracy"] == pytest.approx(expected)
    low, high = evaluation.intervals["uncalibrated"]["nll"]
    (line,) = [line for line in evaluation.to_text().splitlines() if " nll " in line]
    assert line.endswith(f" {evaluation.uncalibrated['nll']:.4f} [{low:.4f}, {high:.4f}]")
    assert json.loads(json.dumps(evaluation.to_dict()))["intervals"]["uncalibrated"]["nll"] == [low, high]


def test_metrics_by_label_are_those_of_one_against_the_rest(fma, classifier):
    by_label = evaluate(classifier, fma).by_label
    assert tuple(by_label) == classifier.labels
    probabilities = probabilities_on_test(fma, classifier)
    for i, label in enumerate(classifier.labels):
        is_label = [genre == label for genre in GENRES]
        brier = np.mean((probabilities[:, i] - is_label) ** 2)
        assert by_label[label]["brier"] == pytest.approx(brier, rel=1e-4)


@pytest.mark.parametrize("calibrate_on", ["members", "mean"])
def test_an_ensemble_is_scored_by_the_mean_of_posteriors(fma, calibrate_on):
    members = [on_stored_features(fma, GENRES, seed=seed) for seed in (0, 1)]
    ensemble = Ensemble(members, calibrate_on=calibrate_on, name="two")
    ensemble.calibrator.temperature.assign(2)
    evaluation = evaluate(ensemble, fma)
    images = (fma.features[fma.splits == "test"] / 255).astype(np.float32)
    logits = np.float64([m.view("features", "logits").predict_on_batch(images) for m in members])
    nll = -np.log(softmax(logits, axis=2).mean(axis=0)[range(3), range(3)]).mean()
    assert evaluation.uncalibrated["nll"] == pytest.approx(nll, rel=1e-5)
    if calibrate_on == "members":
        calibrated = softmax(logits / 2, axis=2).mean(axis=0)
    else:
        calibrated = softmax(np.log(softmax(logits, axis=2).mean(axis=0)) / 2, axis=1)
    nll = -np.log(calibrated[range(3), range(3)]).mean()
    assert evaluation.metrics["nll"] == pytest.approx(nll, rel=1e-5)


def test_labels_must_be_those_of_the_data(fma):
    other = on_stored_features(fma, ("Folk", "Jazz", "Rock"))
    with pytest.raises(
        DatasetError, match=r"Only in the data: \['Pop'\]; only in the classifier: \['Jazz'\]"
    ):
        evaluate(other, fma)


def test_features_must_be_those_of_the_front_end(fma, classifier):
    with pytest.raises(DatasetError, match="another front end"):
        evaluate(on_stored_features(fma, GENRES, layers=fma.front_end["layers"][:-1]), fma)
    # The form of the Fourier transform and the layer's name change nothing.
    conv = FrontEnd.from_config(classifier.front_end.with_method("conv").get_config() | {"name": "other"})
    parts = {"front_end": conv, "backbone": classifier.backbone}
    same = Classifier(**classifier.get_config() | parts)
    assert evaluate(same, fma).examples == 3


def test_a_split_that_is_not_there(fma, classifier):
    with pytest.raises(DatasetError, match="got 'holdout'"):
        evaluate(classifier, fma, "holdout")


def test_intervals_of_notes_are_over_instruments(notes_folder):
    classifier = build(labels=("flute", "organ"))
    head = {"head.kernel": np.zeros((8, 2), np.float32), "head.bias": np.float32([1, 0])}
    classifier.set_tensors(classifier.tensors() | head)
    evaluation = evaluate(classifier, open_dataset(notes_folder), "test", resamples=50)
    assert evaluation.to_text().endswith("in brackets: 95 % intervals over resampled instruments")
    # It hears flutes, always: of the two instruments all notes are right, or none.
    assert evaluation.examples == 12 and evaluation.metrics["accuracy"] == 0.5
    assert evaluation.intervals["calibrated"]["accuracy"] == (0, 1)


@pytest.fixture
def folder(tmp_path, write_wav):
    """Two recordings of `a`, one of `b`, none usable of `c`."""
    for label in "abc":
        (tmp_path / label).mkdir()
    write_wav("a/1.wav", song(2.0))
    write_wav("a/2.wav", song(1.5)[::-1])
    write_wav("b/1.wav", song(0.5))
    (tmp_path / "c" / "text.mp3").write_text("no audio")
    return tmp_path


def test_a_folder_of_audio_is_scored_by_the_mean_over_windows(folder):
    classifier = build(labels=("c", "a", "b"))
    dataset = AudioFolder(folder)
    done = []
    evaluation = evaluate(classifier, dataset, progress=lambda *numbers: done.append(numbers))
    assert (evaluation.dataset, evaluation.split, evaluation.examples) == (str(folder), "", 3)
    assert len(evaluation.skipped) == 1 and "text.mp3" in evaluation.skipped[0]
    assert done == [(1, 4), (2, 4), (3, 4), (4, 4)]

    probabilities = [classifier.classify(path).probabilities for path in dataset.paths[:3]]
    truth = [
        probability[classifier.labels.index(label)]
        for probability, label in zip(probabilities, "aab", strict=True)
    ]
    assert evaluation.metrics["nll"] == pytest.approx(-np.log(truth).mean(), rel=1e-5)


def test_no_file_that_can_be_used(folder, small_classifier):
    for path in folder.glob("*/*.wav"):
        path.write_bytes(b"RIFF")
    with pytest.raises(DatasetError, match="none of the 4 files could be used. First: .*wav"):
        evaluate(small_classifier, AudioFolder(folder))


def test_several_labels_a_file_need_data_with_several(folder):
    classifier = Classifier(
        small_front_end(), build().backbone, ["a", "b", "c"], window=4000 / SAMPLE_RATE, task="multi_label"
    )
    with pytest.raises(DatasetError, match="gives several labels to a file"):
        evaluate(classifier, AudioFolder(folder))
