"""Each benchmark runs, on next to nothing; what it times is nobody's business here."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
TORCH = "--backends torch"
#: By script: the least that goes through all of it, and words in what it then prints.
SMALLEST = {
    "limits": (f"{TORCH} --repeats 1", ["| torch ", "Memory at"]),
    "front_end": (f"{TORCH} --batch 1 --repeats 1 --settings resnet-fma", ["| resnet-fma "]),
    "forward": (f"{TORCH} --models resnet-compact --batch 1 --repeats 1", ["| resnet-compact "]),
    "training": (f"{TORCH} --methods moco --batch 4 --repeats 1", ["| moco, swin-mini ", "peak memory"]),
    "end_to_end": (
        f"{TORCH} --models resnet-fma --references librosa --files 1 --seconds 31 --repeats 1",
        ["| resnet-fma, torch ", "| resnet-fma, librosa ", "| resnet-fma, decode alone "],
    ),
    "int8": ("--models resnet-nsynth --repeats 1", ["| resnet-nsynth "]),
    "startup": (f"{TORCH} --runs 1 --predictions 1", ["| music-zoo --help ", "| plain PyTorch "]),
    "memory": (
        f"{TORCH} --files 1 --hours 0.02",
        ["| torch, 1 songs of 3 min ", "| torch, one file of 0.02 h "],
    ),
}

pytest.importorskip("librosa")
pytest.importorskip("torch")


def run(script: str, *arguments: str) -> str:
    command = [sys.executable, str(BENCHMARKS / f"{script}.py"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_run_reports_what_a_script_prints_and_measures(tmp_path):
    printed = run("run", "--quick", "--only", "decode", "--output", str(tmp_path / "new"))
    assert (tmp_path / "new" / "report.md").read_text() == printed
    assert "## decode.py" in printed
    files = json.loads((tmp_path / "new" / "results.json").read_text())["decode"]["files"]
    assert [file["format"] for file in files] == ["mp3", "ogg", "flac", "wav"]
    for file in files:
        assert f"| {file['format']} " in printed
        assert {name: len(times) for name, times in file["seconds"].items()} == {"music_zoo": 3, "librosa": 3}


def test_run_names_a_script_that_fails(tmp_path):
    command = [sys.executable, str(BENCHMARKS / "run.py"), "--quick", "--only", "decode", "--threads", "0"]
    done = subprocess.run([*command, "--output", str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "**failed**" in (tmp_path / "report.md").read_text()
    assert json.loads((tmp_path / "results.json").read_text()) == {"decode": None}


@pytest.mark.slow
@pytest.mark.parametrize("script", SMALLEST)
def test_script_runs(script, tmp_path):
    arguments, words = SMALLEST[script]
    printed = run(script, *arguments.split(), "--json", str(tmp_path / "results.json"))
    assert json.loads((tmp_path / "results.json").read_text())
    for word in words:
        assert word in printed
