"""`music-zoo tag --engine onnx`: the probabilities of Keras, without Keras."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest
from small import small_classifier, song
from test_backend import LIGHT_INSTALL

from music_zoo import export
from music_zoo.errors import AudioError, ExportError
from music_zoo.onnx_model import OnnxModel

pytestmark = [
    pytest.mark.keras,
    pytest.mark.skipif(
        os.environ.get("KERAS_BACKEND") != "tensorflow", reason="TensorFlow converts, and its runs test that"
    ),
    pytest.mark.skipif(
        not all(map(find_spec, export.PACKAGES["onnx"])), reason="needs music-zoo[tensorflow,export]"
    ),
]


@pytest.fixture(scope="module")
def classifier():
    return small_classifier(name="three")


@pytest.fixture(scope="module")
def exported(classifier, tmp_path_factory):
    return classifier.export_onnx(tmp_path_factory.mktemp("exported") / "three.onnx")


def test_files_get_the_probabilities_of_keras(classifier, exported, write_wav, tmp_path):
    (tmp_path / "broken.wav").write_text("no audio")
    files = [write_wav("long.wav", song(3.4)), tmp_path / "broken.wav", write_wav("short.wav", song(0.7))]
    settings = {"hop": 0.5, "min_confidence": 0.4}
    heard = []
    found = list(OnnxModel(exported).classify_many(files, progress=heard.append, **settings))
    expected = list(classifier.classify_many(files, **settings))
    assert isinstance(found[1], AudioError) and str(found[1]) == str(expected[1])
    for a, b in ((found[0], expected[0]), (found[2], expected[2])):
        np.testing.assert_allclose(a.taggram, b.taggram, rtol=0, atol=1e-5)
        np.testing.assert_array_equal(a.times, b.times)
        assert (a.source, a.model, a.task, a.labels) == (b.source, "three", b.task, ("a", "b", "c"))
        assert (a.duration, a.notes, a.min_confidence) == (b.duration, b.notes, 0.4)
    assert len(found[0].times) == 6
    assert sum(heard) == pytest.approx(3.4 + 0.7, abs=1e-3)


def test_the_command_runs_in_a_light_install(classifier, exported, write_wav):
    """Where neither Keras nor anything else that only models need can be imported."""
    file = write_wav("song.wav", song(2.0))
    program = LIGHT_INSTALL + "from music_zoo.cli import main; main()"
    command = [sys.executable, "-c", program, "tag", file, "--engine", "onnx", "--model", exported, "--json"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    (expected,) = classifier.classify_many([file])
    got = json.loads(done.stdout)["probabilities"]
    assert list(got) == ["a", "b", "c"]
    np.testing.assert_allclose(list(got.values()), expected.probabilities, rtol=0, atol=1e-5)


@pytest.mark.parametrize("hop", [-1, 0, 1.5])
def test_a_hop_out_of_range(exported, hop):
    with pytest.raises(ValueError, match=f"between 0 and the window of 1.0 s, got {hop}"):
        OnnxModel(exported).classify_many([], hop=hop)


@pytest.mark.parametrize("content", [None, b"", b"no onnx"])
def test_another_file(tmp_path, content):
    if content is not None:
        (tmp_path / "model.onnx").write_bytes(content)
    with pytest.raises(ExportError, match="model.onnx: expected an ONNX file.*`music-zoo export`"):
        OnnxModel(tmp_path / "model.onnx")


def test_onnx_of_others(exported, tmp_path):
    import onnx

    other = onnx.load(exported)
    del other.metadata_props[:]
    onnx.save(other, tmp_path / "model.onnx")
    with pytest.raises(ExportError, match="that `music-zoo export` wrote: KeyError: 'name'"):
        OnnxModel(tmp_path / "model.onnx")


def test_without_onnxruntime(exported, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ExportError, match=r'pip install "music-zoo\[onnx\]"'):
        OnnxModel(exported)
