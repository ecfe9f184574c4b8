"""The classifier in training, and its weights on their way through files."""

import json

import keras
import numpy as np
import pytest
from contracts import check_preset
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.metrics import roc_auc_score
from small import SAMPLE_RATE, song
from small import small_classifier as build

import music_zoo
from music_zoo import PresetError
from music_zoo.classifier import Classifier
from music_zoo.hub.preset_files import PresetFiles

pytestmark = pytest.mark.keras


# ---- training ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", ["single_label", "multi_label"])
def test_compile_knows_the_loss_and_the_metric_of_the_task(task):
    classifier = build(task=task, labels=["a", "b"])
    targets = np.array([0, 1, 0, 1]) if task == "single_label" else np.array([[0, 1], [1, 0], [1, 1], [0, 0]])
    waveforms = song(4.0).reshape(4, 8000)
    tensors = classifier.tensors()
    tensors["head.kernel"] *= 20  # apart by more than the thresholds of `keras.metrics.AUC`, around 1/2
    embeddings = classifier.view("waveform", "embedding").predict_on_batch(waveforms)
    tensors["head.bias"] = -(embeddings @ tensors["head.kernel"]).mean(axis=0)
    classifier.set_tensors(tensors)
    probabilities = classifier.predict_on_batch(waveforms).astype(np.float64)
    classifier.compile()
    loss, metric = classifier.evaluate(waveforms, targets, verbose=0)
    if task == "single_label":
        truth = probabilities[np.arange(4), targets]
        assert metric == pytest.approx((probabilities.argmax(axis=1) == targets).mean())
    else:
        truth = np.where(targets, probabilities, 1 - probabilities)
        assert metric == pytest.approx(roc_auc_score(targets, probabilities), abs=1e-6)
    assert loss == pytest.approx(-np.log(truth).mean(), rel=1e-4)


def test_own_loss_and_metrics_are_taken():
    classifier = build()
    classifier.compile("sgd", "categorical_crossentropy", metrics=["mae"])
    assert isinstance(classifier.optimizer, keras.optimizers.SGD)
    assert classifier.loss == "categorical_crossentropy"


def test_waveforms_and_their_features_train_the_same_weights():
    waveforms, targets = song(4.0).reshape(4, 8000), np.array([0, 1, 2, 0])
    trained = []
    for on_features in (False, True):
        classifier = build()
        model, inputs = classifier, waveforms
        if on_features:
            model = classifier.features_model
            inputs = classifier.view("waveform", "features").predict_on_batch(waveforms)
        model.compile(keras.optimizers.SGD(0.1))
        model.fit(inputs, targets, batch_size=4, epochs=2, verbose=0)
        trained.append(classifier.tensors())
    start = build().tensors()
    for name in start:
        assert_allclose(trained[0][name], trained[1][name], atol=2e-4, err_msg=name)
        moved = np.abs(trained[0][name] - start[name]).max()
        assert name == "calibrator.temperature" or moved > 1e-3, name


def test_a_frozen_backbone_keeps_weights_and_statistics_while_the_head_learns():
    classifier = build()
    before = classifier.tensors()
    classifier.backbone.trainable = False
    classifier.compile(keras.optimizers.SGD(0.5))
    classifier.fit(song(4.0).reshape(4, 8000), np.array([0, 1, 2, 0]), verbose=0)
    after = classifier.tensors()
    moved = {name for name in before if (before[name] != after[name]).any()}
    assert moved == {"head.kernel", "head.bias"}


# ---- configs and weights -----------------------------------------------------------------------------------


def test_config_is_json_and_builds_the_same(small_classifier):
    config = json.loads(json.dumps(small_classifier.get_config()))
    again = Classifier.from_config(config)
    assert again.get_config() == small_classifier.get_config()
    again.set_tensors(small_classifier.tensors())
    audio = song(1.0)[None]
    assert_array_equal(again.predict_on_batch(audio), small_classifier.predict_on_batch(audio))


def test_a_frozen_backbone_stays_frozen_in_a_keras_file(tmp_path):
    classifier = build()
    classifier.backbone.trainable = False
    classifier.compile(keras.optimizers.SGD(0.5, momentum=0.9))
    classifier.train_on_batch(song(2.0).reshape(2, 8000), np.array([0, 1]))
    classifier.save(tmp_path / "classifier.keras")
    loaded = keras.models.load_model(tmp_path / "classifier.keras")
    assert [v.path for v in loaded.trainable_weights] == ["head/kernel", "head/bias"]
    ours, theirs = ([np.array(v) for v in model.optimizer.variables] for model in (classifier, loaded))
    for one, other in zip(ours, theirs, strict=True):
        assert_array_equal(one, other)


@pytest.mark.parametrize("compiled", [False, True])
def test_keras_files_keep_weights_and_training_in_safe_mode(tmp_path, compiled):
    classifier = build(task="multi_label", dropout=0.2, pooling="mean_max")
    audio = song(2.0).reshape(2, 8000)
    if compiled:
        classifier.compile(keras.optimizers.Adam(0.01))
        classifier.fit(audio, np.eye(3)[:2], verbose=0)
    classifier.save(tmp_path / "classifier.keras")
    loaded = keras.models.load_model(tmp_path / "classifier.keras", safe_mode=True)
    assert type(loaded) is Classifier
    assert_array_equal(loaded.predict_on_batch(audio), classifier.predict_on_batch(audio))
    assert loaded.classify(audio[0], SAMPLE_RATE).labels == ("a", "b", "c")
    assert loaded.compiled == compiled
    if compiled:
        assert int(loaded.optimizer.iterations) == 1
        assert loaded.jit_compile == classifier.jit_compile
        loaded.fit(audio, np.eye(3)[:2], verbose=0)


def test_set_tensors_sets_all_or_nothing(small_classifier):
    classifier = build(seed=1)
    before = classifier.tensors()
    wrong = small_classifier.tensors() | {"head.kernel": np.zeros((8, 4)), "head.gamma": np.zeros(4)}
    del wrong["backbone.stem_conv.kernel"]
    with pytest.raises(PresetError) as caught:
        classifier.set_tensors(wrong)
    for part in (
        "missing: backbone.stem_conv.kernel",
        "head.gamma",
        r"head.kernel (expected (8, 3), got (8, 4))",
    ):
        assert part in str(caught.value)
    assert all((before[name] == value).all() for name, value in classifier.tensors().items())

    doubles = {name: value.astype(np.float64) for name, value in small_classifier.tensors().items()}
    classifier.set_tensors(doubles)
    for name, value in small_classifier.tensors().items():
        assert_array_equal(classifier.tensors()[name], value)


def test_set_tensors_of_some_parts_leaves_the_others(small_classifier):
    classifier = build(seed=1)
    before = classifier.tensors()
    classifier.set_tensors(small_classifier.tensors(), parts=["backbone"])
    after = classifier.tensors()
    assert_array_equal(after["head.kernel"], before["head.kernel"])
    assert_array_equal(
        after["backbone.stem_conv.kernel"], small_classifier.tensors()["backbone.stem_conv.kernel"]
    )
    with pytest.raises(ValueError, match="got backbones"):
        classifier.set_tensors(before, parts=["backbones"])


def test_tensors_are_copies():
    classifier = build()
    tensors = classifier.tensors()
    kept = {name: value.copy() for name, value in tensors.items()}
    classifier.compile(keras.optimizers.SGD(0.1))
    classifier.train_on_batch(song(2.0).reshape(2, 8000), np.array([0, 1]))
    assert all((tensors[name] == kept[name]).all() for name in kept)
    given = build(seed=1).tensors()
    classifier.set_tensors(given)
    assert all((tensors[name] == kept[name]).all() for name in kept)
    for value in given.values():
        value[...] = 0
    assert all(value.any() for value in classifier.tensors().values())


# ---- presets -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def preset(small_classifier, tmp_path_factory):
    folder = tmp_path_factory.mktemp("presets") / "small"
    small_classifier.save_preset(folder)
    return folder


def test_a_saved_preset_loads_and_keeps_the_contract(small_classifier, preset):
    loaded = check_preset(preset)
    for name, value in small_classifier.tensors().items():
        assert_array_equal(loaded.tensors()[name], value)


def test_own_labels_give_a_fresh_head_on_the_trained_backbone(small_classifier, preset):
    trained = small_classifier.tensors()
    for classifier, labels, task in (
        (music_zoo.load(preset, labels=["x", "y"]), ("x", "y"), "single_label"),
        (
            music_zoo.load(preset, num_classes=4, task="multi_label"),
            tuple(f"class_{i}" for i in range(4)),
            "multi_label",
        ),
    ):
        assert (classifier.labels, classifier.task) == (labels, task)
        tensors = classifier.tensors()
        assert tensors["head.kernel"].shape == (8, len(labels))
        assert tensors["calibrator.temperature"] == 1 and not tensors["head.bias"].any()
        for name in trained:
            if name.startswith("backbone."):
                assert_array_equal(tensors[name], trained[name])
        assert classifier.classify(song(1.0), SAMPLE_RATE).probabilities.shape == (len(labels),)
    assert music_zoo.load(preset, labels=["a", "b", "c"]).tensors()["calibrator.temperature"] == 1


def test_wrong_labels_are_no_fault_of_the_preset(preset):
    with pytest.raises(ValueError, match="repeated"):
        music_zoo.load(preset, labels=["x", "x"])
    with pytest.raises(ValueError, match="single_label, multi_label"):
        music_zoo.load(preset, num_classes=3, task="clustering")


def edited(config: dict, *path, value) -> dict:
    """The config with one value changed."""
    config = json.loads(json.dumps(config))
    inner = config
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return config


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("backbone", "architecture"), "os.system", "Unknown architecture 'os.system'"),
        (("backbone",), "ResNet", "describes no classifier"),
        (("backbone",), {"architecture": "ResNet"}, "'config'"),
        (("backbone", "config", "depth"), 3, "depth"),
        (("front_end", "layers", 0, "layer"), "Lambda", "'Lambda', which is none of"),
        (("front_end",), {}, "'sample_rate' and 'layers'"),
        (("labels",), 3, "describes no classifier"),
        (("window",), "1", "describes no classifier"),
        (("window",), 1e400, "got inf s"),
        (("widow",), 1.0, "widow"),
    ],
)
def test_a_config_that_describes_no_classifier(small_classifier, tmp_path, path, value, message):
    config = edited(small_classifier.get_config(), *path, value=value)
    with pytest.raises(PresetError, match=message):
        Classifier.from_preset_files(PresetFiles({"classifier": config}, small_classifier.tensors(), None))


def test_a_preset_file_without_classifier_or_with_foreign_weights(small_classifier):
    with pytest.raises(PresetError, match="describes no classifier"):
        Classifier.from_preset_files(PresetFiles({}, {}, None))
    with pytest.raises(PresetError, match="missing"):
        Classifier.from_preset_files(PresetFiles({"classifier": small_classifier.get_config()}, {}, None))
