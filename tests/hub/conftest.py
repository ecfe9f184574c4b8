"""A small preset, its manifest entry, and a server on this machine that can be told to misbehave."""

import http.server
import importlib
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from hub_server import Hub, running_hub

from music_zoo.hub.files import PRESET_FILES
from music_zoo.hub.manifest import PresetEntry, Result
from music_zoo.hub.preset_files import write_preset
from music_zoo.hub.schema import BundledSource, FileRecord


@pytest.fixture
def tensors() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "dense/kernel": rng.standard_normal((4, 3), dtype=np.float32),
        "dense/bias": rng.standard_normal(3).astype(np.float16),
        "steps": np.array(7, dtype=np.int64),
    }


@pytest.fixture
def preset(tmp_path, tensors) -> Path:
    """The folder of a complete preset."""
    folder = tmp_path / "tiny"
    write_preset(folder, {"architecture": "ResNet", "labels": ["a", "b", "c"]}, tensors, {"x": np.ones(2)})
    return folder


@pytest.fixture
def entry(preset) -> PresetEntry:
    """What a manifest says of `preset`."""
    return PresetEntry(
        description="For tests.",
        architecture="ResNet",
        task="single_label",
        labels=("a", "b", "c"),
        sample_rate=44100,
        window_seconds=30.0,
        parameters=16,
        license="CC0-1.0",
        training_data="none",
        limits="It knows nothing.",
        sources=(BundledSource(),),
        files={name: FileRecord.of(preset / name) for name in PRESET_FILES},
        results=(
            Result(
                dataset="none",
                split="test",
                examples=1,
                metrics={"accuracy": 0.5, "ece": 0.01},
                command="music-zoo evaluate",
                uncalibrated={"ece": 0.1},
            ),
        ),
    )


@dataclass
class Server:
    """A web server on this machine: serves `folder`; `faults` says how it answers for a file instead."""

    folder: Path
    address: str = ""
    faults: dict[str, str] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)

    def with_source(self, entry: PresetEntry, *sources) -> PresetEntry:
        return entry.model_copy(update={"sources": sources})


@pytest.fixture
def server(preset, monkeypatch) -> Iterator[Server]:
    """Serves `preset` at `<address>/<file>`."""
    state = Server(preset)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            state.requests.append(f"{self.command} {self.path}")
            name = self.path.split("?")[0].rsplit("/", 1)[-1]
            fault = state.faults.get(name, "")
            path = state.folder / name
            if fault == "redirect to http":
                self.send_response(302)
                self.send_header("Location", f"http://example.org/{name}")
                self.end_headers()
                return
            missing = fault == "404" or not path.is_file()
            body = b"" if missing else path.read_bytes()
            if fault == "slow":
                time.sleep(0.3)
            if fault == "wrong bytes":
                body = bytes([body[0] ^ 1]) + body[1:]
            if fault in ("too long", "too long, unannounced"):
                body += b"more"
            self.send_response(404 if missing else 200)
            if "unannounced" not in fault:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: len(body) // 2] if "cut" in fault else body)

        def log_message(self, *_):
            pass

    # The tests' own machine is reached directly, whatever proxy it goes out through.
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        state.address = f"http://127.0.0.1:{running.server_port}"
        thread = threading.Thread(target=running.serve_forever, args=(0.02,))
        thread.start()
        yield state
        running.shutdown()
        thread.join()


@pytest.fixture
def hub() -> Iterator[Hub]:
    """A Hub without repositories."""
    with running_hub() as running:
        yield running


@pytest.fixture
def hub_client(hub, tmp_path) -> Iterator[Hub]:
    """A Hub that the client of this process talks to, its caches at `tmp_path`: `home`, `cache`."""
    from huggingface_hub import constants

    with pytest.MonkeyPatch.context() as patch:
        for name in [
            name for name in os.environ if name.startswith("HF_") or name.lower().endswith("_proxy")
        ]:
            patch.delenv(name)
        for name, value in hub.settings(tmp_path / "home").items():
            patch.setenv(name, value)
        patch.setenv("MUSIC_ZOO_CACHE", str(tmp_path / "cache"))
        importlib.reload(constants)  # the client reads its settings when it is imported
        yield hub
    importlib.reload(constants)
