"""Which Keras backend to use: the user's choice if there is one, else an installed one, else an error."""

import ctypes
import json
import logging
import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from music_zoo.errors import BackendMissingError

#: In the order in which an installed backend is chosen, where the user chose none.
BACKENDS = ("tensorflow", "jax", "torch")
#: What models need beside a backend and its extra installs, by the names that Python imports.
PACKAGES = {
    "keras": "keras",
    "sklearn": "scikit-learn",
    "scipy": "scipy",
    "matplotlib": "matplotlib",
    "huggingface_hub": "huggingface-hub",
    "yaml": "pyyaml",
}


def choose_backend() -> None:
    """Set `KERAS_BACKEND` to an installed backend, unless the user or an imported Keras has settled it.

    Keras writes `~/.keras/keras.json` on its first import, with TensorFlow in it whether or not that is
    installed. So the file counts only where it names an installed backend.
    """
    if os.environ.get("KERAS_BACKEND") or "keras" in sys.modules:
        return
    candidates = [_configured_backend(), *BACKENDS]
    installed = next((name for name in candidates if name in BACKENDS and find_spec(name)), None)
    if installed:
        os.environ["KERAS_BACKEND"] = installed


def require_backend() -> None:
    """Raise unless the backend that Keras will use is installed, and Keras.

    Raises:
        BackendMissingError: No backend is installed, or not the one that `KERAS_BACKEND` names, or not what
            models need beside it.
    """
    if "keras" in sys.modules:
        return
    name = os.environ.get("KERAS_BACKEND")
    if not name:
        raise BackendMissingError(
            "Models need TensorFlow, JAX or PyTorch, and none is installed. Install one of them: "
            + ", ".join(f'pip install "music-zoo[{extra}]"' for extra in BACKENDS)
            + ". (Exported ONNX files run without: music-zoo tag --engine onnx.)"
        )
    if name not in BACKENDS:
        raise BackendMissingError(
            f"KERAS_BACKEND is {name!r}; music_zoo runs on one of {', '.join(BACKENDS)}. Set it to one of "
            "them, or unset it."
        )
    if find_spec(name) is None:
        raise BackendMissingError(
            f"KERAS_BACKEND is {name!r}, which is not installed. Install it "
            f'(pip install "music-zoo[{name}]") or unset the variable to use an installed one.'
        )
    if missing := [package for module, package in PACKAGES.items() if find_spec(module) is None]:
        raise BackendMissingError(
            f"{name} is installed, but not {', '.join(missing)}, which models need beside it: "
            f'pip install "music-zoo[{name}]"'
        )


def import_keras() -> None:
    """Import Keras without the notices of its backend, for a command line.

    Raises:
        BackendMissingError: As `require_backend`.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)  # else it tells of each shape compiled anew
    with _muffled():
        require_backend()
        import keras  # noqa: F401


def limit_threads(threads: int) -> None:
    """Let decoding and the engine use so many threads; to be called before an engine is imported.

    Args:
        threads: At least 1.
    """
    # PyTorch, TensorFlow and JAX, in this order.
    os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "NPROC"), str(threads))


def keep_freed_memory() -> None:
    """Let glibc keep what is freed for the arrays to come, until the process ends; elsewhere, do nothing.

    By itself it gives large arrays back to the system at once, and the system fills with zeros what it gives
    out anew. A training step, which makes and frees the same large arrays each time, spends a third of its
    time on that where arrays are of 80 MB (PyTorch and SampleCNN, `benchmarks/training.py`).
    """
    if platform.libc_ver()[0] != "glibc":
        return
    # Of malloc.h: M_TRIM_THRESHOLD, and M_MMAP_MAX, arrays that are the system's own and not of the heap.
    for option, value in ((-1, 2**31 - 1), (-4, 0)):
        ctypes.CDLL(None).mallopt(option, value)


def thread_limit() -> int:
    """Return how many threads may work at a time: `OMP_NUM_THREADS`, or one for each core."""
    limit = os.environ.get("OMP_NUM_THREADS", "")
    return int(limit) if limit.isdecimal() and int(limit) else os.cpu_count() or 1


@contextmanager
def _muffled() -> Iterator[None]:
    """Drop what C++ writes to standard error: TensorFlow always says on import that oneDNN is on."""
    kept = os.dup(2)
    try:
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _configured_backend() -> str | None:
    try:
        keras_home = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras")
        return json.loads((keras_home / "keras.json").read_text()).get("backend")
    except (OSError, ValueError, AttributeError, RuntimeError):  # RuntimeError: a user without a home folder
        return None
