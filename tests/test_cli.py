"""The command line without a model: what it prints, refuses, and does not import."""

import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from music_zoo import cli, zoo
from music_zoo.hub.manifest import read_manifest

HEAVY = {
    "huggingface_hub",
    "jax",
    "keras",
    "librosa",
    "matplotlib",
    "scipy",
    "sklearn",
    "tensorflow",
    "torch",
}


@pytest.fixture
def invoke():
    return lambda *args: CliRunner().invoke(cli.app, [str(arg) for arg in args])


@pytest.fixture
def run_main(monkeypatch, capfd):
    """Run `main` as the installed script does; returns exit status, standard output and standard error."""

    def run(*args) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["music-zoo", *map(str, args)])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        out, err = capfd.readouterr()
        if isinstance(caught.value.code, str):  # which Python prints on exit, with status 1
            return 1, out, err + caught.value.code
        return caught.value.code, out, err

    return run


@pytest.fixture
def presets(monkeypatch):
    """A manifest of two presets, one with an awkward licence and results on two data sets."""
    result = {"split": "test", "examples": 800, "command": "music-zoo evaluate"}
    results = [
        {**result, "dataset": "fma-small", "metrics": {"accuracy": 0.531}},
        {**result, "dataset": "gtzan", "metrics": {"accuracy": 0.7}},
    ]
    file = {"size": 1, "sha256": 64 * "0"}
    entry = {
        "description": "What it is.",
        "architecture": "ResNet",
        "task": "single_label",
        "labels": ["calm", "tense"],
        "sample_rate": 8000,
        "window_seconds": 1.0,
        "parameters": 418_000,
        "license": "CC-BY [sic]",
        "training_data": "Songs.",
        "limits": "Few.",
        "sources": [{"kind": "bundled"}],
        "files": dict.fromkeys(["config.json", "model.safetensors", "golden.safetensors"], file),
        "results": results,
    }
    manifest = type(read_manifest()).model_validate_json(
        json.dumps({"schema_version": 1, "presets": {"one-net": entry, "two-net": entry}})
    )
    monkeypatch.setattr(zoo, "read_manifest", lambda: manifest)


@pytest.mark.parametrize(
    "args", [["--help"], ["--version"], ["models"], ["tag", "--help"], ["pretrain", "--help"]], ids=" ".join
)
def test_light_commands_import_nothing_heavy(args):
    script = f"""
import sys
from music_zoo.cli import main
sys.argv[1:] = {args}
try:
    main()
finally:
    print(*sorted({HEAVY} & sys.modules.keys()), file=sys.stderr)
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    imported = run.stderr.splitlines()[0]  # above the message of `models` where there are none yet
    assert imported == ""


def test_help_names_every_command(invoke):
    text = invoke("--help").stdout
    for command in (
        "tag",
        "embed",
        "models",
        "describe",
        "explain",
        "evaluate",
        "pretrain",
        "probe",
        "distill",
        "reject",
    ):
        assert f" {command} " in text


def test_models_as_a_table(invoke, presets):
    lines = invoke("models").stdout.splitlines()
    assert lines[0].split() == "preset task labels parameters measured on test data licence".split()
    assert [line.split()[0] for line in lines[1:]] == ["one-net", "gtzan", "two-net", "gtzan"]
    for part in ("single-label", " 2 ", "0.42 M", "fma-small test: 53.1 % accuracy", "CC-BY [sic]"):
        assert part in lines[1]
    assert max(map(len, lines)) <= 100


def test_models_by_pattern(invoke, presets):
    assert "one-net" not in invoke("models", "tw*").stdout


def test_models_as_markdown(invoke, presets):
    assert invoke("models", "--markdown", "one-net").stdout.splitlines() == [
        "| preset | task | labels | parameters | measured on test data | licence |",
        "|---|---|---|---|---|---|",
        "| one-net | single-label | 2 | 0.42 M "
        "| fma-small test: 53.1 % accuracy; gtzan test: 70.0 % accuracy | CC-BY [sic] |",
    ]


def test_into_a_pipe_every_preset_has_a_line_of_its_own(invoke):
    lines = invoke("models").stdout.splitlines()
    for name in zoo.list_models():
        (line,) = [line for line in lines if line.startswith(f"{name} ")]
        assert zoo.describe(name).license in line


def test_describe(invoke, presets):
    text = invoke("describe", "one-net").stdout
    assert "one-net: What it is." in text and "$ music-zoo evaluate" in text


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["describe", "one-nett"], "'one-nett' is no preset"),
        (["models", "x*"], "no preset matches 'x*'"),
        (["tag", "."], "holds no audio file"),
        (["tag", "x.wav", "--taggram", "file/x.png"], "file"),
        (["embed", "x.wav", "--output", "x.txt"], "x.txt: embeddings are written to"),
        (["embed", "x.wav", "--output", "file/x.npy"], "file"),
        (["evaluate", "--data", "missing"], "missing is no folder"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_errors_are_one_line_and_come_before_the_work(run_main, presets, monkeypatch, tmp_path, args, says):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    monkeypatch.setattr(zoo, "load", None)  # would be called if the error came late
    status, out, err = run_main(*args)
    assert (status, out) == (1, "")
    assert err.startswith("music-zoo: ") and says in err and "\n" not in err


@pytest.mark.parametrize(
    ("args", "says"),
    [
        ([], ""),
        (["tag"], "Missing argument"),
        (["tag", "x.wav", "--json", "--csv"], "exclude each other"),
        (["tag", "x.wav", "--top", "0"], "--top"),
        (["tag", "x.wav", "--taggram", "x.mp4"], "picture's name must end in"),
        (["tag", "x.wav", "y.wav", "--taggram", "x.png"], "2 files need a folder"),
        (["embed", "x.wav"], "--output"),
        (["evaluate", "--data", ".", "--reliability", "x"], "picture's name must end in"),
        (["evaluate", "--data", ".", "--robustness", "--plot", "x"], "picture's name must end in"),
        (["evaluate", "--data", ".", "--robustness", "--intervals", "9"], "goes without"),
        (["evaluate", "--data", ".", "--limit", "9"], "belong to --robustness"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_use_is_exit_status_2(run_main, monkeypatch, args, says):
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(zoo, "load", None)
    status, out, err = run_main(*args)
    assert status == 2
    assert says in out + err


def test_a_closed_pipe_and_a_full_disk_are_no_tracebacks(tmp_path):
    script = "import sys; sys.argv[1:] = ['--version']; from music_zoo.cli import main; main()"
    with open("/dev/full", "w") as full:
        run = subprocess.run([sys.executable, "-c", script], stdout=full, stderr=subprocess.PIPE, text=True)
    assert (run.returncode, run.stderr) == (1, "music-zoo: No space left on device\n")
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    assert process.wait(60) == 1
    assert process.stderr.read() in (b"", b"music-zoo: Broken pipe\n")
    process.stderr.close()
