"""The commands that train and probe, on a small network and a small data set."""

import builtins
import json

import pytest
from typer.testing import CliRunner

import music_zoo
from music_zoo import cli, training_cli
from music_zoo.errors import DatasetError, PretrainingError
from music_zoo.training_cli import _assign, _read_config

CONFIG = """
method: simclr
encoder: resnet-compact
encoder_options: {stem_width: 2, widths: [2, 4], blocks: [1, 1]}
augmentation: multi_view
batch_size: 8
epochs: 7
knn_every: 0
"""


@pytest.fixture
def invoke():
    """Run a command; errors of ours are raised, as `main` is what turns them into a line."""

    def run(*args, status: int = 0) -> str:
        result = CliRunner().invoke(cli.app, [str(arg) for arg in args])
        if isinstance(result.exception, Exception):
            raise result.exception
        assert result.exit_code == status, result.output
        return result.output

    return run


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(CONFIG)
    return path


@pytest.fixture(scope="module")
def preset(log_mel_root, tmp_path_factory):
    """An encoder with random weights."""
    from music_zoo.datasets import open_splits
    from music_zoo.pretraining.run import new_classifier

    options = {"stem_width": 4, "widths": [4, 8], "blocks": [1, 1]}
    folder = tmp_path_factory.mktemp("models") / "encoder"
    new_classifier("resnet-compact", open_splits(log_mel_root), "encoder", options).save_preset(folder)
    return folder


@pytest.mark.keras
def test_options_override_the_file(invoke, log_mel_root, config, tmp_path):
    run = tmp_path / "run"
    command = ["pretrain", "--data", log_mel_root, "--output", run, "--config", config, "--epochs", 1]
    text = invoke(*command, "--set", "method_options.temperature=0.1", "--segment", 7.5)
    assert "epoch 1/1  loss " in text and f"wrote {run / 'preset'}" in text
    assert len((run / "log.csv").read_text().splitlines()) == 2
    assert music_zoo.load(run / "preset", labels=["a", "b"]).name == "run"
    with pytest.raises(PretrainingError, match=r"other settings \(method_options: .*0.1.*now .*segment: 7.5"):
        invoke(*command)


@pytest.mark.keras
def test_ctrl_c_says_how_to_go_on(invoke, log_mel_root, config, tmp_path, monkeypatch):
    from music_zoo.pretraining import run

    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "pretrain", interrupted)
    folder = tmp_path / "run"
    text = invoke("pretrain", "--data", log_mel_root, "--output", folder, "--config", config, status=130)
    assert text.startswith("stopped; the same command goes on after the last epoch")


@pytest.mark.keras
def test_settings_that_there_are_not(invoke, log_mel_root, config, tmp_path):
    command = ["pretrain", "--data", log_mel_root, "--output", tmp_path / "run", "--config", config]
    with pytest.raises(PretrainingError, match="no setting 'learnin_rate'; expected some of method, encoder"):
        invoke(*command, "--set", "learnin_rate=1")


@pytest.mark.keras
def test_tensorboard_that_is_missing_is_told(tmp_path, monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "tensorboard":
            raise ImportError("No module", name=name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(PretrainingError, match=r"not installed \(tensorboard\): pip install tensorboard"):
        training_cli._tensorboard(tmp_path)


def test_settings_on_the_command_line_are_yaml():
    values = {"method_options": {"temperature": 0.5}}
    for setting in ("seed=3", "method_options.projection=[8, 4]", "encoder=swin-mini", "clip="):
        _assign(values, setting)
    options = {"temperature": 0.5, "projection": [8, 4]}
    assert values == {"method_options": options, "seed": 3, "encoder": "swin-mini", "clip": None}


@pytest.mark.parametrize("setting", ["seed", "=3", "a.=3", ".a=3", "seed=[1"])
def test_settings_of_another_form(invoke, tmp_path, setting):
    text = invoke("pretrain", "--data", tmp_path, "--output", tmp_path / "run", "--set", setting, status=2)
    assert "expected name=value" in text


@pytest.mark.parametrize(("text", "message"), [("a: [", "is no YAML file"), ("- moco", "lines of `setting")])
def test_files_of_another_form(tmp_path, text, message):
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(PretrainingError, match=message):
        _read_config(tmp_path / "config.yaml")


@pytest.mark.keras
@pytest.mark.filterwarnings("ignore:The held-out files determine no temperature")
def test_probes_are_compared_and_kept(invoke, log_mel_root, preset, tmp_path):
    output, tagger = tmp_path / "probe.json", tmp_path / "tagger"
    text = invoke(
        "probe", "--model", preset, "--data", log_mel_root, "--kind", "linear", "--random",
        "--output", output, "--preset", tagger,
    )  # fmt: skip
    lines = text.splitlines()
    assert [line.split()[:2] for line in lines[:3]] == [
        ["features", "probe"],
        ["encoder", "linear"],
        ["random", "weights"],
    ]
    found = json.loads(output.read_text())
    assert (found["data"], found["split"], found["examples"]) == ("fma-small", "test", 12)
    assert [each["features"] for each in found["probes"]] == ["encoder", "random weights"]
    low, high = found["probes"][0]["intervals"]["accuracy"]
    assert low <= found["probes"][0]["metrics"]["accuracy"] <= high
    assert music_zoo.load(tagger).labels == ("Folk", "Rock")


@pytest.mark.keras
def test_the_test_split_is_left_alone(invoke, log_mel_root, preset, tmp_path, monkeypatch):
    from music_zoo.evaluation import embedded

    looked_at, real = [], embedded.embed_split
    monkeypatch.setattr(embedded, "embed_split", lambda *args: looked_at.append(args[2]) or real(*args))
    invoke("probe", "--model", preset, "--data", log_mel_root, "--kind", "knn", "--split", "validation")
    assert looked_at == ["train", "validation"]


@pytest.mark.keras
def test_data_without_labels_cannot_be_probed(invoke, preset, write_wav, tmp_path):
    import numpy as np

    write_wav("song.wav", np.ones(8000, np.float32))
    with pytest.raises(DatasetError, match="no labels"):
        invoke("probe", "--model", preset, "--data", tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--kind", "svm"], "expected linear, mlp, knn or all"),
        (["--split", "train"], "expected validation or test"),
        (["--kind", "knn", "--preset", "x"], "its head is a linear probe"),
        (["--figure", "x.png"], "give both"),
        (["--label-efficiency", "--figure", "x.doc"], "must end in one of"),
    ],
)
def test_probes_that_cannot_be(invoke, tmp_path, monkeypatch, options, message):
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)
    assert message in invoke("probe", "--model", "x", "--data", tmp_path, *options, status=2)


@pytest.mark.keras
def test_distill_hands_on_its_settings(invoke, log_mel_root, preset, tmp_path, monkeypatch):
    from music_zoo.pretraining import distillation

    calls = []
    monkeypatch.setattr(distillation, "distill", lambda *args: calls.append(args))
    invoke(
        "distill", "--teacher", preset, "--student", "swin-mini", "--data", log_mel_root,
        "--unlabelled", log_mel_root, "--output", tmp_path / "run", "--weight", 0.5, "--epochs", 3,
    )  # fmt: skip
    ((settings, teacher, dataset, output, unlabelled, *_),) = calls
    assert (settings.student, settings.weight, settings.epochs) == ("swin-mini", 0.5, 3)
    assert (teacher.name, dataset.name, unlabelled.name) == ("encoder", "fma-small", "fma-small")
    assert output == tmp_path / "run"
