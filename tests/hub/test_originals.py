"""Originals: found, checked, converted once; whatever goes wrong, the cache is as it was."""

import hashlib
import io
import json
import pickle
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest

from music_zoo import zoo
from music_zoo.errors import PresetError
from music_zoo.hub import originals, preset_files, sources
from music_zoo.hub.manifest import PresetEntry
from music_zoo.hub.preset_files import read_preset
from music_zoo.hub.schema import OriginalFile, OriginalSource
from music_zoo.models import fcn

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.keras

CONFIG = {
    "front_end": {
        "sample_rate": 4000,
        "layers": [
            {"layer": "STFT", "config": {"n_fft": 64, "hop_length": 32}},
            {
                "layer": "MelFilterBank",
                "config": {"sample_rate": 4000, "n_fft": 64, "n_mels": 8, "scale": "htk"},
            },
        ],
    },
    "backbone": {"architecture": "FCN", "config": {"n_mels": 8, "widths": (2,), "pools": ((8, 2),)}},
    "task": "multi_label",
    "window": 0.1,
    "pooling": "mean",
    "dropout": 0.0,
}
SHAPES = {
    "spec.mel_scale.fb": (33, 8),
    **{f"spec_bn.{part}": (1,) for part in ("weight", "bias", "running_mean", "running_var")},
    "layer1.conv.weight": (2, 1, 3, 3),
    "layer1.conv.bias": (2,),
    **{f"layer1.bn.{part}": (2,) for part in ("weight", "bias", "running_mean", "running_var")},
    "dense.weight": (3, 2),
    "dense.bias": (3,),
}


def checkpoint(**changes) -> bytes:
    """What torch.save writes of a tiny network's state dict; shapes can be changed, None takes one out."""
    rng = np.random.default_rng(0)
    shapes = {name: shape for name, shape in (SHAPES | changes).items() if shape is not None}
    state = {
        name: torch.tensor(rng.uniform(0.5, 1, shape), dtype=torch.float32) for name, shape in shapes.items()
    }
    file = io.BytesIO()
    torch.save(state, file)
    return file.getvalue()


def zipped(*contents: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for number, content in enumerate(contents):
            archive.writestr(f"folder/{number}.pt", content)
    return file.getvalue()


class Planted:
    def __reduce__(self):
        return eval, ("open('planted', 'w')",)


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A copy of the originals, which takes the place of the authors' addresses."""
    monkeypatch.setitem(fcn.CONFIGS, "fcn-tiny", CONFIG)
    monkeypatch.setenv("MUSIC_ZOO_ORIGINALS", str(tmp_path / "originals"))
    monkeypatch.chdir(tmp_path)  # where a planted program would leave its trace
    return tmp_path / "originals"


@pytest.fixture
def cache(tmp_path) -> Path:
    """A cache that holds something else already."""
    other = tmp_path / "cache" / "presets" / "other" / "0"
    other.mkdir(parents=True)
    (other / "config.json").write_text("{}")
    return tmp_path / "cache"


@pytest.fixture
def publish(folder, entry):
    """Puts a file where the authors have it, and returns the entry that pins it."""

    def put(
        content: bytes, path: str = "mtat/fcn/model.pth", pinned: bytes | None = None, **pins
    ) -> PresetEntry:
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        pinned = content if pinned is None else pinned
        pins = pins or {"size": len(pinned), "sha256": hashlib.sha256(pinned).hexdigest()}
        original = OriginalFile(url="https://example.org/" + path, path=path, **pins)
        source = OriginalSource(originals=(original,), conversion="fcn", config="fcn-tiny")
        return entry.model_copy(update={"sources": (source,), "files": {}})

    return put


def git_blob(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def test_converted_once_then_served_by_the_cache(publish, folder, cache):
    entry = publish(checkpoint())
    seen = []
    made = sources.fetch("tiny", entry, cache, progress=lambda *step: seen.append(step))
    size = entry.sources[0].originals[0].size
    assert seen == [("0-model.pth", size, size)]
    files = read_preset(made)
    assert files.golden is None and files.config["classifier"]["name"] == "tiny"
    state = torch.load(folder / "mtat/fcn/model.pth")
    np.testing.assert_array_equal(files.tensors["head.kernel"], state["dense.weight"].numpy().T)
    (folder / "mtat/fcn/model.pth").unlink()
    before = tree(cache)
    assert sources.fetch("tiny", entry, cache) == made
    assert tree(cache) == before and not [name for name in before if ".tmp" in name or name.endswith(".pth")]


def test_load_gives_the_originals_outputs(publish, cache, monkeypatch):
    entry = publish(checkpoint())
    monkeypatch.setattr(zoo, "read_manifest", lambda: {"tiny": entry})
    classifier = zoo.load("tiny", cache_dir=cache)
    assert (classifier.labels, classifier.name) == (entry.labels, "tiny")
    features = np.ones((1, 8, 6), np.float32)
    state = torch.load(Path("originals/mtat/fcn/model.pth"))

    def norm(x, name):
        return torch.nn.functional.batch_norm(
            x, *(state[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
        )

    x = norm(torch.tensor(features)[:, None], "spec_bn")
    x = torch.nn.functional.conv2d(x, state["layer1.conv.weight"], state["layer1.conv.bias"], padding=1)
    x = torch.nn.functional.max_pool2d(norm(x, "layer1.bn").relu(), (8, 2)).mean((2, 3))
    expected = torch.sigmoid(x @ state["dense.weight"].T + state["dense.bias"])
    probabilities = keras.ops.convert_to_numpy(classifier.features_model(features))
    np.testing.assert_allclose(probabilities, expected.numpy(), rtol=0, atol=1e-6)
    own = zoo.load("tiny", cache_dir=cache, labels=["calm", "tense"])
    assert own.labels == ("calm", "tense")


def test_over_a_connection(publish, server, cache, monkeypatch):
    entry = publish(checkpoint())
    server.folder = Path("originals/mtat/fcn")
    monkeypatch.setenv("MUSIC_ZOO_ORIGINALS", f"{server.address}/mirror/")
    sources.fetch("tiny", entry, cache)
    assert server.requests == ["GET /mirror/mtat/fcn/model.pth"]


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("404", "HTTP Error 404"),
        ("wrong bytes", "is not the file expected: got .*, expected .*git blob="),
        ("cut", "broke off: expected .* bytes, .* came; try again"),
        ("cut, unannounced", "is not the file expected: got"),
        ("redirect to http", "redirected to an address that is not https"),
    ],
)
def test_a_server_that_misbehaves(publish, server, cache, monkeypatch, fault, message):
    content = checkpoint()
    entry = publish(content, git_blob=git_blob(content))  # its size is not known
    server.folder = Path("originals/mtat/fcn")
    server.faults = {"model.pth": fault}
    monkeypatch.setenv("MUSIC_ZOO_ORIGINALS", server.address)
    before = tree(cache)
    with pytest.raises(PresetError, match=message) as caught:
        sources.fetch("tiny", entry, cache)
    assert "https://example.org/mtat/fcn/model.pth" in str(caught.value) and server.address in str(
        caught.value
    )
    assert tree(cache) == before


def test_the_authors_address_without_a_copy(publish, server, cache, monkeypatch):
    entry = publish(checkpoint())
    server.folder = Path("originals/mtat/fcn")
    monkeypatch.delenv("MUSIC_ZOO_ORIGINALS")
    original = entry.sources[0].originals[0]
    here = original.model_copy(update={"url": f"{server.address}/commit/model.pth"})
    source = entry.sources[0].model_copy(update={"originals": (here,)})
    sources.fetch("tiny", entry.model_copy(update={"sources": (source,)}), cache)
    assert server.requests == ["GET /commit/model.pth"]


HOSTILE = pickle.dumps({"dense.bias": Planted()})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (checkpoint(**{"dense.bias": None}), "1 missing: dense.bias"),
        (checkpoint(**{"teacher.bias": (3,)}), "1 left over: teacher.bias"),
        (checkpoint(**{"dense.weight": (4, 2)}), r"1 of another shape: dense.weight \(4, 2\)"),
        (HOSTILE, "wants to use builtins.eval.* It was not run"),
        (b"no checkpoint", "expected a PyTorch checkpoint"),
        (checkpoint()[:-100], "expected a PyTorch checkpoint"),
    ],
    ids=["missing", "left over", "misshapen", "hostile", "other", "cut"],
)
def test_a_checkpoint_that_is_pinned_but_cannot_be_used(publish, cache, content, message):
    entry = publish(content)
    before = tree(cache)
    with pytest.raises(PresetError, match=message):
        sources.fetch("tiny", entry, cache)
    assert tree(cache) == before
    assert not Path("planted").exists()


@pytest.mark.parametrize("known", ["sha256", "git_blob", "size"])
def test_what_is_not_pinned_is_not_even_opened(publish, cache, monkeypatch, known):
    good = checkpoint()
    other = HOSTILE + b"\0" * (len(good) - len(HOSTILE)) if known != "size" else good + b"\0"
    pins = {"sha256": hashlib.sha256(good).hexdigest(), "git_blob": git_blob(good), "size": len(good)}
    entry = publish(
        other, **{known: pins[known]} | ({"git_blob": pins["git_blob"]} if known == "size" else {})
    )
    monkeypatch.setattr(originals, "convert_to_preset", None)  # would be called
    before = tree(cache)
    with pytest.raises(PresetError, match="is not the file expected"):
        sources.fetch("tiny", entry, cache)
    assert tree(cache) == before


@pytest.mark.parametrize("where", ["write_preset", "put_in_place"])
@pytest.mark.parametrize("interruption", [KeyboardInterrupt, MemoryError])
def test_an_interrupted_conversion(publish, cache, monkeypatch, where, interruption):
    def interrupted(*arguments):
        if where == "write_preset":
            preset_files._write_tensors(Path(arguments[0]).parent / "half", arguments[2])
        raise interruption

    entry = publish(checkpoint())
    before = tree(cache)
    with monkeypatch.context() as patch, pytest.raises(interruption):
        patch.setattr(preset_files if where == "write_preset" else originals, where, interrupted)
        sources.fetch("tiny", entry, cache)
    assert tree(cache) == before
    read_preset(sources.fetch("tiny", entry, cache))


@pytest.mark.parametrize("file", ["model.safetensors", "config.json", "files.json"])
@pytest.mark.parametrize("harm", ["altered", "missing"])
def test_a_conversion_that_went_bad_is_made_anew(publish, folder, cache, file, harm):
    entry = publish(checkpoint())
    made = sources.fetch("tiny", entry, cache)
    good = tree(cache)
    if harm == "missing":
        (made / file).unlink()
    else:
        data = (made / file).read_bytes()
        (made / file).write_bytes(data[:-2] + bytes([data[-2] ^ 1]) + data[-1:])
    bad = tree(cache)
    (folder / "mtat/fcn/model.pth").rename(folder / "elsewhere")
    with pytest.raises(PresetError, match="No such file"):
        sources.fetch("tiny", entry, cache)
    assert tree(cache) == bad
    (folder / "elsewhere").rename(folder / "mtat/fcn/model.pth")
    assert sources.fetch("tiny", entry, cache) == made
    assert tree(cache) == good


def test_another_process_was_faster(publish, cache, tmp_path):
    made = sources.fetch("tiny", publish(checkpoint()), cache)
    good = tree(cache)
    (tmp_path / "late").mkdir()
    originals.put_in_place(tmp_path / "late", made)
    assert tree(cache) == good


def test_another_file_gets_another_folder(publish, cache):
    first = sources.fetch("tiny", publish(checkpoint()), cache)
    second = sources.fetch("tiny", publish(checkpoint(**{"spec.mel_scale.fb": None})), cache)
    assert first != second and first.is_dir() and second.is_dir()


def test_an_archive_is_searched_for_the_pinned_file(publish, cache):
    good = checkpoint()
    entry = publish(zipped(b"read me", good), "clmr/head.zip", git_blob=git_blob(good))
    assert "head.kernel" in read_preset(sources.fetch("tiny", entry, cache)).tensors


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (zipped(b"read me"), "expected an archive of the file git blob=.*, it holds no such file"),
        (b"no archive", "expected an archive, found BadZipFile"),
        (zipped(checkpoint())[:-30], "expected an archive, found BadZipFile"),
    ],
)
def test_an_archive_without_it(publish, cache, content, message):
    before = tree(cache)
    with pytest.raises(PresetError, match=message):
        sources.fetch("tiny", publish(content, "clmr/head.zip", git_blob=git_blob(checkpoint())), cache)
    assert tree(cache) == before


def test_a_head_in_a_file_of_its_own(publish, folder, cache):
    whole = {name: shape for name, shape in SHAPES.items() if not name.startswith("dense")}
    names = dict.fromkeys(SHAPES)
    body = publish(checkpoint(**{n: None for n in names if n not in whole})).sources[0]
    entry = publish(checkpoint(**{n: None for n in whole}), "mtat/fcn/head.pth")
    source = entry.sources[0]
    both = source.model_copy(update={"originals": body.originals + source.originals})
    made = sources.fetch("tiny", entry.model_copy(update={"sources": (both,)}), cache)
    assert {"head.kernel", "backbone.layer1_conv.kernel"} <= read_preset(made).tensors.keys()


@pytest.mark.parametrize(
    "mirror", ["http://example.org", "ftp://example.org", "https://user:word@example.org"]
)
def test_a_copy_at_an_unsafe_address(publish, cache, monkeypatch, mirror):
    entry = publish(checkpoint())
    monkeypatch.setenv("MUSIC_ZOO_ORIGINALS", mirror)
    with pytest.raises(PresetError, match="MUSIC_ZOO_ORIGINALS: expected a folder or an https address"):
        sources.fetch("tiny", entry, cache)


def test_a_file_in_the_place_of_the_cache(publish, tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(PresetError, match=r"cannot be written: .*; set MUSIC_ZOO_CACHE to a folder"):
        sources.fetch("tiny", publish(checkpoint()), tmp_path / "file")


def test_records_say_what_the_folder_holds(publish, cache):
    made = sources.fetch("tiny", publish(checkpoint()), cache)
    records = json.loads((made / "files.json").read_text())
    assert {file: record["size"] for file, record in records.items()} == {
        file: (made / file).stat().st_size for file in ("config.json", "model.safetensors")
    }
