"""Exported files in 8-bit integers: near what they were in floats; what goes wrong leaves nothing."""

import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from music_zoo import cli, quantization
from music_zoo.errors import ExportError
from music_zoo.onnx_model import OnnxModel

pytestmark = pytest.mark.skipif(
    not all(map(find_spec, ("onnx", "onnxruntime"))), reason="quantization needs music-zoo[export]"
)
RATE = 8000


def chirps(seconds: float, seed: int) -> np.ndarray:
    """Gliding tones in a little noise, `(samples,)`."""
    rng = np.random.default_rng(seed)
    time = np.arange(int(seconds * RATE)) / RATE
    tones = [
        np.sin(2 * np.pi * (f + g * time) * time) for f, g in rng.uniform((100, 10), (1500, 300), (4, 2))
    ]
    return (0.2 * sum(tones) / 4 + 0.01 * rng.normal(size=len(time))).astype(np.float32)


@pytest.fixture(scope="module")
def music(tmp_path_factory):
    folder = tmp_path_factory.mktemp("music")
    for seed in range(5):
        soundfile.write(folder / f"{seed}.wav", chirps(4.0, seed), RATE)
    return sorted(folder.iterdir())


def network(path, logarithm: bool = True, convolutions: bool = True):
    """Write an ONNX file like those of `music_zoo.export`: frames, logarithm, two convolutions, softmax."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    weights = {
        "front": rng.normal(size=(32, 1, 64)) / 8,
        "first": rng.normal(size=(16, 1, 3, 3)) / 3,
        "second": rng.normal(size=(16, 16, 3, 3)) / 12,
        "head": rng.normal(size=(16, 3)),
    }
    constants = [numpy_helper.from_array(w.astype(np.float32), name) for name, w in weights.items()]
    constants += [
        numpy_helper.from_array(np.array(value, kind), name)
        for name, value, kind in (
            ("signal", [0, 1, RATE], np.int64),
            ("image", [0, 1, 32, -1], np.int64),
            ("pixels", [2, 3], np.int64),
            ("tiny", 1e-4, np.float32),
        )
    ]
    steps = [
        ("Reshape", ["waveform", "signal"], "one", {}),
        ("Conv", ["one", "front"], "bands", {"strides": [32]}),
        ("Mul", ["bands", "bands"], "power", {}),
        ("Add", ["power", "tiny"], "floored", {}),
        ("Log" if logarithm else "Identity", ["floored"], "decibels", {}),
        ("Reshape", ["decibels", "image"], "seen", {}),
        ("Conv", ["seen", "first"], "one_conv", {}),
        ("Relu", ["one_conv"], "relu", {}),
        ("Conv", ["relu", "second"], "two_conv", {}),
        ("ReduceMean", ["two_conv", "pixels"], "embedding", {"keepdims": 0}),
        ("MatMul", ["embedding", "head"], "logits", {}),
        ("Softmax", ["logits"], "probabilities", {"axis": -1}),
    ]
    if not convolutions:
        steps[6:9] = [
            ("Conv", ["one", "front"], "unused", {}),
            ("Tile", ["seen", "channels"], "two_conv", {}),
        ]
        constants.append(numpy_helper.from_array(np.array([1, 16, 1, 1]), "channels"))
    nodes = [helper.make_node(op, inputs, [out], name=out, **more) for op, inputs, out, more in steps]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("waveform", TensorProto.FLOAT, ["batch", RATE])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", 3])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    about = {"name": "toy", "task": "single_label", "labels": '["a", "b", "c"]', "sample_rate": str(RATE)}
    helper.set_model_props(model, about | {"window": "1.0", "window_samples": str(RATE)})
    onnx.save(model, path)
    return path


def test_probabilities_stay_near_and_the_file_says_how_near(tmp_path, music):
    source = network(tmp_path / "model.onnx")
    found = quantization.quantize(source, tmp_path / "small.onnx", music)
    assert (found.windows, found.unused) == (10, {})  # four of each of five files, half to look at
    small, model = OnnxModel(found.path), OnnxModel(source)
    windows = np.stack([chirps(1.0, seed) for seed in range(20, 28)])
    difference = np.abs(small.predict_on_batch(windows) - model.predict_on_batch(windows))
    assert 0 < difference.max() < 0.05
    assert difference.mean() < quantization.TOLERANCE
    assert (small.name, small.labels, small.window_samples) == (model.name, model.labels, RATE)
    about = small._session.get_modelmeta().custom_metadata_map["quantization"]
    assert about.endswith(
        f"on 10 windows probabilities differ by {found.mean:.2g} on average, {found.largest:.2g} at most"
    )


def test_the_front_end_stays_in_floats(tmp_path, music):
    import onnx

    found = quantization.quantize(network(tmp_path / "model.onnx"), tmp_path / "small.onnx", music)
    graph = onnx.load(found.path).graph
    shapes = [
        list(w.dims) for w in graph.initializer if w.data_type == onnx.TensorProto.INT8 and len(w.dims) > 1
    ]
    assert shapes == [[16, 1, 3, 3], [16, 16, 3, 3]]


def test_the_command(tmp_path, music):
    source = network(tmp_path / "model.onnx")
    (tmp_path / "noise.mp3").write_bytes(b"no audio")
    arguments = ["quantize", source, music[0].parent, tmp_path / "noise.mp3", "--output", tmp_path / "q.onnx"]
    result = CliRunner().invoke(cli.app, list(map(str, arguments)))
    assert result.exit_code == 0, result.output
    assert f"wrote {tmp_path / 'q.onnx'}" in result.stderr and "on 10 other windows" in result.stderr
    assert "noise.mp3: " in result.stderr
    tagged = CliRunner().invoke(
        cli.app, ["tag", str(music[0]), "--engine", "onnx", "--model", str(tmp_path / "q.onnx")]
    )
    assert tagged.exit_code == 0, tagged.output


def test_no_keras_is_imported():
    code = "import sys, music_zoo.quantization; sys.exit(bool({'keras', 'onnx'} & {*sys.modules}))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("files", "tolerance", "error"),
    [
        (1, 0.01, "at least 8 windows of 1.0 s.* found 4 in 1 files: name more"),
        (5, 1e-9, "differ by .* on average from .*expected at most 1e-09.*is not written"),
    ],
    ids=["too little music", "too different"],
)
def test_what_cannot_be_leaves_the_older_file(tmp_path, music, monkeypatch, files, tolerance, error):
    monkeypatch.setattr(quantization, "TOLERANCE", tolerance)
    (tmp_path / "small.onnx").write_text("older")
    with pytest.raises(ExportError, match=error):
        quantization.quantize(network(tmp_path / "m.onnx"), tmp_path / "small.onnx", music[:files])
    assert (tmp_path / "small.onnx").read_text() == "older"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.onnx", "small.onnx"]


def test_a_network_without_convolutions(tmp_path, music):
    source = network(tmp_path / "model.onnx", convolutions=False)
    with pytest.raises(ExportError, match="no convolution behind its front end"):
        quantization.quantize(source, tmp_path / "small.onnx", music)


def test_a_convolution_behind_another_needs_no_logarithm(tmp_path, music):
    import onnx

    source = network(tmp_path / "model.onnx", logarithm=False)
    assert quantization._behind_front_end(onnx.load(source)) == ["one_conv", "two_conv"]


def test_a_missing_package(tmp_path, music, monkeypatch):
    monkeypatch.setattr(quantization, "find_spec", lambda name: None)
    with pytest.raises(ExportError, match=r"needs onnx, onnxruntime.*pip install \"music-zoo\[export\]\""):
        quantization.quantize(tmp_path / "model.onnx", tmp_path / "small.onnx", music)
