"""Recipes, followed from data to preset."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import music_zoo
from music_zoo import cli
from music_zoo.errors import DatasetError, PretrainingError, RecipeError

# What is learnt in seconds is nothing, or all of it.
pytestmark = [
    pytest.mark.keras,
    pytest.mark.filterwarnings("ignore:The held-out files determine no temperature"),
    pytest.mark.filterwarnings("ignore:Too few"),
]

RECIPES = sorted((Path(__file__).parents[2] / "examples" / "recipes").rglob("*.yaml"))
RESNET = {"stem_width": 2, "widths": [4], "blocks": [1]}


@pytest.fixture
def folders(log_mel_folder, gtzan_folder, notes_folder) -> dict[str, Path]:
    return {"fma-small": log_mel_folder, "gtzan": gtzan_folder, "nsynth": notes_folder}


@pytest.fixture
def toy():
    """A recipe of a small network."""
    from music_zoo.training.recipe import Recipe

    def make(**settings) -> Recipe:
        fit = {"epochs": 2, "batch_size": 20, "warmup_epochs": 0, "crop": 16}
        plain = {"preset": "toy", "data": "fma-small", "encoder": "resnet-compact", "encoder_options": RESNET}
        return Recipe(**plain | {"fit": fit, "min_tag_tracks": 10} | settings)

    return make


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_rehearsal_of_every_recipe(only_on_torch, path, folders, tmp_path):
    from music_zoo.training.recipe import read_recipe

    recipe, output = read_recipe(path), tmp_path / path.stem
    command = ["train", path, "--data", folders[recipe.data], "--output", output, "--scale", "smoke"]
    result = CliRunner().invoke(cli.app, [str(part) for part in command])
    if result.exception:
        raise result.exception
    assert f"wrote {output / 'preset'}: validation " in result.output
    model = music_zoo.load(output / "preset")
    tags = {"fma-small": ("Bright", "Dark"), "nsynth": ("bright", "dark", "percussive")}
    labels = {"fma-small": ("Bright", "Dark"), "gtzan": ("blues", "disco"), "nsynth": ("flute", "organ")}
    assert model.name == path.stem
    assert model.labels == (tags if recipe.target == "tags" else labels)[recipe.data]
    assert model.task == ("multi_label" if recipe.target == "tags" else "single_label")
    for log in output.glob("**/fit-*/log.csv"):
        with log.open(newline="") as file:
            (row,) = csv.DictReader(file)
        assert float(row["val_nll"] if "val_nll" in row else row["loss"]) > 0


def test_a_run_that_was_interrupted_equals_one_that_was_not(toy, log_mel_folder, tmp_path):
    import keras

    from music_zoo.training.run import train

    fit = {"epochs": 3, "batch_size": 10, "crop": 16, "teacher": "vggish", "tags": True, "labels": 0.5}
    recipe = toy(fit=fit)
    lines = []

    class Stop(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(recipe, log_mel_folder, tmp_path / "parts", callbacks=(Stop(),))
    parts = train(recipe, log_mel_folder, tmp_path / "parts", lines.append)
    whole = train(recipe, log_mel_folder, tmp_path / "whole", lambda _: None)
    assert f"taking up {tmp_path / 'parts' / 'fit-0'} after epoch 1 of 3" in lines
    for name, value in whole.tensors().items():
        np.testing.assert_allclose(parts.tensors()[name], value, rtol=1e-5, atol=1e-6)
    lines_of_log = (tmp_path / "parts/fit-0/log.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines_of_log] == ["epoch", "1", "2", "3"]

    before = (tmp_path / "parts/fit-0/checkpoint.safetensors").stat().st_mtime_ns
    train(recipe, log_mel_folder, tmp_path / "parts", lines.append)  # finished: nothing is trained
    assert (tmp_path / "parts/fit-0/checkpoint.safetensors").stat().st_mtime_ns == before
    with pytest.raises(PretrainingError, match="a run with other settings .*'epochs': 3.*'epochs': 4"):
        train(toy(fit=fit | {"epochs": 4}), log_mel_folder, tmp_path / "parts", lines.append)


def test_a_frozen_network_gets_the_head_of_a_linear_probe(toy, log_mel_folder, tmp_path):
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    from music_zoo.datasets import dequantize, read_fma_small
    from music_zoo.training.run import train

    train(toy(), log_mel_folder, tmp_path / "first", lambda _: None)
    lines = []
    recipe = toy(preset="probed", start="first", fit={"frozen": True})
    model = train(recipe, log_mel_folder, tmp_path / "probed", lines.append)
    started = music_zoo.load(tmp_path / "first" / "preset").tensors()
    for name, value in model.tensors().items():
        if name.startswith("backbone."):
            np.testing.assert_array_equal(value, started[name])
    (chosen,) = [line for line in lines if line.startswith("linear probe on 40 recordings, C = ")]
    dataset = read_fma_small(log_mel_folder)
    (train_x, train_y), (x, _) = (
        (model.view("features", "embedding").predict(dequantize(part.features), verbose=0), part.targets)
        for part in (dataset.split("train"), dataset.split("validation"))
    )
    scaler = StandardScaler().fit(train_x)
    regression = LogisticRegression(C=float(chosen.split("=")[1]), max_iter=5000)
    regression.fit(scaler.transform(train_x), train_y)
    features = dequantize(dataset.split("validation").features)
    logits = model.view("features", "logits").predict(features, verbose=0)
    found = model.probabilities_of(logits, calibrated=False)
    np.testing.assert_allclose(found, regression.predict_proba(scaler.transform(x)), atol=0.01)


def test_a_model_teaches_what_it_says_of_each_example(toy, log_mel_folder, notes_folder, tmp_path):
    from music_zoo.training.run import Run, train

    teacher = train(toy(), log_mel_folder, tmp_path / "teacher", lambda _: None)
    fit = {"epochs": 2, "batch_size": 20, "warmup_epochs": 0, "crop": 16, "teacher": "teacher"}
    student = train(toy(preset="student", fit=fit), log_mel_folder, tmp_path / "student", lambda _: None)
    assert student.labels == teacher.labels

    run = Run(toy(fit=fit), log_mel_folder, tmp_path / "student", lambda _: None, (), None)
    run.labels = run.labels[::-1]  # a teacher may have them in another order
    examples = np.random.default_rng(0).random((3, 128, 20), dtype=np.float32)
    (teach,) = run.taught(run.recipe.fit[0])
    expected = teacher.view("features", "probabilities").predict(examples, verbose=0)
    np.testing.assert_allclose(teach(examples), expected[:, ::-1], atol=1e-5)
    several = fit | {"teacher": ["vggish", "teacher"], "drawn_epochs": 1}
    train(toy(preset="both", fit=several), log_mel_folder, tmp_path / "both", lambda _: None)
    with pytest.raises(RecipeError, match="toy needs nobody"):
        train(toy(fit=fit | {"teacher": "nobody"}), log_mel_folder, tmp_path / "run")
    with pytest.raises(RecipeError, match="has other labels than toy would have"):
        train(toy(target="tags", fit=fit), log_mel_folder, tmp_path / "run")
    with pytest.raises(RecipeError, match="a model teaches stored features only, and .* is audio"):
        waves = {"encoder": "sample-cnn", "sample_rate": 16_000, "window": 0.1}
        train(toy(data="nsynth", fit=fit, **waves), notes_folder, tmp_path / "run")


def test_of_several_fits_the_best_on_the_validation_split_is_kept(toy, log_mel_folder, tmp_path):
    from music_zoo.training.run import train

    fits = [{"frozen": True}, {"epochs": 1, "batch_size": 20, "warmup_epochs": 0, "learning_rate": 1e-9}]
    lines = []
    for metric, better in (("nll", min), ("mae", min), ("accuracy", max)):
        output = tmp_path / "run"
        model = train(toy(fit=fits, evaluation=[metric]), log_mel_folder, output, lines.append)
        scores = [
            json.loads((output / f"fit-{number}" / "result.json").read_text())["validation"][metric]
            for number in (0, 1)
        ]
        kept = scores.index(better(scores))
        assert f"fit-{kept} is kept: it has the best {metric} on the validation split" in lines
        for name, value in music_zoo.load(output / f"fit-{kept}" / "preset").tensors().items():
            np.testing.assert_array_equal(model.tensors()[name], value)
            np.testing.assert_array_equal(music_zoo.load(output / "preset").tensors()[name], value)
    # Behind a frozen fit training goes on from its head: here it changes next to nothing.
    heads = [
        music_zoo.load(output / f"fit-{number}" / "preset").tensors()["head.kernel"] for number in (0, 1)
    ]
    np.testing.assert_allclose(*heads, atol=1e-5)


def test_members_are_trained_alone_or_together(toy, log_mel_folder, tmp_path):
    from music_zoo.training.run import train

    recipe = toy(members=2, seed=3, fit={"epochs": 1, "batch_size": 20, "warmup_epochs": 0, "crop": 8})
    run, lines = tmp_path / "toys", []
    alone = train(recipe, log_mel_folder, run, lines.append, member=1)
    assert not (run / "preset").exists() and not (run / "member-0").exists()
    ensemble = train(recipe, log_mel_folder, run, lines.append)
    assert (ensemble.name, ensemble.calibrate_on) == ("toy", "mean")
    assert any(line.startswith("calibrated on members: validation accuracy") for line in lines)
    for name, value in alone.tensors().items():
        np.testing.assert_array_equal(ensemble.members[1].tensors()[name], value)
    single = train(toy(fit=recipe.fit, seed=4), log_mel_folder, tmp_path / "single", lines.append)
    for name, value in alone.tensors().items():
        np.testing.assert_allclose(single.tensors()[name], value, rtol=1e-5, atol=1e-6)

    again = toy(preset="again", members=3, start="toys", fit={"frozen": True})
    begun = train(again, log_mel_folder, tmp_path / "again", lines.append)
    for member, before in zip(begun.members, (0, 1, 0), strict=True):
        for name, value in ensemble.members[before].tensors().items():
            if name.startswith("backbone."):
                np.testing.assert_array_equal(member.tensors()[name], value)


def test_qualities_of_notes_are_learned_calibrated_and_evaluated(toy, notes_folder, tmp_path):
    from sklearn.metrics import roc_auc_score

    from music_zoo.datasets import open_dataset
    from music_zoo.evaluation.evaluate import evaluate
    from music_zoo.training.run import train

    front_end = {
        "sample_rate": 16_000,
        "layers": [
            {"layer": "STFT", "config": {"n_fft": 512, "hop_length": 256}},
            {"layer": "MelFilterBank", "config": {"sample_rate": 16_000, "n_fft": 512, "n_mels": 32}},
            {"layer": "Decibels", "config": {"ref": "max"}},
            {"layer": "MinMaxNormalization"},
        ],
    }
    recipe = toy(
        data="nsynth",
        target="tags",
        min_tag_tracks=1,
        front_end=front_end,
        seconds=0.25,
        encoder_options=RESNET | {"n_mels": 32},
        fit={"frozen": True},
        calibrator="vector",
    )
    model = train(recipe, notes_folder, tmp_path / "run", lambda _: None)
    assert (model.task, model.labels, model.calibrator.kind) == (
        "multi_label",
        ("bright", "dark", "percussive"),
        "vector",
    )
    found = evaluate(model, open_dataset(notes_folder), "validation")
    paths, _, ids = open_dataset(notes_folder).split("validation")
    truth = [["flute" in id_, "organ" in id_, int(id_.rsplit("-")[-1]) % 2] for id_ in ids]
    probabilities = [prediction.probabilities for prediction in model.classify_many(paths)]
    assert found.metrics["roc_auc"] == pytest.approx(roc_auc_score(truth, probabilities), abs=0.02)
    assert found.metrics["roc_auc"] > 0.6  # noise and tones are told apart by anything


def test_a_network_of_waveforms_is_trained_on_files(toy, notes_folder, tmp_path, monkeypatch):
    from music_zoo.models import SampleCNN
    from music_zoo.training.run import train

    monkeypatch.setattr(SampleCNN, "xla_on_tensorflow", False)  # compiles for longer than it runs
    recipe = toy(
        data="nsynth",
        encoder="sample-cnn",
        encoder_options={"widths": [4] * 5},
        sample_rate=16_000,
        window=0.1,
        fit={"epochs": 1, "batch_size": 10, "warmup_epochs": 0},
    )
    model = train(recipe, notes_folder, tmp_path / "run", lambda _: None)
    assert (model.window, model.sample_rate, model.labels) == (0.1, 16_000, ("flute", "organ"))
    (log,) = csv.DictReader((tmp_path / "run/fit-0/log.csv").read_text().splitlines())
    assert 0 <= float(log["val_accuracy"]) <= 1


def test_a_share_of_the_labels_is_drawn_from_each_class(toy, log_mel_folder, tmp_path):
    from music_zoo.training.run import Run

    recipe = toy(fit={"frozen": True, "labels": 0.25})
    run = Run(recipe, log_mel_folder, tmp_path, print, (), None)
    rows, targets = run.rows(recipe.fit[0], run.new(), 0)
    assert np.bincount(targets).tolist() == [5, 5] and len(set(rows)) == 10
    assert rows.tolist() != run.rows(recipe.fit[0], run.new(), 1)[0].tolist()
    rest = recipe.fit[0].model_copy(update={"unlabelled": True})
    every, again = run.rows(rest, run.new(), 0)
    assert every[:10].tolist() == rows.tolist() and sorted(every) == list(range(40))
    assert again.tolist() == targets.tolist()  # of the others there are none


def test_without_labels_a_backbone_learns_for_the_sections_behind_it(toy, log_mel_folder, tmp_path):
    from music_zoo.training.run import train

    short = {"epochs": 1, "batch_size": 20, "warmup_epochs": 0, "crop": 16}
    fits = [
        short | {"labels": 0, "teacher": "vggish"},
        {"frozen": True},
        short | {"learning_rate": 1e-9},
    ]
    lines = []

    def parts(run: Path, part: str) -> list[dict]:
        found = [music_zoo.load(run / f"fit-{number}" / "preset").tensors() for number in range(len(fits))]
        return [{name: v for name, v in each.items() if name.startswith(part)} for each in found]

    train(toy(fit=fits), log_mel_folder, tmp_path / "run", lines.append)
    first, *rest = parts(tmp_path / "run", "backbone.")
    for each in rest:
        for name, value in first.items():
            if "moving" not in name:
                np.testing.assert_allclose(each[name], value, atol=1e-6)
    _, probe, behind = (each["head.kernel"] for each in parts(tmp_path / "run", "head."))
    np.testing.assert_allclose(behind, probe, atol=1e-6)
    assert not any("fit-0" in line and "validation" in line for line in lines)
    (log,) = csv.DictReader((tmp_path / "run/fit-0/log.csv").read_text().splitlines())
    assert 0 <= float(log["knn_accuracy"]) <= 1 and float(log["loss"]) > 0

    # It reads no labels: with others it learns the same.
    tracks = shutil.copytree(log_mel_folder, tmp_path / log_mel_folder.name) / "tracks.csv"
    rows = list(csv.DictReader(tracks.read_text().splitlines()))
    for row in rows:
        row["genre"] = "Bright" if int(row["track_id"]) % 3 else "Dark"
    with tracks.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    train(toy(fit=fits[:2]), tracks.parent, tmp_path / "other", lines.append)
    again = music_zoo.load(tmp_path / "other/fit-0/preset").tensors()
    for name, value in first.items():
        np.testing.assert_allclose(again[name], value, rtol=1e-5, atol=1e-6)


def test_what_cannot_be_followed_is_told(toy, log_mel_folder, gtzan_folder, tmp_path):
    from music_zoo.training.run import train

    with pytest.raises(DatasetError, match="toy learns from fma-small; .* holds gtzan"):
        train(toy(), gtzan_folder, tmp_path)
    with pytest.raises(RecipeError, match=r"toy needs other: train it beside .*, as .*other, first"):
        train(toy(start="other"), log_mel_folder, tmp_path / "run")
    with pytest.raises(DatasetError, match="no tag that 30 training recordings have"):
        train(toy(target="tags", min_tag_tracks=30), log_mel_folder, tmp_path / "run")
    with pytest.raises(RecipeError, match="evaluation: there is no metric f1; expected some of accuracy, "):
        train(toy(fit={"frozen": True}, evaluation=["f1"]), log_mel_folder, tmp_path / "run")
    with pytest.raises(DatasetError, match="expected a batch of 1 to 40 examples"):
        train(toy(fit={"batch_size": 50, "epochs": 1}), log_mel_folder, tmp_path / "run")
