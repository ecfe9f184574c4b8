"""Fetching presets: each source, over real connections on this machine, and the ways in which it fails."""

import contextlib
import os
import shutil
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from music_zoo.errors import PresetError
from music_zoo.hub import sources
from music_zoo.hub.files import PRESET_FILES
from music_zoo.hub.preset_files import read_preset
from music_zoo.hub.schema import BundledSource, UrlSource

COMMIT = "0123456789abcdef0123456789abcdef01234567"
WEIGHTS = "model.safetensors"


def same_files(folder: Path, other: Path) -> bool:
    return all((folder / file).read_bytes() == (other / file).read_bytes() for file in PRESET_FILES)


def leftovers(folder: Path) -> list[str]:
    return [item.name for item in folder.rglob("*") if item.suffix == ".tmp"]


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("MUSIC_ZOO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_bundled(preset, entry, monkeypatch):
    monkeypatch.setattr(sources, "BUNDLED_PRESETS", preset.parent)
    assert sources.fetch("tiny", entry) == preset


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda data: None, "missing"),
        (lambda data: data[:-1], "incomplete or altered: expected 262 bytes, found 261"),
        (lambda data: data[:-1] + b"\1", "altered: expected sha256"),
    ],
    ids=["missing", "truncated", "altered"],
)
def test_bundled_files_are_verified_too(preset, entry, monkeypatch, harm, message):
    monkeypatch.setattr(sources, "BUNDLED_PRESETS", preset.parent)
    path = preset / WEIGHTS
    data = harm(path.read_bytes())
    path.unlink()
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(PresetError, match=rf"bundled in the package: .*{WEIGHTS} is {message}"):
        sources.fetch("tiny", entry)


def test_url_is_read_once_and_then_served_by_the_cache(server, preset, entry, cache):
    entry = server.with_source(entry, UrlSource(base=server.address + "/files/"))
    seen = []
    folder = sources.fetch("tiny", entry, progress=lambda *step: seen.append(step))
    assert cache in folder.parents and same_files(folder, preset)
    assert read_preset(folder).config == read_preset(preset).config
    assert server.requests == [f"GET /files/{name}" for name in PRESET_FILES]
    assert seen[-1] == ("golden.safetensors", *[(preset / "golden.safetensors").stat().st_size] * 2)
    server.faults = dict.fromkeys(PRESET_FILES, "404")
    assert sources.fetch("tiny", entry) == folder
    assert len(server.requests) == len(PRESET_FILES), "the second time needs no network"
    assert not leftovers(cache)


def test_a_slow_start_is_waited_for_and_silence_is_not(server, preset, entry, cache):
    entry = server.with_source(entry, UrlSource(base=server.address))
    server.faults = {"config.json": "slow"}
    with pytest.raises(PresetError, match="config.json: .*timed out"):
        sources.fetch("tiny", entry, timeout=0.05)
    assert same_files(sources.fetch("tiny", entry, timeout=5.0), preset)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("404", "HTTP Error 404"),
        ("wrong bytes", "is not the file expected: .*sha256"),
        ("too long", "is not the file expected: .* bytes long instead of"),
        ("too long, unannounced", "is not the file expected: longer than"),
        ("cut", "broke off: expected .* bytes, .* came; try again"),
        ("cut, unannounced", "broke off: expected .* bytes, .* came; try again"),
        ("redirect to http", "redirected to an address that is not https"),
    ],
)
def test_a_server_that_misbehaves(server, entry, cache, fault, message):
    entry = server.with_source(entry, UrlSource(base=server.address))
    server.faults = {WEIGHTS: fault}
    with pytest.raises(PresetError, match=message) as caught:
        sources.fetch("tiny", entry)
    assert f"{server.address}/{WEIGHTS}" in str(caught.value)
    assert not list(cache.rglob(WEIGHTS)) and not leftovers(cache), "nothing unverified stays"
    server.faults = {}
    sources.fetch("tiny", entry)


def test_no_server_at_all(server, entry, cache):
    with pytest.raises(PresetError, match=r"http://127.0.0.1:1/config.json: .*refused"):
        sources.fetch("tiny", server.with_source(entry, UrlSource(base="http://127.0.0.1:1")))


def test_sources_are_tried_in_order_and_all_failures_told(server, preset, entry, cache):
    bad, good = UrlSource(base=server.address.replace("http", "https")), UrlSource(base=server.address)
    folder = sources.fetch("tiny", server.with_source(entry, BundledSource(), bad, good))
    assert same_files(folder, preset)
    shutil.rmtree(cache)
    server.faults = dict.fromkeys(PRESET_FILES, "404")
    with pytest.raises(PresetError) as caught:
        sources.fetch("tiny", server.with_source(entry, BundledSource(), bad, good))
    first, *tried = str(caught.value).splitlines()
    assert "no source of the preset 'tiny'" in first
    assert len(tried) == 3 and "bundled" in tried[0] and "https://" in tried[1] and "404" in tried[2]


def test_a_corrupted_cache_is_fetched_again_once(server, preset, entry, cache):
    entry = server.with_source(entry, UrlSource(base=server.address))
    folder = sources.fetch("tiny", entry)
    (folder / WEIGHTS).write_bytes(b"rotten")
    assert same_files(sources.fetch("tiny", entry), preset)
    assert server.requests[len(PRESET_FILES) :] == [f"GET /{WEIGHTS}"]
    (folder / WEIGHTS).write_bytes(b"rotten")
    server.faults = {WEIGHTS: "wrong bytes"}
    with pytest.raises(PresetError, match="is not the file expected"):
        sources.fetch("tiny", entry)


def test_a_file_in_the_place_of_the_cache(server, entry, cache):
    cache.write_text("not a folder")
    entry = server.with_source(entry, UrlSource(base=server.address))
    with pytest.raises(PresetError, match=r"cannot be written: .*; set MUSIC_ZOO_CACHE to a folder"):
        sources.fetch("tiny", entry)


@contextlib.contextmanager
def as_nobody():
    """Drops root's right to write everywhere, for as long as it lasts; skips where that is not allowed."""
    if os.geteuid() != 0:
        yield
        return
    try:
        os.seteuid(65534)
    except OSError:
        pytest.skip("root that may not become another user")
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such permissions")
def test_a_read_only_cache(server, preset, entry):
    with tempfile.TemporaryDirectory() as name:  # not tmp_path: its parents are closed to other users
        cache = Path(name)
        cache.chmod(0o555)
        entry = server.with_source(entry, UrlSource(base=server.address))
        with (
            as_nobody(),
            pytest.raises(PresetError, match="Permission denied; set MUSIC_ZOO_CACHE to a folder"),
        ):
            sources.fetch("tiny", entry, cache)
        cache.chmod(0o755)
        folder = sources.fetch("tiny", entry, cache)
        for path in (folder, *folder.parents[:3]):
            path.chmod(0o555)
        server.faults = dict.fromkeys(PRESET_FILES, "404")
        with as_nobody():
            assert sources.fetch("tiny", entry, cache) == folder, "a complete cache need not be writable"
        for path in (folder, *folder.parents[:3]):
            path.chmod(0o755)


def test_a_full_disk(server, entry, cache, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(PresetError, match="No space left on device; set MUSIC_ZOO_CACHE"):
        sources.fetch("tiny", server.with_source(entry, UrlSource(base=server.address)))
    assert not leftovers(cache)


def test_many_at_once(server, preset, entry, cache):
    entry = server.with_source(entry, UrlSource(base=server.address))
    found = []
    threads = [threading.Thread(target=lambda: found.append(sources.fetch("tiny", entry))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4 and len(set(found)) == 1 and same_files(found[0], preset)
    assert sorted(item.name for item in found[0].iterdir()) == sorted(PRESET_FILES)


def test_the_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("MUSIC_ZOO_CACHE", "~/zoo")
    assert sources.cache_folder() == Path.home() / "zoo"
    monkeypatch.delenv("MUSIC_ZOO_CACHE")
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert sources.cache_folder() == tmp_path / "music_zoo"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert sources.cache_folder() == Path.home() / ".cache" / "music_zoo"


@pytest.mark.parametrize(
    "reference",
    ["org/tiny", "hf://tiny", "hf://org/tiny@", "hf://org/../tiny", "hf://org/tiny@a b", "hf://a/b/c"],
)
def test_malformed_references(reference):
    with pytest.raises(PresetError, match="expected 'hf://org/name' or 'hf://org/name@revision'"):
        sources.fetch_hub_reference(reference)
