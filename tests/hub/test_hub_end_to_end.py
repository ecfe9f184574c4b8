"""Publish, pull, verify, load, classify: the whole way over the Hub, by the commands that users give."""

import json

import numpy as np
import pytest
from hub_server import WRITER
from small import SAMPLE_RATE, small_classifier, song
from typer.testing import CliRunner

import music_zoo
from music_zoo.cli import app
from music_zoo.errors import PresetError
from music_zoo.golden import make_golden
from music_zoo.hub.manifest import read_manifest, update_manifest
from music_zoo.hub.schema import BundledSource, HubSource
from music_zoo.hub.sources import BUNDLED_PRESETS

pytestmark = pytest.mark.keras

TEXTS = {
    "description": "For tests.",
    "license": "CC0-1.0",
    "training_data": "None.",
    "limits": "It knows nothing.",
}


@pytest.fixture
def invoke():
    def invoke(*args) -> str:
        run = CliRunner().invoke(app, [str(arg) for arg in args], catch_exceptions=False)
        assert run.exit_code == 0, run.output
        return run.output

    return invoke


@pytest.fixture
def manifest(hub_client, tmp_path, monkeypatch):
    """A manifest that does not exist yet, in place of music_zoo's own; the client may write."""
    monkeypatch.setenv("MUSIC_ZOO_MANIFEST", str(tmp_path / "manifest.json"))
    monkeypatch.setenv("HF_TOKEN", WRITER)
    return tmp_path / "manifest.json"


def _check_the_way_back(name, expected, heard, hub, invoke, monkeypatch, tmp_path):
    """Pull, verify, load and classify without rights, on empty caches; load again without the server."""
    (source,) = read_manifest()[name].sources
    assert isinstance(source, HubSource)
    monkeypatch.delenv("HF_TOKEN")
    assert not (tmp_path / "home").exists() and not (tmp_path / "cache").exists()
    assert str(tmp_path / "home") in invoke("pull", name)
    assert f"{name}: files intact, outputs as recorded" in invoke("verify", name)
    for stop in (hub.stop, lambda: None):
        given = music_zoo.load(name).classify(*heard)
        np.testing.assert_allclose(given.probabilities, expected.probabilities, rtol=0, atol=1e-6)
        assert given.labels == expected.labels
        stop()


def test_a_bundled_preset(hub_client, manifest, invoke, monkeypatch, tmp_path):
    name, heard = "resnet-gtzan", (song(3.0, 22050), 22050)
    expected = music_zoo.load(BUNDLED_PRESETS / name).classify(*heard)
    monkeypatch.delenv("MUSIC_ZOO_MANIFEST")
    entry = read_manifest()[name]
    monkeypatch.setenv("MUSIC_ZOO_MANIFEST", str(manifest))
    update_manifest(name, entry)
    invoke("publish", name, "--repo", f"org/{name}", "--push")
    published = read_manifest()[name]
    elsewhere = tuple(source for source in published.sources if source != BundledSource())
    update_manifest(name, published.model_copy(update={"sources": elsewhere}))  # as if not bundled
    _check_the_way_back(name, expected, heard, hub_client, invoke, monkeypatch, tmp_path)


def test_a_preset_of_ones_own(hub_client, manifest, invoke, monkeypatch, tmp_path):
    own, heard = small_classifier(name="own-net"), (song(2.5), SAMPLE_RATE)
    own.save_preset(tmp_path / "own")
    (tmp_path / "card.json").write_text(json.dumps(TEXTS))
    publish = ("publish", tmp_path / "own", "--card", tmp_path / "card.json", "--repo", "org/own-net")
    assert "# own-net\n\nFor tests." in invoke(*publish) and not manifest.exists()
    invoke(*publish, "--push")
    assert read_manifest()["own-net"].parameters == own.count_params()
    _check_the_way_back("own-net", own.classify(*heard), heard, hub_client, invoke, monkeypatch, tmp_path)


def test_texts_that_are_missing(tmp_path):
    from music_zoo.hub.publish import new_entry

    small_classifier().save_preset(tmp_path / "own")
    texts = tmp_path / "card.json"
    for content, message in (
        (json.dumps({"description": "x"}), "license: Field required"),
        (json.dumps({**TEXTS, "colour": "red"}), "colour: Extra inputs"),
        ("[]", "expected the texts of a manifest's entry as JSON"),
        ("{", "expected the texts of a manifest's entry as JSON"),
    ):
        texts.write_text(content)
        with pytest.raises(PresetError, match=message):
            new_entry(tmp_path / "own", texts, "org/own")


def test_golden_outputs_are_checked_on_the_first_load_only(hub_client, tmp_path, monkeypatch):
    model = small_classifier(name="changed")
    golden = make_golden(model)
    golden["probabilities"] = golden["probabilities"][:, ::-1].copy()
    model.save_preset(tmp_path / "bad", golden)
    model.save_preset(tmp_path / "good")
    for name in ("bad", "good"):
        files = {file.name: file.read_bytes() for file in (tmp_path / name).iterdir()}
        hub_client.new_repo(f"org/{name}", files)
    for _ in range(2):
        with pytest.raises(PresetError, match="probabilities of the golden input differs by"):
            music_zoo.load("hf://org/bad")
    with pytest.raises(PresetError, match="golden input differs"):
        music_zoo.load("hf://org/bad", labels=["x", "y"])
    assert music_zoo.load("hf://org/good", labels=["x", "y"]).labels == ("x", "y")
    monkeypatch.setattr("music_zoo.golden.check_golden", None)  # would be called
    assert music_zoo.load("hf://org/good").labels == model.labels
