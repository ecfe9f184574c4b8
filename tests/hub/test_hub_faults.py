"""Presets from the Hub while network, server or disk fail: whole and right, or a clear error."""

import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hub_server import READER, sha256

from music_zoo.errors import PresetError
from music_zoo.hub import sources
from music_zoo.hub.files import PRESET_FILES
from music_zoo.hub.manifest import PresetEntry, update_manifest
from music_zoo.hub.preset_files import read_preset, write_preset
from music_zoo.hub.schema import HubSource, UrlSource

CONFIG, WEIGHTS, GOLDEN = PRESET_FILES


@pytest.fixture(autouse=True)
def waits(monkeypatch) -> list[float]:
    """What was waited between attempts, in seconds; no time passes."""
    waits = []
    monkeypatch.setattr(time, "sleep", waits.append)
    return waits


@pytest.fixture
def preset(tmp_path) -> Path:
    """The folder of a preset with weights of 80 kB, so that half of them is something."""
    weights = {"w": np.arange(20_000, dtype=np.float32)}
    write_preset(tmp_path / "tiny", {"labels": ["a", "b", "c"]}, weights, {"x": np.ones(2)})
    return tmp_path / "tiny"


@pytest.fixture
def pinned(hub_client, preset, entry) -> PresetEntry:
    """The entry of the preset, which is in `org/tiny` of the Hub, with the commit."""
    source = HubSource(repo="org/tiny", revision=hub_client.new_repo("org/tiny", _files(preset)))
    return entry.model_copy(update={"sources": (source,)})


def _files(folder: Path) -> dict[str, bytes]:
    return {file: (folder / file).read_bytes() for file in PRESET_FILES}


def _of_weights(preset: Path) -> str:
    return f"GET /lfs/{sha256((preset / WEIGHTS).read_bytes())}"


def _assert_gives(folder: Path, preset: Path) -> None:
    assert _files(folder) == _files(preset)


def test_a_pinned_preset_is_read_once(hub_client, pinned, preset, tmp_path):
    folder = sources.fetch("tiny", pinned)
    _assert_gives(folder, preset)
    assert tmp_path / "home" in folder.parents
    assert f"HEAD /org/tiny/resolve/{pinned.sources[0].revision}/{WEIGHTS}" in hub_client.requests
    hub_client.stop()
    assert sources.fetch("tiny", pinned) == folder


def test_a_connection_cut_at_half_is_taken_up_there(hub_client, pinned, preset, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1000)  # else the client forgets up to 10 MB
    hub_client.misbehave(_of_weights(preset), "cut")
    _assert_gives(sources.fetch("tiny", pinned), preset)
    assert hub_client.ranges == [f"bytes={(preset / WEIGHTS).stat().st_size // 2 // 1000 * 1000}-"]


@pytest.mark.parametrize("kind", ["flip", "short", "long"])
@pytest.mark.parametrize("name", ["tiny", "hf://org/tiny"])
def test_wrong_bytes_are_got_again_and_refused_in_the_end(hub_client, pinned, preset, kind, name):
    def get() -> Path:
        if name == "tiny":
            return sources.fetch(name, pinned)
        return sources.fetch_hub_reference(name).folder  # which no manifest pins, but the Hub's own hash

    hub_client.misbehave(_of_weights(preset), kind, times=100)
    with pytest.raises(PresetError, match=rf"{WEIGHTS}.*(altered|should be of size)"):
        get()
    hub_client.faults.clear()
    _assert_gives(get(), preset)
    shutil.rmtree(os.environ["HF_HOME"])
    hub_client.misbehave(_of_weights(preset), kind)
    hub_client.misbehave(f"GET .*{CONFIG}", kind)
    _assert_gives(get(), preset)


@pytest.mark.parametrize(
    ("status", "message"), [(404, "Entry Not Found|404"), (401, "401"), (403, "gated|403")]
)
@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_refusals(hub_client, pinned, preset, status, message, method):
    on = f"HEAD .*{WEIGHTS}" if method == "HEAD" else _of_weights(preset)
    hub_client.misbehave(on, status)
    with pytest.raises(
        PresetError, match=rf"(?s){WEIGHTS} of hf://org/tiny@{pinned.sources[0].revision}: .*({message})"
    ):
        sources.fetch("tiny", pinned)
    _assert_gives(sources.fetch("tiny", pinned), preset)


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_a_busy_hub_is_asked_again(hub_client, pinned, preset, status, method, waits):
    hub_client.misbehave(
        f"HEAD .*{CONFIG}" if method == "HEAD" else _of_weights(preset), status, retry_after=2
    )
    _assert_gives(sources.fetch("tiny", pinned), preset)
    assert method == "HEAD" or 1 <= sum(waits) <= 4


def test_a_hub_that_stays_busy(hub_client, pinned, preset):
    hub_client.misbehave(_of_weights(preset), 503, times=100)
    with pytest.raises(
        PresetError, match=rf"(?s){WEIGHTS} of hf://org/tiny@{pinned.sources[0].revision}: .*503"
    ):
        sources.fetch("tiny", pinned)


def test_a_mirror_helps_out(hub_client, pinned, server, preset):
    mirror = UrlSource(base=server.address)
    hub_client.misbehave(".*", 404, times=100)
    entry = pinned.model_copy(update={"sources": (*pinned.sources, mirror)})
    _assert_gives(sources.fetch("tiny", entry), preset)


@pytest.mark.parametrize("settings", [{"private": True}, {"gated": True}], ids=str)
def test_private_and_gated_repositories(hub_client, pinned, preset, settings, monkeypatch):
    for name, value in settings.items():
        setattr(hub_client.repos["org/tiny"], name, value)
    with pytest.raises(PresetError, match="(?s)authenticated|restricted|gated"):
        sources.fetch("tiny", pinned)
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(PresetError, match="(?s)401.*credentials|Invalid"):
        sources.fetch("tiny", pinned)
    monkeypatch.setenv("HF_TOKEN", READER)
    _assert_gives(sources.fetch("tiny", pinned), preset)


def test_a_branch_that_moves_during_the_download(hub_client, pinned, preset):
    other = {file: b"other" for file in PRESET_FILES}
    hub_client.misbehave(f"GET .*{CONFIG}", lambda: hub_client.repos["org/tiny"].commit(other))
    snapshot = sources.fetch_hub_reference("hf://org/tiny@main")
    assert snapshot.source.revision == pinned.sources[0].revision
    _assert_gives(snapshot.folder, preset)
    _assert_gives(sources.fetch("tiny", pinned), preset)


def test_unknown_revisions_and_repositories(hub_client, pinned):
    for reference in ("hf://org/tiny@v2", f"hf://org/tiny@{'0' * 40}", "hf://org/nothing"):
        with pytest.raises(
            PresetError, match=f"(?s){CONFIG} of {reference}.*(Revision|Repository) Not Found"
        ):
            sources.fetch_hub_reference(reference)


def test_a_full_disk(hub_client, pinned, preset):
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))  # of a file, in place of all of them
    try:
        with pytest.raises(PresetError, match="cache cannot be written.* set HF_HOME to a writable folder"):
            sources.fetch("tiny", pinned)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    _assert_gives(sources.fetch("tiny", pinned), preset)


def _puller(pinned: PresetEntry, tmp_path: Path) -> subprocess.Popen:
    """Another process that pulls the preset into the same cache."""
    manifest = tmp_path / "manifest.json"
    update_manifest("tiny", pinned, manifest)
    script = (
        "import sys\nfrom music_zoo.hub import manifest, sources\n"
        "print(sources.fetch('tiny', manifest.read_manifest(sys.argv[1])['tiny']))"
    )
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "-c", script, manifest], **pipes)


def test_two_processes_at_once(hub_client, pinned, preset, tmp_path):
    processes = [_puller(pinned, tmp_path) for _ in range(2)]
    folders = {process.communicate(timeout=120)[0].strip() for process in processes}
    assert [process.returncode for process in processes] == [0, 0]
    (folder,) = folders
    _assert_gives(Path(folder), preset)


def test_killed_while_writing(hub_client, pinned, preset, tmp_path):
    process = _puller(pinned, tmp_path)
    hub_client.misbehave(_of_weights(preset), lambda: os.kill(process.pid, signal.SIGKILL))
    assert process.wait(timeout=120) == -signal.SIGKILL
    process.communicate()
    assert not list((tmp_path / "home").rglob(WEIGHTS)), "half of a file has not its name"
    _assert_gives(sources.fetch("tiny", pinned), preset)


def test_a_cache_that_went_bad_is_mended_and_told_of_offline(hub_client, pinned, preset):
    folder = sources.fetch("tiny", pinned)
    (folder / WEIGHTS).resolve().write_bytes(b"rotten")
    assert sources.fetch("tiny", pinned) == folder
    _assert_gives(folder, preset)
    (folder / WEIGHTS).resolve().write_bytes(b"rotten")
    hub_client.stop()
    with pytest.raises(PresetError, match=f"{WEIGHTS} is incomplete or altered.*once more did not help"):
        sources.fetch("tiny", pinned)


def test_a_cache_that_cannot_be_written(hub_client, pinned, tmp_path):
    (tmp_path / "home").write_text("not a folder")
    with pytest.raises(PresetError, match="cache cannot be written.* set HF_HOME to a writable folder"):
        sources.fetch("tiny", pinned)


def test_references_give_the_commit_and_are_read_once(hub_client, pinned, preset):
    commit = pinned.sources[0].revision
    hub_client.repos["org/tiny"].refs["v1.0"] = commit
    reference = f"hf://org/tiny@{commit}"
    found = [sources.fetch_hub_reference(name) for name in ("hf://org/tiny", reference, "hf://org/tiny@v1.0")]
    assert [str(snapshot.source) for snapshot in found] == [reference] * 3
    assert hub_client.requests.count(_of_weights(preset)) == 1
    hub_client.stop()
    assert sources.fetch_hub_reference("hf://org/tiny") == found[0]


def test_references_without_golden_tensors(hub_client, preset):
    files = {file: data for file, data in _files(preset).items() if file != GOLDEN}
    hub_client.new_repo("org/tiny", files)
    folder = sources.fetch_hub_reference("hf://org/tiny").folder
    assert read_preset(folder).golden is None
    hub_client.stop()
    assert sources.fetch_hub_reference("hf://org/tiny").folder == folder
