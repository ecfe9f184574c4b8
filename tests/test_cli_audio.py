"""The command line with a small model, on audio."""

import csv
import io
import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from music_zoo import cli
from music_zoo.errors import MusicZooError, UnknownPresetError
from music_zoo.records import RecordWriter

pytestmark = pytest.mark.keras


@pytest.fixture(scope="module")
def preset(small_classifier, tmp_path_factory):
    folder = tmp_path_factory.mktemp("presets") / "small"
    small_classifier.save_preset(folder)
    return folder


@pytest.fixture
def music(tmp_path, monkeypatch):
    """The current folder, with five usable files and a text that is called audio."""
    monkeypatch.chdir(tmp_path)
    names = ["a/song.wav", "b/song.wav", "b/$x$ 日本 [red] :cat:.wav", "b/short.flac", "b/silent.wav"]
    for i, name in enumerate(names):
        path = tmp_path / "music" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        t = np.arange(6000 if "short" in name else 20_000) / 8000
        soundfile.write(
            path, 0 * t if "silent" in name else 0.5 * np.sin(2 * np.pi * 300 * (i + 1) * t), 8000
        )
    (tmp_path / "music" / "a" / "bad.wav").write_text("no audio")
    return "music"


@pytest.fixture
def invoke(preset):
    def run(command, *args):
        return CliRunner().invoke(cli.app, [command, *map(str, args), "--model", str(preset)])

    return run


def test_tag_prints_the_most_probable_labels(invoke, music, small_classifier):
    result = invoke("tag", "music/a/song.wav", "--top", "2")
    assert (result.exit_code, result.stderr) == (0, "")
    head, *lines = result.stdout.splitlines()
    assert head == "music/a/song.wav  (2.5 s)"
    printed = [(label, float(share)) for share, label in (line.split("%") for line in lines)]
    expected = small_classifier.classify("music/a/song.wav").top(2)
    assert [label.strip() for label, _ in printed] == [label for label, _ in expected]
    np.testing.assert_allclose([p for _, p in printed], [100 * p for _, p in expected], atol=0.051)


def test_tag_with_more_labels_than_there_are_prints_all(invoke, music):
    lines = invoke("tag", "music/a/song.wav", "--top", "99").stdout.splitlines()
    assert len(lines) == 1 + 3


def test_results_and_messages_are_kept_apart_and_the_exit_status_tells_of_skipped_files(invoke, music):
    result = invoke("tag", music, "missing.wav", "--json")
    assert result.exit_code == 1
    read = [json.loads(line) for line in result.stdout.splitlines()]
    assert len(read) == 5
    assert all(sum(entry["probabilities"].values()) == pytest.approx(1, abs=1e-5) for entry in read)
    skipped = [line for line in result.stderr.splitlines() if line.startswith("skipped: ")]
    assert ["bad.wav" in skipped[0], "no file missing.wav" in skipped[1], len(skipped)] == [True, True, 2]
    assert "music/b/silent.wav: the audio is silent" in result.stderr
    assert result.stderr.splitlines()[-1] == "5 of 7 files done, 2 skipped"


def test_tag_as_csv_with_overlapping_windows(invoke, music):
    result = invoke("tag", "music/b", "--csv", "--hop", "0.5")
    rows = list(csv.reader(io.StringIO(result.stdout)))
    assert rows[0] == ["source", "duration", "label", "a", "b", "c"]
    assert [row[1] for row in rows[1:]] == ["2.500", "0.750", "2.500", "2.500"]


def test_tag_as_json_with_windows(invoke, music):
    entry = json.loads(invoke("tag", "music/a/song.wav", "--json", "--windows").stdout)
    assert [(w["start"], w["end"]) for w in entry["windows"]] == [(0, 1), (1, 2), (1.5, 2.5)]


def test_several_models_tag_a_file_one_after_the_other(invoke, music, preset, tmp_path, small_classifier):
    one = invoke("tag", "music/a/song.wav", "--top", "2").stdout.splitlines()
    two = invoke("tag", "music/a/song.wav", "--top", "2", "--model", preset).stdout.splitlines()
    name = small_classifier.name
    assert two == 2 * [f"{one[0]}  {name}", *one[1:]]
    result = invoke("tag", music, "--json", "--model", preset, "--output", "out.json")
    assert result.exit_code == 1  # one file is no audio
    records = [json.loads(line) for line in (tmp_path / "out.json").read_text().splitlines()]
    assert len(records) == 2 * 5 and {record["model"] for record in records} == {name}
    assert [record["source"] for record in records[::2]] == [record["source"] for record in records[1::2]]
    for refused in (["--csv"], ["--taggram", "t.png"]):
        result = invoke("tag", "music/a/song.wav", "--model", preset, *refused)
        assert result.exit_code == 2 and "one --model" in result.stderr


def test_a_file_given_twice_is_tagged_once(invoke, music, tmp_path):
    paths = ["music/b", "music/b/song.wav", "music/a/../b/song.wav", tmp_path / "music" / "b"]
    assert len(invoke("tag", *paths, "--json").stdout.splitlines()) == 4


def test_a_hop_that_skips_audio_is_wrong_use(invoke, music):
    for hop in (0, -1, 1.5, "nan"):
        result = invoke("tag", "music/a/song.wav", "--hop", hop)
        assert result.exit_code == 2
        assert "window of 1 s" in result.stderr


def test_unknown_model(music):
    result = CliRunner().invoke(cli.app, ["tag", "music/a/song.wav", "--model", "no-such-preset"])
    assert isinstance(result.exception, UnknownPresetError)


def test_taggram_of_one_file_is_a_picture(invoke, music, tmp_path):
    result = invoke("tag", "music/a/song.wav", "--taggram", "pictures/song.PNG")
    assert (result.exit_code, result.stderr) == (0, "wrote pictures/song.PNG\n")
    assert (tmp_path / "pictures" / "song.PNG").read_bytes().startswith(b"\x89PNG")


def test_taggrams_of_files_of_one_name_do_not_overwrite_each_other(invoke, music, tmp_path):
    invoke("tag", music, "--taggram", "pictures")
    folder = tmp_path / "pictures"
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*.png")}
    assert {"a/song.wav.png", "b/song.wav.png", "b/$x$ 日本 [red] :cat:.wav.png"} < found
    assert len(found) == 5


def test_output_holds_what_would_be_on_the_screen(invoke, music, tmp_path):
    for format in ([], ["--json"], ["--csv"]):
        on_screen = invoke("tag", "music/b", *format).stdout
        result = invoke("tag", "music/b", *format, "--output", "out/tags")
        assert (result.exit_code, result.stdout) == (0, "")
        assert result.stderr.endswith("wrote out/tags: 4 files\n")
        assert (tmp_path / "out" / "tags").read_text() == on_screen
        assert [path.name for path in (tmp_path / "out").iterdir()] == ["tags"]


@pytest.fixture
def interrupted(invoke, music, monkeypatch):
    """Run `tag` into the file `tags`, with control-C at its third prediction."""

    def interrupt(*args):
        kept, written = RecordWriter.write, []

        def write(self, prediction):
            written.append(prediction)
            if len(written) == 3:
                raise KeyboardInterrupt
            kept(self, prediction)

        with monkeypatch.context() as patch:
            patch.setattr(RecordWriter, "write", write)
            return invoke("tag", "music/b", *args)

    return interrupt


def test_interrupted_run_says_how_to_go_on_and_does(invoke, interrupted, tmp_path):
    result = interrupted("--output", "tags")
    assert result.exit_code == 130
    assert result.stderr.endswith("stopped, 2 of 4 files done; the same command goes on from there\n")
    assert not (tmp_path / "tags").exists()
    result = invoke("tag", "music/b", "--output", "tags")
    assert result.exit_code == 0
    assert "taking up an interrupted run: 2 of 4 files done" in result.stderr
    assert (tmp_path / "tags").read_text() == invoke("tag", "music/b").stdout


def test_interrupted_run_to_the_screen(interrupted):
    result = interrupted()
    assert result.exit_code == 130
    assert result.stderr.endswith("interrupted, 2 of 4 files done\n")


def test_interrupted_run_is_not_mixed_with_another(invoke, interrupted):
    interrupted("--output", "tags", "--json")
    result = invoke("tag", "music/b", "--output", "tags", "--csv")
    assert isinstance(result.exception, MusicZooError)
    assert "kind 'json', now 'csv'" in str(result.exception)


def test_embed(invoke, music, tmp_path, small_classifier):
    result = invoke("embed", "music/b/song.wav", "music/a", "--windows", "--output", "songs.npy")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.endswith("wrote songs.npy: 6 rows of 8 numbers\n")
    expected = [small_classifier.embed(f"music/{folder}/song.wav") for folder in "ba"]
    np.testing.assert_allclose(np.load("songs.npy"), np.concatenate(expected), atol=1e-5)


def test_embed_without_one_usable_file_writes_nothing(invoke, music, tmp_path):
    result = invoke("embed", "music/a/bad.wav", "--output", "songs.npy")
    assert isinstance(result.exception, MusicZooError)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["music"]


def test_evaluate_a_folder_per_label(invoke, music, tmp_path):
    (tmp_path / "music" / "c").mkdir()
    os.link(tmp_path / "music" / "a" / "song.wav", tmp_path / "music" / "c" / "song.wav")
    curves = ("--reliability", "curve.svg", "--reliability", "curve.csv")
    result = invoke("evaluate", "--data", music, "--json", "--intervals", "20", *curves)
    assert result.exit_code == 1  # bad.wav
    scores = json.loads(result.stdout)
    assert scores["examples"] == 6
    assert 0 <= scores["metrics"]["accuracy"] <= 1
    assert "bad.wav" in result.stderr
    low, high = scores["intervals"]["calibrated"]["accuracy"]
    assert low <= scores["metrics"]["accuracy"] <= high
    assert list(scores["by_label"]) == ["a", "b", "c"]
    assert (tmp_path / "curve.svg").exists()
    with (tmp_path / "curve.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["curve"] for row in rows] == ["calibrated"] * 10 + ["uncalibrated"] * 10
    assert sum(int(row["counts"]) for row in rows[:10]) == 6 * 3


def test_evaluate_on_perturbed_audio(invoke, music, tmp_path):
    (tmp_path / "music" / "c").mkdir()
    os.link(tmp_path / "music" / "a" / "song.wav", tmp_path / "music" / "c" / "song.wav")
    options = ["--robustness", "--limit", "6", "--json", "--plot", "noise.svg", "--plot", "noise.csv"]
    result = invoke("evaluate", "--data", music, *options)
    scores = json.loads(result.stdout)
    assert scores["examples"] + len(scores["skipped"]) == 6  # of seven
    assert result.exit_code == (1 if scores["skipped"] else 0)
    assert result.stderr.startswith("wrote noise.svg\nwrote noise.csv\n")
    with (tmp_path / "noise.csv").open(newline="") as file:
        written = {row["perturbation"]: float(row["ece"]) for row in csv.DictReader(file)}
    assert written == {name: metrics["ece"] for name, metrics in scores["metrics"].items()}
    assert len(written) == 9 and (tmp_path / "noise.svg").exists()


def test_the_process_says_nothing_but_results(preset, music):
    """In a process of its own, so that it imports the backend, and with a name that is no text."""
    os.link("music/a/song.wav", b"music/a/no text \xe9.wav")
    script = "from music_zoo.cli import main; main()"
    args = ["tag", b"music/a/no text \xe9.wav", "--top", "1", "--model", preset]
    run = subprocess.run([sys.executable, "-c", script, *args], capture_output=True)
    assert (run.returncode, run.stderr) == (0, b"")
    assert re.fullmatch(rb"music/a/no text \\udce9\.wav  \(2\.5 s\)\n +\d+\.\d%  [abc]\n", run.stdout)
