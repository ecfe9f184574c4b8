"""Presets converted from their authors' checkpoints: entries that fit the networks, and the way there."""

import re
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

import music_zoo
from music_zoo.classifier import Classifier
from music_zoo.cli import app
from music_zoo.hub.convert import TABLES
from music_zoo.hub.schema import OriginalSource
from music_zoo.models import named_configs

pytestmark = pytest.mark.keras

PARITY = Path(__file__).parent / "parity"

ENTRIES = {
    name: (entry, source)
    for name, entry in ((name, music_zoo.describe(name)) for name in music_zoo.list_models())
    for source in entry.sources
    if isinstance(source, OriginalSource)
}
#: One of each network; those of another data set differ in nothing that is built.
NETWORKS = {(source.config, len(entry.labels)): (entry, source) for entry, source in ENTRIES.values()}


@pytest.mark.parametrize("name", ENTRIES)
def test_entry_pins_the_file_and_says_whose_it_is(name):
    entry, source = ENTRIES[name]
    assert any(
        fnmatchcase(name, f"*-{dataset}") for dataset in ("mtat", "msd", "jamendo", "jamendo-moodtheme")
    )
    for original in source.originals:
        assert original.git_blob, "the repositories' own pin; covers the length, too"
        assert re.search(r"/[0-9a-f]{40}/|/releases/download/", original.url), "an address that does not move"
    assert entry.license and entry.citation
    assert all(result.source and not result.command for result in entry.results)
    assert [label for label in entry.labels if label != label.strip()] == []


def test_no_file_is_listed_twice():
    originals = [original for _, source in ENTRIES.values() for original in source.originals]
    for pin in ("url", "path", "git_blob"):
        assert len({getattr(original, pin) for original in originals}) == len(originals)


@pytest.mark.parametrize("network", NETWORKS, ids=str)
def test_entry_describes_the_network_and_its_table_knows_every_tensor(network):
    entry, source = NETWORKS[network]
    labels = {"labels": entry.labels, "name": "test"}
    classifier = Classifier.from_config(named_configs()[source.config] | labels)
    same = [e for e, s in ENTRIES.values() if (s.config, len(e.labels)) == network]
    assert {e.architecture for e in same} == {type(classifier.backbone).__name__}
    assert {e.task for e in same} == {classifier.task}
    assert {(e.sample_rate, e.window_seconds) for e in same} == {(classifier.sample_rate, classifier.window)}
    assert {e.parameters for e in same} == {classifier.count_params()}
    unknown = [name for name in classifier.tensors() if TABLES[source.conversion].origin(name) is None]
    assert unknown == ["calibrator.temperature"]


def test_tag_a_song_with_the_cache_filled_from_a_copy(shared_data, tmp_path, monkeypatch):
    """The tags are the means of what the original gives for each window; the second time needs no source."""
    audio, rate = soundfile.read(shared_data / "parity" / "vibe_ace_16k_29s.flac", dtype="int16")
    soundfile.write(tmp_path / "song.flac", audio[: 27 * rate], rate)  # nine windows of three seconds
    with np.load(PARITY / "published_mtat_musicnn.npz") as stored:
        expected = stored["clip_output"].mean(axis=0)
    monkeypatch.setenv("MUSIC_ZOO_CACHE", str(tmp_path / "cache"))
    for copy in (shared_data / "originals", tmp_path / "nowhere"):
        monkeypatch.setenv("MUSIC_ZOO_ORIGINALS", str(copy))
        command = ["tag", str(tmp_path / "song.flac"), "--model", "musicnn-mtat", "--csv"]
        run = CliRunner().invoke(app, command, catch_exceptions=False)
        assert run.exit_code == 0, run.output
        tags = dict(zip(*(line.split(",") for line in run.stdout.splitlines()), strict=True))
        assert tags["label"] == "techno"
        given = [float(tags[label]) for label in music_zoo.describe("musicnn-mtat").labels]
        np.testing.assert_allclose(given, expected, rtol=0, atol=1e-4)
