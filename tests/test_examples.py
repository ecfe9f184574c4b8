"""Every script in examples/ runs, on small data made here."""

import functools
import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

import music_zoo
from music_zoo.datasets import open_dataset
from music_zoo.golden import check_golden
from music_zoo.hub.manifest import read_manifest
from music_zoo.hub.preset_files import read_preset

EXAMPLES = Path(__file__).parents[1] / "examples"


def script(name: str):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_script_is_tested():
    tested = Path(__file__).read_text()
    assert all(f'script("{path.stem}")' in tested for path in EXAMPLES.glob("*.py"))


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


def small_recipe(name: str, **settings):
    """A recipe for a network and a training of seconds."""
    from music_zoo.training.recipe import read_recipe

    recipe = read_recipe(EXAMPLES / "recipes" / f"{name}.yaml", **settings)
    short = {"epochs": 3, "batch_size": 20, "warmup_epochs": 0, "crop": 8}
    network = {"stem_width": 2, "widths": [4], "blocks": [1]}
    return recipe.model_copy(
        update={
            "encoder_options": recipe.encoder_options | network,
            "fit": [fit.model_copy(update=short) for fit in recipe.fit],
            "min_tag_tracks": 10,
            "seconds": 0.5,
        }
    )


@pytest.mark.keras
@pytest.mark.usefixtures("only_on_torch")
@pytest.mark.filterwarnings("ignore:The held-out files determine no temperature")  # bright and dark are easy
def test_train_and_record_a_preset(log_mel_folder, tmp_path, monkeypatch):
    from music_zoo.training.run import train

    record = script("record_preset")
    run = tmp_path / "resnet-fma"
    trained = train(small_recipe("resnet-fma"), log_mel_folder, run)

    manifest = tmp_path / "weights_manifest.json"
    monkeypatch.setattr(record, "PRESETS", tmp_path / "presets")
    monkeypatch.setattr(
        record,
        "update_manifest",
        lambda name, entry: music_zoo.hub.manifest.update_manifest(name, entry, manifest),
    )
    monkeypatch.setattr(record, "read_manifest", lambda: read_manifest(manifest) if manifest.exists() else {})
    card = EXAMPLES / "cards" / "resnet-fma.json"
    arguments = [str(run / "preset"), "--card", str(card), "--data", str(log_mel_folder)]
    record.main(arguments)

    entry = read_manifest(manifest)["resnet-fma"]
    assert entry.speed == ""
    timed = entry.model_copy(update={"speed": "900 x real time"})
    music_zoo.hub.manifest.update_manifest("resnet-fma", timed, manifest)
    record.main(arguments)
    assert read_manifest(manifest)["resnet-fma"] == timed  # the same network, as fast as it was
    assert entry.labels == ("Bright", "Dark")
    assert entry.license == json.loads(card.read_text())["license"]
    assert entry.training_command.startswith(
        "music-zoo train examples/recipes/resnet-fma.yaml --data fma-small"
    )
    assert [(r.split, r.examples) for r in entry.results] == [("validation", 12), ("test", 12)]
    bundled = music_zoo.load(tmp_path / "presets" / "resnet-fma")
    assert bundled.labels == entry.labels
    for name, value in bundled.tensors().items():
        np.testing.assert_allclose(value, trained.tensors()[name], rtol=1e-3, atol=1e-6)
    files = read_preset(tmp_path / "presets" / "resnet-fma")
    assert {t.dtype for name, t in files.tensors.items() if "calibrator" not in name} == {np.dtype("float16")}
    check_golden(bundled, files.golden)


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


@pytest.mark.keras
@pytest.mark.usefixtures("only_on_torch")
@pytest.mark.filterwarnings("ignore:The held-out files determine no temperature")  # bright and dark are easy
def test_pretrain_moco(log_mel_folder, tmp_path, capsys, monkeypatch):
    run, pretrain = tmp_path / "moco", script("pretrain_moco")
    small = {"patch_size": 16, "embed_dim": 8, "depths": (1, 1), "heads": (1, 2), "window": 2}
    monkeypatch.setattr(pretrain, "NETWORK", small)
    arguments = ["--data", str(log_mel_folder), "--output", str(run), "--epochs", "1", "--batch-size", "20"]
    pretrain.main(arguments)
    assert "linear probe: " in capsys.readouterr().out
    assert music_zoo.load(run / "preset").labels == ("Bright", "Dark")


@pytest.mark.keras
@pytest.mark.usefixtures("only_on_torch")
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


@pytest.mark.keras
@pytest.mark.usefixtures("only_on_torch")
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
    monkeypatch.setattr(pretrain, "WIDTHS", (8,) * 7)
    arguments = [str(tmp_path / "music"), "--output", str(tmp_path / "clmr"), "--epochs", "1"]
    pretrain.main([*arguments, "--batch-size", "4", "--clip", "0.5"])
    assert "linear probe: " in capsys.readouterr().out
    assert music_zoo.load(tmp_path / "clmr", labels=["x", "y"]).labels == ("x", "y")


@pytest.mark.keras
@pytest.mark.usefixtures("only_on_torch")
@pytest.mark.filterwarnings("ignore:The held-out files determine no temperature")  # what is learnt is easy
def test_calibration_study(log_mel_folder, notes_folder, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES)
    study = script("calibration_study")
    monkeypatch.setattr(study, "read_recipe", lambda path, **settings: small_recipe(path.stem, **settings))
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

    monkeypatch.setattr(study, "train", None)  # what is trained is not trained again
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


def test_results_page_says_what_the_manifest_says(tmp_path, capsys):
    output = tmp_path / "RESULTS.md"
    script("write_results").main(["--output", str(output)])
    page = output.read_text()
    for name, entry in read_manifest().items():
        is_bundled = any(source.kind == "bundled" for source in entry.sources)
        assert (f"\n## {name}\n" in page) == is_bundled
        for result in entry.results if is_bundled else ():
            assert f"`{result.command}`" in page
            assert f"{result.metrics['nll']:.3f}" in page


def test_results_page_is_current(tmp_path):
    script("write_results").main(["--output", str(tmp_path / "RESULTS.md")])
    heads = [line for line in (tmp_path / "RESULTS.md").read_text().splitlines() if line.startswith("|")]
    written = (Path(__file__).parents[1] / "RESULTS.md").read_text()
    assert all(line in written for line in heads), "write it anew: python examples/write_results.py"


def test_validation_curves_are_drawn_from_the_logs_of_runs(tmp_path, monkeypatch):
    import matplotlib.axes

    logs = {
        "pretrained": "epoch,knn_accuracy,loss\n1,nan,5.0\n2,0.25,4.0\n",
        "fit-1": "epoch,loss,val_accuracy,val_nll\n1,3.0,nan,nan\n2,2.0,0.5,1.5\n3,1.0,0.625,1.25\n",
    }
    for part, text in logs.items():
        (tmp_path / "run" / part).mkdir(parents=True)
        (tmp_path / "run" / part / "log.csv").write_text(text)
    drawn = []
    plot = matplotlib.axes.Axes.plot
    monkeypatch.setattr(
        matplotlib.axes.Axes, "plot", lambda axes, *xy, **how: drawn.append(xy) or plot(axes, *xy, **how)
    )
    path = script("write_results").draw_curves([tmp_path / "run"], tmp_path / "curves.png")
    assert path.stat().st_size > 0
    assert drawn == [((2,), (0.25,)), ((2, 3), (0.5, 0.625))]


def test_rendered_notes_keep_their_length_and_level():
    vary = script("render_notes").vary
    note = np.sin(2 * np.pi * 440 * np.arange(64_000) / 16_000) * np.linspace(1, 0, 64_000)
    made = [vary(note, np.random.default_rng(seed)) for seed in (0, 0, 1)]
    assert all(each.shape == (64_000,) and each.dtype == np.float32 for each in made)
    assert all(0.3 <= np.abs(each).max() <= 0.95 + 1e-6 for each in made)
    np.testing.assert_array_equal(made[0], made[1])
    assert not np.array_equal(made[0], made[2])


def test_rendered_notes_are_read_as_a_data_set(tmp_path):
    pytest.importorskip("fluidsynth", reason="needs pyfluidsynth and its library")
    rendering = script("render_notes")
    if not all(font.exists() for font in rendering.SOUNDFONTS.values()):
        pytest.skip("needs the soundfonts, see examples/render_notes.py")
    real = tmp_path / "real"
    (real / "audio").mkdir(parents=True)
    notes = {}
    for split, family in (("train", "bass"), ("validation", "reed"), ("test", "organ")):
        name = f"{family}_acoustic_{split}"
        notes[f"{name}-060-100"] = {"instrument_str": name, "qualities_str": []}
        soundfile.write(
            real / "audio" / f"{name}-060-100.opus", np.ones(64_000) / 9, 16_000, format="OGG", subtype="OPUS"
        )
    (real / "examples.json").write_text(json.dumps(notes))
    (real / "instrument-split.csv").write_text(
        "instrument,family,notes,split\n"
        + "".join(
            f"{family}_acoustic_{split},{family},1,{split}\n"
            for split, family in (("train", "bass"), ("validation", "reed"), ("test", "organ"))
        )
    )
    rendering.SOUNDFONTS = {"csound": rendering.SOUNDFONTS["csound"]}  # the one that is quick to read
    rendering.FAMILIES = {"bass": (range(32, 34), (30, 60)), "flute": ((73,), (60, 90))}
    rendering.main(["--notes", str(real), "--output", str(tmp_path / "all"), "--per-family", "4"])
    dataset = open_dataset(tmp_path / "all")
    assert len(dataset.split("train").paths) == 1 + 4 + 4
    assert len(dataset.split("test").paths) == len(dataset.split("validation").paths) == 1
    samples, rate = soundfile.read(dataset.split("train").paths[-1])
    assert rate == 16_000 and len(samples) == 64_000 and np.abs(samples).max() > 0.1
