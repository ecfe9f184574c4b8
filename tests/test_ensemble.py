"""An ensemble is the mean of its members, calibrated where it says, and goes through files as they do."""

import itertools
import json

import keras
import numpy as np
import pytest
from contracts import check_examples_are_independent, check_preset
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import expit, logit, softmax
from small import SAMPLE_RATE, SMALL_RESNET, small_front_end, song
from small import small_classifier as build
from typer.testing import CliRunner

import music_zoo
from music_zoo import Classifier, Ensemble, PresetError, cli
from music_zoo.calibration import fit_temperature
from music_zoo.explain import explain
from music_zoo.hub.preset_files import PresetFiles
from music_zoo.layers import STFT, FrontEnd, HarmonicFilterBank
from music_zoo.models import HarmonicCNN, ResNet

pytestmark = pytest.mark.keras

WINDOWS = song(3.0).reshape(3, 8000)
TASKS = ("single_label", "multi_label")
ACTIVATIONS = {"single_label": lambda z: softmax(z, axis=-1), "multi_label": expit}


def ensemble_of(task: str = "single_label", calibrate_on: str = "members", temperature: float = 2.5):
    """Two members of different weights, with temperatures of their own."""
    members = [build(seed=seed, task=task, name=f"run-{seed}") for seed in (0, 1)]
    ensemble = Ensemble(members, calibrate_on=calibrate_on)
    ensemble.calibrator.temperature.assign(temperature)
    return ensemble


@pytest.fixture(scope="module")
def ensemble():
    """Shared, so tests leave its weights alone."""
    return ensemble_of()


@pytest.fixture(scope="module", params=itertools.product(TASKS, ["members", "mean"]), ids="-".join)
def each(request):
    """An ensemble of each task and place of the calibrator, of which tests change only the temperature."""
    return ensemble_of(*request.param)


def member_logits(ensemble: Ensemble) -> np.ndarray:
    """`(members, 3, classes)` float64, from each member alone."""
    logits = [member.view("waveform", "logits").predict_on_batch(WINDOWS) for member in ensemble.members]
    return np.float64(logits)


# ---- what it computes --------------------------------------------------------------------------------------


def test_probabilities_are_the_mean_of_posteriors_calibrated_where_it_says(each):
    activation = ACTIVATIONS[each.task]
    logits = member_logits(each)
    mean = activation(logits).mean(axis=0)
    each.calibrator.temperature.assign(1)
    assert_allclose(each.predict_on_batch(WINDOWS), mean, atol=1e-6)
    each.calibrator.temperature.assign(2.5)
    pooled = np.log(mean) if each.task == "single_label" else logit(mean)
    expected = {"members": activation(logits / 2.5).mean(axis=0), "mean": activation(pooled / 2.5)}
    assert np.abs(expected["members"] - expected["mean"]).max() > 1e-3  # else either would do
    assert_allclose(each.predict_on_batch(WINDOWS), expected[each.calibrate_on], atol=1e-6)

    stacked = each.view("waveform", "logits").predict_on_batch(WINDOWS)
    assert_allclose(stacked, logits.swapaxes(0, 1), atol=1e-5)
    got = each.probabilities_of(stacked)
    assert got.dtype == np.float32
    assert_allclose(got, expected[each.calibrate_on], atol=1e-6)
    assert_allclose(each.probabilities_of(stacked[0]), got[0], atol=1e-6)
    assert_allclose(each.probabilities_of(stacked, calibrated=False), mean, atol=1e-6)


@pytest.mark.parametrize("calibrate_on", ["members", "mean"])
def test_an_ensemble_of_one_is_the_classifier(small_classifier, calibrate_on):
    ensemble = Ensemble([small_classifier], calibrate_on=calibrate_on)
    ensemble.calibrator.temperature.assign(float(small_classifier.calibrator.temperature))
    for outputs in ("features", "embedding", "probabilities"):
        expected = small_classifier.view("waveform", outputs).predict_on_batch(WINDOWS)
        assert_allclose(
            ensemble.view("waveform", outputs).predict_on_batch(WINDOWS), expected, atol=1e-6, err_msg=outputs
        )
    logits = small_classifier.view("waveform", "logits").predict_on_batch(WINDOWS)
    for calibrated in (True, False):
        expected = small_classifier.probabilities_of(logits, calibrated)
        assert_allclose(ensemble.probabilities_of(logits[:, None], calibrated), expected, atol=1e-6)


def test_views_join_up_and_embeddings_lie_side_by_side(ensemble):
    views = [member.view("waveform", "embedding") for member in ensemble.members]
    expected = np.concatenate([view.predict_on_batch(WINDOWS) for view in views], axis=1)
    assert_allclose(ensemble.view("waveform", "embedding").predict_on_batch(WINDOWS), expected, atol=1e-6)
    features = ensemble.view("waveform", "features").predict_on_batch(WINDOWS)
    whole = ensemble.predict_on_batch(WINDOWS)
    assert_allclose(ensemble.features_model.predict_on_batch(features), whole, atol=1e-6)
    assert ensemble.features_model.predict_on_batch(features[:, :, :20]).shape == (3, 3)
    check_examples_are_independent(ensemble, WINDOWS)


def test_certain_members_leave_finite_logits_to_calibrate(each):
    logits = np.float32([[[300, 0, -300], [200, 0, -400]]])  # posteriors of 1 and 0 in float32
    if each.calibrate_on == "members":
        expected = logits
    elif each.task == "single_label":
        expected = [[0, -200 - np.log(2), -600]]
    else:  # as far from certainty as the less certain member allows
        expected = [[200 + np.log(2), 0, -300 - np.log(2)]]
    assert_allclose(each.calibration_logits(logits), expected, rtol=1e-6)


def test_the_temperature_that_calibration_logits_give_is_the_most_likely(each):
    rng = np.random.default_rng(0)
    classes = rng.integers(3, size=60)
    logits = (3 * rng.normal(size=(60, 2, 3)) + 3 * np.eye(3)[classes][:, None]).astype(np.float32)
    targets = classes if each.task == "single_label" else np.eye(3)[classes]

    def nll(temperature: float) -> float:
        each.calibrator.temperature.assign(temperature)
        probabilities = each.probabilities_of(logits)
        truth = np.where(np.eye(3)[classes], probabilities, 1 - probabilities)
        return -np.log(truth[np.arange(60), classes] if each.task == "single_label" else truth).mean()

    seen = each.calibration_logits(logits)
    best = fit_temperature(seen, targets, each.task)
    assert nll(best) < min(nll(1.0), nll(best * 1.1), nll(best / 1.1))


def test_calibrators_of_members_do_not_act(ensemble):
    before = ensemble.predict_on_batch(WINDOWS)
    temperature = ensemble.members[0].calibrator.temperature
    kept = float(temperature)
    temperature.assign(50.0)
    assert_array_equal(ensemble.predict_on_batch(WINDOWS), before)
    temperature.assign(kept)


# ---- audio -------------------------------------------------------------------------------------------------


def test_audio_of_any_length(ensemble, write_wav):
    path = write_wav("song.wav", song(2.5))
    prediction = ensemble.classify(path)
    windows = np.stack([song(2.5)[start : start + 8000] for start in (0, 8000, 12000)])
    assert_allclose(prediction.taggram, ensemble.predict_on_batch(windows), atol=1e-6)
    assert (prediction.model, prediction.labels) == ("ensemble", ("a", "b", "c"))
    (again,) = ensemble.classify_many([(song(2.5), SAMPLE_RATE)])
    assert_allclose(again.probabilities, prediction.probabilities, atol=1e-5)
    assert ensemble.embed(path).shape == (3, 16)


# ---- members that do not go together -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"labels": ["a", "b", "d"]}, r"labels of member 0 is \['a', 'b', 'c'\], that of member 1 is"),
        ({"labels": ["b", "a", "c"]}, "labels of member 0"),
        ({"task": "multi_label"}, "task of member 0 is single_label, that of member 1 is multi_label"),
        ({"window": 0.5}, "window of member 0 is 1.0, that of member 1 is 0.5"),
        ({"sample_rate": 16000, "window": 1.0}, "front_end of member 0"),
    ],
)
def test_members_that_differ_are_refused(small_classifier, other, message):
    with pytest.raises(ValueError, match=message):
        Ensemble([small_classifier, build(**other)])


def test_other_members_that_cannot_be(small_classifier, ensemble):
    with pytest.raises(ValueError, match="needs members"):
        Ensemble([])
    with pytest.raises(ValueError, match="member 1 is a Ensemble"):
        Ensemble([small_classifier, ensemble])
    with pytest.raises(ValueError, match="'members' or 'mean', got 'logits'"):
        Ensemble([small_classifier], calibrate_on="logits")
    layers = [STFT(256, 128), HarmonicFilterBank(SAMPLE_RATE, 256, 2, 1)]
    small = {"n_harmonics": 2, "levels": 71, "widths": (4, 4, 6), "pools": ((2, 2), (2, 2), (2, 3))}
    harmonic = Classifier(
        FrontEnd(layers, SAMPLE_RATE), HarmonicCNN(**small), list("ab"), window=1.0, pooling="none"
    )
    with pytest.raises(ValueError, match=r"member 0 is trained with its network \(.*quality\)"):
        Ensemble([harmonic, harmonic])


def test_an_ensemble_cannot_be_explained(ensemble):
    with pytest.raises(ValueError, match="the backbone of ensemble is 2 x ResNet"):
        explain(ensemble, song(1.0), SAMPLE_RATE)


# ---- training ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("task", "calibrate_on"), [("single_label", "mean"), ("multi_label", "members")])
def test_a_step_of_training_moves_every_weight_of_every_member(task, calibrate_on):
    ensemble = ensemble_of(task, calibrate_on)
    targets = np.array([0, 1, 2]) if task == "single_label" else np.eye(3)
    before = ensemble.tensors()
    ensemble.compile(keras.optimizers.SGD(1.0))
    ensemble.fit(WINDOWS, targets, verbose=0)
    after = ensemble.tensors()
    assert all(np.isfinite(value).all() for value in after.values())
    unmoved = {name for name in before if (before[name] == after[name]).all()}
    assert unmoved == {f"{owner}calibrator.temperature" for owner in ("", "member0.", "member1.")}


def test_to_fit_a_member_changes_the_ensemble_and_a_keras_file_keeps_it(tmp_path):
    ensemble = ensemble_of()
    before, tensors = ensemble.predict_on_batch(WINDOWS), ensemble.tensors()
    member = ensemble.members[1]
    member.compile(keras.optimizers.SGD(1.0))
    member.fit(WINDOWS, np.array([0, 1, 2]), verbose=0)
    after = ensemble.predict_on_batch(WINDOWS)
    assert np.abs(after - before).max() > 1e-3
    assert_allclose(after, softmax(member_logits(ensemble) / 2.5, axis=-1).mean(axis=0), atol=1e-6)
    assert all((ensemble.tensors()[name] == tensors[name]).all() for name in tensors if "member1" not in name)

    ensemble.members[0].backbone.trainable = False
    ensemble.compile(keras.optimizers.Adam(0.01))  # members together, after one alone
    ensemble.fit(WINDOWS, np.array([0, 1, 2]), verbose=0)
    ensemble.save(tmp_path / "ensemble.keras")
    loaded = keras.models.load_model(tmp_path / "ensemble.keras", safe_mode=True)
    assert type(loaded) is Ensemble
    assert_array_equal(loaded.predict_on_batch(WINDOWS), ensemble.predict_on_batch(WINDOWS))
    for ours, theirs in zip(ensemble.members, loaded.members, strict=True):
        assert_array_equal(theirs.predict_on_batch(WINDOWS), ours.predict_on_batch(WINDOWS))
    assert not loaded.members[0].backbone.trainable and int(loaded.optimizer.iterations) == 1
    assert len(loaded.trainable_weights) == len(ensemble.trainable_weights) > 0
    loaded.fit(WINDOWS, np.array([0, 1, 2]), verbose=0)


# ---- files -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def preset(ensemble, tmp_path_factory):
    folder = tmp_path_factory.mktemp("presets") / "pair"
    ensemble.save_preset(folder)
    return folder


def test_a_saved_preset_loads_and_keeps_the_contract(ensemble, preset):
    loaded = check_preset(preset)
    assert type(loaded) is Ensemble
    assert json.loads((preset / "config.json").read_text())["kind"] == "ensemble"
    tensors = loaded.tensors()
    assert {name.split(".")[0] for name in tensors} == {"member0", "member1", "calibrator"}
    for name, value in ensemble.tensors().items():
        assert_array_equal(tensors[name], value)
    for ours, theirs in zip(ensemble.members, loaded.members, strict=True):
        assert ours.name == theirs.name
        assert_array_equal(theirs.predict_on_batch(WINDOWS), ours.predict_on_batch(WINDOWS))


def test_own_labels_give_fresh_heads_on_the_trained_backbones(ensemble, preset):
    loaded = music_zoo.load(preset, labels=["x", "y"], task="multi_label")
    assert (loaded.labels, loaded.task) == (("x", "y"), "multi_label")
    tensors, trained = loaded.tensors(), ensemble.tensors()
    for name, value in tensors.items():
        if "backbone" in name:
            assert_array_equal(value, trained[name])
        elif name.endswith("kernel"):
            assert value.shape == (8, 2)
        elif name.endswith("temperature"):
            assert value == 1
    assert (tensors["member0.head.kernel"] != tensors["member1.head.kernel"]).any()
    assert loaded.classify(song(1.0), SAMPLE_RATE).probabilities.shape == (2,)


def test_members_of_other_backbones(tmp_path):
    wide = ResNet(**SMALL_RESNET | {"widths": (4, 12)})
    members = [build(), Classifier(small_front_end(), wide, ["a", "b", "c"], window=1.0, pooling="mean_max")]
    ensemble = Ensemble(members, calibrate_on="mean", name="mixed")
    assert ensemble.embed(song(1.0), SAMPLE_RATE).shape == (1, 8 + 24)
    ensemble.save_preset(tmp_path / "mixed")
    loaded = check_preset(tmp_path / "mixed")
    assert (loaded.calibrate_on, loaded.members[1].pooling.mode) == ("mean", "mean_max")


def test_parts_of_members_can_be_set_alone(ensemble, preset):
    loaded, tensors = music_zoo.load(preset), ensemble.tensors()
    loaded.set_tensors({name: value + 1 for name, value in tensors.items()}, parts=["member1.head"])
    changed = {name for name, value in loaded.tensors().items() if (value != tensors[name]).any()}
    assert changed == {"member1.head.kernel", "member1.head.bias"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"members": []}, "describes no ensemble.*needs members"),
        ({"members": ["resnet"]}, "describes no ensemble"),
        ({"members": None}, "describes no ensemble"),
        ({"calibrate_on": "logits"}, "'members' or 'mean'"),
        ({"task": "clustering"}, "single_label, multi_label"),
    ],
)
def test_a_config_that_describes_no_ensemble(ensemble, change, message):
    files = PresetFiles({"kind": "ensemble", "ensemble": ensemble.get_config() | change}, {}, None)
    with pytest.raises(PresetError, match=message):
        Ensemble.from_preset_files(files)


@pytest.mark.parametrize("kind", ["committee", ["ensemble"], None])
def test_a_preset_of_unknown_kind(ensemble, preset, tmp_path, kind):
    folder = tmp_path / "unknown"
    folder.mkdir()
    for file in preset.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"kind": kind}))
    with pytest.raises(PresetError, match="expected a preset of kind classifier or ensemble, found"):
        music_zoo.load(folder)


def test_the_command_line_takes_an_ensemble(preset, write_wav, tmp_path):
    path = write_wav("song.wav", song(2.0))
    picture = tmp_path / "taggram.png"
    result = CliRunner().invoke(
        cli.app, ["tag", str(path), "--model", str(preset), "--taggram", str(picture), "--json"]
    )
    assert result.exit_code == 0, result.output
    record = json.loads(result.stdout.splitlines()[0])
    assert record["model"] == "ensemble"
    assert sum(record["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    assert picture.stat().st_size > 0
