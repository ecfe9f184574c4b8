"""Every script in examples/ runs, on small data made here."""

import functools
import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml

import music_zoo
from music_zoo.hub.manifest import read_manifest

EXAMPLES = Path(__file__).parents[1] / "examples"


def script(name: str):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_script_is_tested():
    tested = Path(__file__).read_text()
    assert all(f'script("{path.stem}")' in tested for path in EXAMPLES.glob("*.py"))


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.stem)
def test_settings_of_pretraining_are_valid(path):
    from music_zoo.pretraining.run import new_classifier
    from music_zoo.pretraining.settings import Settings

    settings = Settings.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    encoder = new_classifier(
        settings.encoder,
        None,
        "encoder",
        settings.encoder_options,
        sample_rate=settings.sample_rate,
        window=settings.segment,
    )
    assert encoder.window == settings.segment


def test_demo_song_is_the_one_that_the_repository_ships(tmp_path):
    script("make_demo_song").main(str(tmp_path / "demo.ogg"))
    made, rate = soundfile.read(tmp_path / "demo.ogg")
    shipped, shipped_rate = soundfile.read(EXAMPLES / "demo.ogg")
    assert (rate, made.shape) == (shipped_rate, shipped.shape)
    np.testing.assert_allclose(
        made, shipped, atol=0.02
    )  # Vorbis is lossy, and its encoder changes with versions


def test_fine_tune_a_folder(tmp_path, capsys):
    rng = np.random.default_rng(0)
    t = np.arange(8000) / 8000
    for label in ("noise", "tone"):
        (tmp_path / "music" / label).mkdir(parents=True)
        for i in range(5):
            sound = rng.standard_normal(8000) if label == "noise" else np.sin(2 * np.pi * 110 * (i + 2) * t)
            soundfile.write(tmp_path / "music" / label / f"{i}.wav", 0.1 * sound, 8000)
    (tmp_path / "music" / "tone" / "broken.wav").write_bytes(b"no audio")

    arguments = [str(tmp_path / "music"), "--output", str(tmp_path / "mine"), "--epochs", "1"]
    script("fine_tune_a_folder").main(arguments)

    assert "skipped" in capsys.readouterr().out
    assert music_zoo.load(tmp_path / "mine").labels == ("noise", "tone")


@pytest.fixture
def log_mel_folder(tmp_path) -> Path:
    """A folder laid out like FMA-small's: two genres, one of bright and one of dark images."""
    folder = tmp_path / "fma-small-logmel"
    folder.mkdir()
    rng = np.random.default_rng(0)
    splits = ["train"] * 40 + ["validation"] * 12 + ["test"] * 12
    genres = ["Dark", "Bright"] * 32
    rows = [
        f"{i},{split},{genre},{genre}|Loud"
        for i, (split, genre) in enumerate(zip(splits, genres, strict=True))
    ]
    (folder / "tracks.csv").write_text("\n".join(["track_id,split,genre,genres", *rows]) + "\n")
    level = np.where(np.array(genres) == "Bright", 150, 50)[:, None, None]
    images = np.clip(level + 40 * rng.standard_normal((64, 128, 128)), 0, 255).astype(np.uint8)
    np.savez(folder / "part-0.npz", logmel=images, track_id=np.arange(64, dtype=np.int32))
    embedding = rng.standard_normal((64, 8)).astype(np.float16)
    np.savez(folder / "vggish.npz", embedding=embedding, track_id=np.arange(64, dtype=np.int32))
    return folder


def test_train_and_record_a_preset(log_mel_folder, tmp_path, monkeypatch):
    train, record = script("train_resnet"), script("record_preset")
    monkeypatch.setattr(train, "MIN_TAG_TRACKS", 10)
    run = tmp_path / "resnet-toy"
    train.main(["--data", str(log_mel_folder), "--output", str(run), "--epochs", "3", "--batch-size", "20"])

    manifest = tmp_path / "weights_manifest.json"
    monkeypatch.setattr(record, "PRESETS", tmp_path / "presets")
    monkeypatch.setattr(
        record,
        "update_manifest",
        lambda name, entry: music_zoo.hub.manifest.update_manifest(name, entry, manifest),
    )
    card = EXAMPLES / "cards" / "resnet-fma.json"
    record.main([str(run / "preset"), "--card", str(card), "--data", str(log_mel_folder)])

    entry = read_manifest(manifest)["resnet-toy"]
    assert entry.labels == ("Bright", "Dark")
    assert entry.license == json.loads(card.read_text())["license"]
    assert [(r.split, r.examples) for r in entry.results] == [("validation", 12), ("test", 12)]
    assert music_zoo.load(tmp_path / "presets" / "resnet-toy").labels == entry.labels


@pytest.mark.filterwarnings("ignore:The held-out files determine no temperature")  # bright and dark are easy
def test_train_an_ensemble(log_mel_folder, tmp_path, capsys, monkeypatch):
    recipe = script("train_resnet")
    monkeypatch.setattr(recipe, "MIN_TAG_TRACKS", 10)
    small = functools.partial(recipe.ResNet, stem_width=2, widths=(4,), blocks=(1,))
    monkeypatch.setattr(recipe, "ResNet", small)
    run, train = tmp_path / "toys", recipe.main
    arguments = ["--data", str(log_mel_folder), "--epochs", "3", "--batch-size", "20", "--crop", "8"]
    train([*arguments, "--output", str(run / "member-1"), "--seed", "4"])
    kept = (run / "member-1/preset/model.safetensors").read_bytes()
    train([*arguments, "--output", str(run), "--seed", "3", "--members", "2"])
    assert "calibrated on members: temperature" in capsys.readouterr().out
    assert (run / "member-1/preset/model.safetensors").read_bytes() == kept
    ensemble = music_zoo.load(run / "preset")
    assert (ensemble.name, ensemble.calibrate_on) == ("toys", "mean")
    for number, member in enumerate(ensemble.members):
        alone = music_zoo.load(run / f"member-{number}" / "preset").tensors()
        for name, value in member.tensors().items():
            np.testing.assert_array_equal(value, alone[name])


def test_show_augmentations(tmp_path, monkeypatch, capsys):
    show = script("show_augmentations")
    monkeypatch.setattr(show, "SECONDS", 2.0)
    picture = tmp_path / "augmentations.png"
    show.main(["--output", str(picture)])
    assert picture.read_bytes().startswith(b"\x89PNG")

    with pytest.raises(SystemExit):
        show.main(["--start", "11", "--output", str(picture)])
    assert (
        "has 12.0 s; expected at least 6 s, and at least 2 s from --start 11.0 on" in capsys.readouterr().err
    )


@pytest.mark.filterwarnings("ignore:The held-out files determine no temperature")  # bright and dark are easy
def test_pretrain_moco(log_mel_folder, tmp_path, capsys, monkeypatch):
    run, pretrain = tmp_path / "moco", script("pretrain_moco")
    small = {"patch_size": 16, "embed_dim": 8, "depths": (1, 1), "heads": (1, 2), "window": 2}
    monkeypatch.setattr(pretrain, "NETWORK", small)
    arguments = ["--data", str(log_mel_folder), "--output", str(run), "--epochs", "1", "--batch-size", "20"]
    pretrain.main(arguments)
    assert "linear probe: " in capsys.readouterr().out
    assert music_zoo.load(run / "preset").labels == ("Bright", "Dark")


def test_compare_pretraining(log_mel_folder, tmp_path, monkeypatch):
    compare = script("compare_pretraining")
    network = {"patch_size": 16, "embed_dim": 8, "depths": [1, 1], "heads": [1, 2], "window": 2}
    small = functools.partial(compare.Settings, encoder_options=network, warmup_epochs=0)
    monkeypatch.setattr(compare, "Settings", small)
    arguments = [
        "--data",
        str(log_mel_folder),
        "--output",
        str(tmp_path),
        "--methods",
        "moco",
        "--draws",
        "1",
    ]
    compare.main([*arguments, "--epochs", "1", "--batch-size", "20"])
    lines = (tmp_path / "results.md").read_text().splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:]] == ["random weights", "moco"]
    assert (tmp_path / "label-efficiency.png").stat().st_size > 0


def test_pretrain_simclr(tmp_path, capsys, monkeypatch):
    rng = np.random.default_rng(0)
    t = np.arange(12_000) / 22_050
    for label in ("noise", "tone"):
        (tmp_path / "music" / label).mkdir(parents=True)
        for i in range(5):
            sound = rng.standard_normal(12_000) if label == "noise" else np.sin(2 * np.pi * 110 * (i + 2) * t)
            soundfile.write(tmp_path / "music" / label / f"{i}.wav", 0.1 * sound, 22_050)
    pretrain = script("pretrain_simclr")
    monkeypatch.setattr(pretrain, "SAMPLES", 3**7)
    monkeypatch.setattr(pretrain.SampleCNN, "xla_on_tensorflow", False)  # compiles for longer than it runs
    monkeypatch.setattr(pretrain, "WIDTHS", (8,) * 7)
    arguments = [str(tmp_path / "music"), "--output", str(tmp_path / "clmr"), "--epochs", "1"]
    pretrain.main([*arguments, "--batch-size", "4", "--clip", "0.5"])
    assert "linear probe: " in capsys.readouterr().out
    assert music_zoo.load(tmp_path / "clmr", labels=["x", "y"]).labels == ("x", "y")


@pytest.fixture
def notes_folder(tmp_path) -> Path:
    """A folder laid out like NSynth's test set: noisy flutes and organs of pure tones."""
    folder = tmp_path / "nsynth-test"
    (folder / "audio").mkdir(parents=True)
    rng = np.random.default_rng(0)
    t = np.arange(4000) / 16_000
    table, examples = ["instrument,family,notes,split"], {}
    for split, notes in (("train", 10), ("validation", 6), ("test", 6)):
        for family in ("flute", "organ"):
            instrument = f"{family}_{split}"
            table.append(f"{instrument},{family},{notes},{split}")
            for i in range(notes):
                sound = (
                    rng.standard_normal(4000) if family == "flute" else np.sin(2 * np.pi * 110 * (i + 2) * t)
                )
                path = folder / "audio" / f"{instrument}-{i}.opus"
                soundfile.write(path, 0.1 * sound, 16_000, format="OGG", subtype="OPUS")
                examples[path.stem] = {"instrument_str": instrument}
    (folder / "instrument-split.csv").write_text("\n".join(table) + "\n")
    (folder / "examples.json").write_text(json.dumps(examples))
    return folder


@pytest.mark.filterwarnings("ignore:The held-out files determine no temperature")  # what is learnt is easy
def test_calibration_study(log_mel_folder, notes_folder, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES)
    study = script("calibration_study")
    network = {"stem_width": 2, "widths": (4,), "blocks": (1,)}
    small = functools.partial(study.train_resnet.ResNet, **network)
    monkeypatch.setattr(study.train_resnet, "ResNet", small)
    monkeypatch.setattr(study.train_resnet, "NOTE_SECONDS", 0.5)
    monkeypatch.setattr(study.train_resnet, "MIN_TAG_TRACKS", 10)
    recipe = ["--epochs", "3", "--batch-size", "20", "--crop", "8"]
    monkeypatch.setattr(study, "FMA_RECIPE", recipe)
    monkeypatch.setattr(study, "NSYNTH_RECIPE", recipe)
    monkeypatch.setattr(study, "EMBEDDER", tmp_path / "resnet-nsynth" / "member-0" / "preset")
    arguments = ["--fma", str(log_mel_folder), str(tmp_path / "resnet-fma")]
    arguments += ["--nsynth", str(notes_folder), str(tmp_path / "resnet-nsynth")]
    arguments += ["--output", str(tmp_path / "study"), "--members", "2", "--split", "test"]
    study.main(arguments)

    results = json.loads((tmp_path / "study" / "results.json").read_text())
    assert list(results) == list(study.STUDY)
    assert all(len(result["single"]) == 2 for result in results.values())
    text = (tmp_path / "study" / "results.md").read_text()
    assert "| NSynth, ResNet | 79.96 (0.61) | " in text and "Scored here: the test split." in text
    pictures = {path.name for path in (tmp_path / "study").glob("*.png")}
    assert "mae-over-temperature.png" in pictures and len(pictures) == 5

    monkeypatch.setattr(study.train_resnet, "main", None)  # what is trained is not trained again
    study.main(arguments)
    assert json.loads((tmp_path / "study" / "results.json").read_text()) == results


def test_calibration_study_measures_networks_and_ensemble(monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES)
    truth = np.tile([[0.9, 0.4], [0.4, 0.9]], (10, 1))  # what each of two networks gives the true class
    targets = np.repeat([0, 1], 10)
    posteriors = np.where(np.eye(2)[targets][:, None] == 1, truth[..., None], 1 - truth[..., None])
    split = np.log(posteriors), targets
    result, curves, sweep = script("calibration_study").measure({"validation": split, "test": split}, "test")
    assert [member["accuracy"] for member in result["single"]] == [0.5, 0.5]
    assert result["ensemble"]["accuracy"] == 1 and result["interval"] == (1, 1)
    assert result["ensemble"]["nll"] == pytest.approx(-np.log(0.65))  # the mean of 0.9 and 0.4
    assert result["ensemble"]["mae"] == pytest.approx(0.35)  # of 0.65 all are true, of 0.35 none
    assert result["calibrated ensemble"]["nll"] < result["ensemble"]["nll"]
    assert curves["one network"].counts.sum() == 40
    assert sweep.temperatures[sweep.is_fitted] == pytest.approx([result["temperature"]])
