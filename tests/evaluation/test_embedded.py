"""Embeddings of splits, and classifiers whose head is a probe."""

import numpy as np
import pytest
from scipy.special import expit, softmax
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from music_zoo.datasets import dequantize, open_splits
from music_zoo.errors import DatasetError
from music_zoo.evaluation import fit_probe
from music_zoo.evaluation.embedded import embed_split, probed_classifier, task_of
from music_zoo.pretraining.run import new_classifier

pytestmark = pytest.mark.keras


@pytest.fixture(scope="module")
def log_mels(log_mel_root):
    return open_splits(log_mel_root)


@pytest.fixture(scope="module")
def encoder(log_mels):
    options = {"stem_width": 4, "widths": [4, 8], "blocks": [1, 1]}
    return new_classifier("resnet-compact", log_mels, "encoder", options)


@pytest.mark.filterwarnings("ignore:The held-out files determine no temperature")
def test_the_logits_are_those_of_scikit_learn(log_mels, encoder):
    train, validation = (embed_split(encoder, log_mels, split) for split in ("train", "validation"))
    assert train.means.shape == (24, 8)
    probe = fit_probe("linear", train.means, train.targets)  # C = 1
    tagger = probed_classifier(encoder, probe, log_mels.labels, "single_label", "tagger", validation)

    scaler = StandardScaler().fit(train.means)
    reference = LogisticRegression(max_iter=200, tol=1e-3).fit(scaler.transform(train.means), train.targets)
    expected = reference.decision_function(scaler.transform(validation.means))
    images = dequantize(log_mels.split("validation").features)
    logits = tagger.view("features", "logits").predict(images, verbose=0)
    np.testing.assert_allclose(logits[:, 1] - logits[:, 0], expected, rtol=1e-3, atol=1e-3)

    probabilities = tagger.view("features", "probabilities").predict(images, verbose=0)
    temperature = float(tagger.calibrator.temperature)
    np.testing.assert_allclose(probabilities[:, 1], expit(expected / temperature), atol=1e-3)
    assert tagger.labels == ("Folk", "Rock")


def test_a_number_of_files_at_most(log_mels, encoder):
    whole, part = embed_split(encoder, log_mels, "train"), embed_split(encoder, log_mels, "train", most=5)
    rows = [np.abs(whole.means - row).max(axis=1).argmin() for row in part.means]
    assert len(set(rows)) == 5
    np.testing.assert_array_equal(part.targets, whole.targets[rows])


def test_audio_is_embedded_window_by_window(small_classifier, tmp_path):
    import soundfile

    root = tmp_path / "music"
    (root / "train" / "a").mkdir(parents=True)
    sound = np.random.default_rng(0).normal(size=24_000).astype(np.float32) / 10
    soundfile.write(root / "train" / "a" / "long.wav", sound, 8000, subtype="FLOAT")
    (root / "train" / "a" / "broken.wav").write_bytes(b"nothing")
    done = []
    embedded = embed_split(
        small_classifier, open_splits(root), "train", lambda *numbers: done.append(numbers)
    )
    expected = small_classifier.embed(sound, 8000)
    assert expected.shape[0] == 3
    np.testing.assert_allclose(embedded.windows[0], expected, atol=1e-5)
    np.testing.assert_allclose(embedded.means, expected.mean(axis=0, keepdims=True), atol=1e-5)
    assert len(embedded.targets) == 1 and "broken.wav" in embedded.skipped[0]
    assert done == [(1, 2), (2, 2)]


def test_without_labels_there_is_nothing_to_probe(small_classifier, tmp_path, write_wav):
    write_wav("song.wav", np.ones(8000, np.float32))
    unlabelled = open_splits(tmp_path)
    assert task_of(unlabelled) == "single_label"
    with pytest.raises(DatasetError, match="no labels for the split 'train'"):
        embed_split(small_classifier, unlabelled, "train")


@pytest.mark.parametrize("classes", [2, 3])
def test_a_linear_probe_is_a_dense_layer(classes):
    rng = np.random.default_rng(0)
    targets = np.arange(60) % classes
    features = rng.normal(3, 5, size=(60, 4)) + np.eye(4)[targets]
    probe = fit_probe("linear", features, targets)
    kernel, bias = probe.dense()
    new = rng.normal(size=(7, 4))
    np.testing.assert_allclose(softmax(new @ kernel + bias, axis=1), probe.predict_proba(new), atol=1e-12)


@pytest.mark.parametrize("tags", [1, 3])
def test_so_is_one_of_tags(tags):
    features = np.random.default_rng(0).normal(3, 5, size=(60, 4))
    targets = (features[:, :tags] > 3).astype(int)
    probe = fit_probe("linear", features, targets, "multi_label")
    kernel, bias = probe.dense()
    np.testing.assert_allclose(expit(features @ kernel + bias), probe.predict_proba(features), atol=1e-12)


def test_other_probes_are_not():
    features, targets = np.eye(4), np.array([0, 1, 0, 1])
    with pytest.raises(ValueError, match="Only a linear probe is a dense layer, this is one of kind 'knn'"):
        fit_probe("knn", features, targets).dense()
    with pytest.raises(ValueError, match=r"tells nothing about the classes \[2\]"):
        fit_probe("linear", features, targets, num_classes=3).dense()


def test_labels_are_as_many_as_classes(encoder):
    probe = fit_probe("linear", np.eye(4), np.array([0, 1, 0, 1]))
    with pytest.raises(ValueError, match="knows 2 classes, there are 3 labels"):
        probed_classifier(encoder, probe, ("a", "b", "c"), "single_label", "x")
