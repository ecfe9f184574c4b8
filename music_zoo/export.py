"""A model as one file for other runtimes: windows of audio in, calibrated probabilities out.

TensorFlow converts, whatever backend the model is on: a child process loads it there. So a model's file is
the same from everywhere. This module imports no Keras before a model is converted.
"""

import errno
import json
import os
import shutil
import subprocess
import sys
import tempfile
import warnings
import zipfile
from collections.abc import Callable
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from music_zoo import __version__
from music_zoo.errors import ExportError
from music_zoo.files import check_replaceable, temporary_beside

if TYPE_CHECKING:
    from music_zoo.audio_model import AudioModel

#: What each format needs, by the names that Python imports.
PACKAGES = {
    "onnx": ("tensorflow", "tf2onnx", "onnx", "onnxruntime"),
    "saved_model": ("tensorflow",),
    "litert": ("tensorflow", "ai_edge_litert"),
}
FORMATS = tuple(PACKAGES)
#: Of the ONNX operators; onnxruntime reads it since 1.14 (2023).
OPSET = 18
#: Largest difference of a probability from the model's own.
TOLERANCE = 1e-4
#: Where a SavedModel (in `assets.extra`) and a LiteRT file (which is a zip archive, too) keep `metadata`.
METADATA_FILE = "music_zoo.json"


def export(model: "AudioModel", path: str | PathLike, format: str = "onnx") -> Path:
    """Write a model for another runtime: input `waveform` `(batch, window_samples)`, output `probabilities`.

    Batches may be of any size. What is written is run by its runtime on the sound of `music_zoo.golden`, and
    takes its place only if it gives the model's probabilities, within 1e-4. `metadata` is written with it.

    Args:
        model: A classifier or an ensemble, on any backend.
        path: A file, replaced if it exists; of a SavedModel, a folder that does not exist or is empty.
        format: `"onnx"`, `"litert"` or `"saved_model"`.

    Returns:
        The path.

    Raises:
        ValueError: No such format.
        ExportError: A package is missing, or the conversion failed or changed the probabilities; `path` is
            as it was before.
        OSError: `path` cannot be written.
    """
    check_format(format)
    path = Path(path)
    check_path(path, format)
    import keras

    windows = _test_windows(model)
    probabilities = model.predict(windows, batch_size=1, verbose=0)
    with _folder_beside(path) as folder:
        made = folder / {"onnx": "model.onnx", "litert": "model.tflite"}.get(format, "model")
        if keras.backend.backend() == "tensorflow" and keras.config.dtype_policy().name == "float32":
            _write(model, made, format)
            _check(made, format, windows, probabilities)
        else:
            with tempfile.TemporaryDirectory() as preset:
                model.save_preset(preset, {"windows": windows, "probabilities": probabilities})
                _write_in_child(preset, made, format)
        made.replace(path)
    return path


def check_format(format: str) -> None:
    """Raise unless there is such a format, and the packages that it needs.

    Raises:
        ValueError: No such format.
        ExportError: A package is missing.
    """
    if format not in PACKAGES:
        raise ValueError(f"Formats are {', '.join(FORMATS)}; got {format!r}.")
    if missing := [name for name in PACKAGES[format] if find_spec(name) is None]:
        raise ExportError(
            f"Exporting as {format} needs {', '.join(missing)}, which is not installed: "
            'pip install "music-zoo[tensorflow,export]"'
        )


def check_path(path: Path, format: str) -> None:
    """Raise if a model could not be written there. Make the folders above it.

    Raises:
        OSError: As `music_zoo.files.check_replaceable`; for a SavedModel, something is there already.
    """
    if format != "saved_model":
        check_replaceable(path)
        return
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise FileExistsError(
            errno.EEXIST, "Expected a new or an empty folder to write to, found one with files", str(path)
        )
    check_replaceable(temporary_beside(path))


def metadata(model: "AudioModel") -> dict[str, str]:
    """Return what a user of an exported file must know, as strings.

    Returns:
        `name`, `task`, `labels` (a JSON list), `sample_rate` (Hz), `window` (seconds), `window_samples`, and
        `music_zoo`, the version that wrote it.
    """
    return {
        "name": model.name,
        "task": model.task,
        "labels": json.dumps(model.labels, ensure_ascii=False),
        "sample_rate": str(model.sample_rate),
        "window": str(model.window),
        "window_samples": str(model.window_samples),
        "music_zoo": __version__,
    }


def _test_windows(model: "AudioModel") -> np.ndarray:
    """Return three windows that differ, the first that of `music_zoo.golden`."""
    from music_zoo.golden import golden_waveform

    sound = golden_waveform(model.sample_rate).astype(np.float32) / 32768
    window = np.resize(sound, model.window_samples)
    return np.stack([window, 0.1 * window[::-1], np.roll(window, model.window_samples // 3) * window])


@contextmanager
def _folder_beside(path: Path):
    """Give a new folder on the same disk, which is deleted in the end."""
    folder = temporary_beside(path)
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


# ---- conversion: on TensorFlow -----------------------------------------------------------------------------


def _write(model: "AudioModel", path: Path, format: str) -> None:
    """Convert in this process."""
    # TensorFlow runs the FFT anywhere; elsewhere it is missing or slow to load.
    method = "fft" if format == "saved_model" else "conv"
    config = model.get_config() | {"front_end": model.front_end.with_method(method).get_config()}
    copy = type(model).from_config(config)
    copy.set_tensors(model.tensors())
    copy(np.zeros((1, model.window_samples), np.float32))  # Keras exports what has been called
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the converters', about themselves
            if format == "saved_model":
                copy.export(path, format="tf_saved_model", verbose=False)
            elif format == "litert":
                copy.export(path, format="litert", verbose=False)
            else:
                _teach_tf2onnx()
                copy.export(path, format="onnx", verbose=False, opset_version=OPSET)
                _finish_onnx(path, metadata(model))
    except OSError:
        raise
    except Exception as error:  # converters raise anything
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ExportError(f"{model.name} cannot be converted to {format}: {reason}") from error
    if format == "litert":
        with zipfile.ZipFile(path, "a") as archive:  # as the files of labels of other LiteRT models
            archive.writestr(METADATA_FILE, json.dumps(metadata(model)))
    elif format == "saved_model":
        (path / "assets.extra").mkdir()
        (path / "assets.extra" / METADATA_FILE).write_text(json.dumps(metadata(model)))


@cache
def _teach_tf2onnx() -> None:
    """Say what GELU's erfc is in ONNX, which has erf only."""
    from tf2onnx.handler import tf_op
    from tf2onnx.utils import make_name

    @tf_op("Erfc")
    class _Erfc:
        @classmethod
        def version_9(cls, ctx, node, **kwargs):
            settings = {"shapes": node.output_shapes, "dtypes": node.output_dtypes}
            inputs, outputs = list(node.input), list(node.output)
            ctx.remove_node(node.name)
            erf = ctx.make_node("Erf", inputs, **settings)
            one = ctx.make_const(make_name("one"), np.float32(1))
            ctx.make_node("Sub", [one.output[0], erf.output[0]], outputs=outputs, **settings)


def _finish_onnx(path: Path, about: dict[str, str]) -> None:
    """Name the output and the batch as one expects, write the metadata, and make the graph faster."""
    import onnx

    from music_zoo.onnx_graph import take_maxima_early

    exported = onnx.load(path)
    take_maxima_early(exported)
    graph = exported.graph
    (start,), (end,) = graph.input, graph.output
    for node in graph.node:
        node.output[:] = ["probabilities" if name == end.name else name for name in node.output]
        node.input[:] = ["probabilities" if name == end.name else name for name in node.input]
    end.name = "probabilities"
    for value in (start, end):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    onnx.helper.set_model_props(exported, about)
    onnx.checker.check_model(exported)
    onnx.save(exported, path)


def _write_in_child(preset: str, path: Path, format: str) -> None:
    """Convert and check a preset folder in a process whose Keras runs on TensorFlow."""
    paths = [str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    child = subprocess.run(
        [sys.executable, "-m", "music_zoo.export", preset, path, format],
        env=os.environ | {"KERAS_BACKEND": "tensorflow", "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        errors="replace",
    )
    if child.returncode:
        lines = child.stderr.strip().splitlines() or [f"exit status {child.returncode}"]
        raise ExportError(f"The conversion to {format} on TensorFlow failed: {lines[-1]}")


def _main(preset: str, path: str, format: str) -> None:
    """What the child does; the preset's golden tensors are those of `_check`."""
    from music_zoo.hub.preset_files import read_preset
    from music_zoo.zoo import load

    try:
        _write(load(preset), Path(path), format)
        _check(Path(path), format, **read_preset(preset).golden)
    except ExportError as error:
        sys.exit(str(error))


# ---- the check: each runtime as a function from windows to probabilities ---------------------------------


def _check(path: Path, format: str, windows: np.ndarray, probabilities: np.ndarray) -> None:
    """Raise unless the file gives these probabilities, in batches of one and of all."""
    run = {"onnx": _run_onnx, "litert": _run_litert, "saved_model": _run_saved_model}[format](path)
    for count in (1, len(windows)):
        got = run(windows[:count])
        difference = float(np.abs(got - probabilities[:count]).max())
        if not difference <= TOLERANCE:
            raise ExportError(
                f"The probabilities of the exported {format} differ by {difference:.2g} from the model's on "
                f"{count} test windows (expected at most {TOLERANCE}); it is not written."
            )


def _run_onnx(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    import onnxruntime

    session = onnxruntime.InferenceSession(path)
    return lambda windows: session.run(["probabilities"], {"waveform": windows})[0]


def _run_litert(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path))
    (start,), (end,) = interpreter.get_input_details(), interpreter.get_output_details()

    def run(windows: np.ndarray) -> np.ndarray:
        interpreter.resize_tensor_input(start["index"], windows.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(start["index"], windows)
        interpreter.invoke()
        return interpreter.get_tensor(end["index"])

    return run


def _run_saved_model(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    import tensorflow

    loaded = tensorflow.saved_model.load(str(path))
    return lambda windows: loaded.serve(windows).numpy()


if __name__ == "__main__":
    _main(*sys.argv[1:])
