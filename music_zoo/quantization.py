"""An exported ONNX file with its convolutions in 8-bit integers: smaller, and faster where they are the work.

Post-training quantization by onnxruntime: the ranges of what goes into each convolution are taken from music
that the user names. Imports no Keras.
"""

import logging
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import islice
from os import PathLike, fspath
from pathlib import Path

import numpy as np

from music_zoo.errors import AudioError, ExportError
from music_zoo.files import check_replaceable, replacing
from music_zoo.inference import Cut, Windows
from music_zoo.onnx_model import OnnxModel

#: Windows taken of one file, from its beginning, and of all files.
OF_A_FILE, OF_ALL = 4, 64
#: Fewer windows say too little of the ranges.
MIN_WINDOWS = 8
#: Largest mean difference of a probability from that of the file in floats.
TOLERANCE = 0.01


@dataclass(frozen=True)
class Quantized:
    """What `quantize` wrote, and how far its probabilities are from those of the file in floats.

    Attributes:
        path: The file.
        windows: Windows that the differences are of; as many others gave the ranges.
        mean, largest: Absolute difference of a probability.
        same_top: Share of the windows whose most probable label is the same.
        unused: By file, why it could not be used.
    """

    path: Path
    windows: int
    mean: float
    largest: float
    same_top: float
    unused: dict[str, str]


def quantize(source: str | PathLike, path: str | PathLike, music: Sequence[str | PathLike]) -> Quantized:
    """Write an ONNX file of `music_zoo.export` with its convolutions in 8-bit integers.

    Weights are quantized channel by channel. Convolutions that see the waveform itself stay as they are, as
    do the front end and all that is no convolution. Every other window of the music gives the ranges, the
    others tell how far the probabilities are from those of `source`; that is written into the metadata.

    Args:
        source: The file in floats.
        path: The file to write, replaced if it exists.
        music: Audio files like those that it will be used on, the more kinds the better.

    Raises:
        ExportError: A package is missing, `source` is no such file or has nothing to quantize, the music is
            less than 8 windows, or the probabilities differ by more than 0.01 on average; `path` is as it
            was before.
        OSError: `path` cannot be written.
    """
    if missing := [name for name in ("onnx", "onnxruntime") if find_spec(name) is None]:
        raise ExportError(
            f"Quantization needs {', '.join(missing)}, which is not installed: "
            'pip install "music-zoo[export]"'
        )
    path = Path(path)
    check_replaceable(path)
    model = OnnxModel(source)
    windows, unused = _windows(model, music)
    if len(windows) < MIN_WINDOWS:
        reasons = "".join(f"; {file}: {reason}" for file, reason in unused.items())
        raise ExportError(
            f"Expected music of at least {MIN_WINDOWS} windows of {model.window:.1f} s, of which at most "
            f"{OF_A_FILE} are taken of a file; found {len(windows)} in {len(music)} files: name more{reasons}"
        )
    expected = np.concatenate([model.predict_on_batch(window[None]) for window in windows[1::2]])
    with replacing(path) as temporary:
        _write(Path(source), temporary, windows[::2])
        quantized = OnnxModel(temporary)
        got = np.concatenate([quantized.predict_on_batch(window[None]) for window in windows[1::2]])
        difference = np.abs(got - expected)
        found = Quantized(
            path,
            len(expected),
            float(difference.mean()),
            float(difference.max()),
            float((got.argmax(axis=1) == expected.argmax(axis=1)).mean()),
            unused,
        )
        if not found.mean <= TOLERANCE:
            raise ExportError(
                f"In 8 bits the probabilities of {model.name} differ by {found.mean:.2g} on average from "
                f"those in floats (expected at most {TOLERANCE}); {path} is not written. Use the file in "
                "floats, or name music that is more like what it will be used on."
            )
        _describe(temporary, found)
    return found


def _windows(model: OnnxModel, music: Sequence[str | PathLike]) -> tuple[list[np.ndarray], dict[str, str]]:
    """Return windows of audio files, and why others could not be used."""
    windows, unused = [], {}
    for file in music:
        try:
            pieces = iter(Windows((file := fspath(file)), file, [Cut.of(model)]))
            windows += [piece.samples for _, piece in islice(pieces, OF_A_FILE)]
        except AudioError as error:
            unused[file] = str(error)
        if len(windows) >= OF_ALL:
            break
    return windows[:OF_ALL], unused


def _write(source: Path, path: Path, windows: Sequence[np.ndarray]) -> None:
    """Quantize by onnxruntime, which raises anything."""
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        def __init__(self):
            self.feeds: Iterator[dict] = ({"waveform": window[None]} for window in windows)

        def get_next(self) -> dict | None:
            return next(self.feeds, None)

    try:
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of onnxruntime, about itself
            prepared = Path(folder) / "prepared.onnx"
            quant_pre_process(fspath(source), fspath(prepared), skip_symbolic_shape=True)
            chosen = _behind_front_end(onnx.load(prepared))
            if not chosen:
                raise ExportError(
                    f"{source} has no convolution behind its front end: in 8 bits it would be no faster."
                )
            disabled = logging.root.manager.disable
            logging.disable(logging.WARNING)  # advice on preprocessing that has been done
            try:
                quantize_static(
                    prepared,
                    path,
                    Reader(),
                    quant_format=QuantFormat.QDQ,
                    op_types_to_quantize=["Conv"],
                    nodes_to_quantize=chosen,
                    per_channel=True,
                    activation_type=QuantType.QUInt8,
                    weight_type=QuantType.QInt8,
                )
            finally:
                logging.disable(disabled)
    except (ExportError, OSError):
        raise
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ExportError(f"{source} cannot be quantized: {reason}") from error


def _behind_front_end(model) -> list[str]:
    """Return the names of the convolutions that do not see the waveform itself.

    What they see has passed a logarithm, as that of decibels, or another convolution.
    """
    changed, chosen = set(), []
    for node in model.graph.node:  # each after those whose outputs it takes
        behind = any(name in changed for name in node.input)
        if node.op_type == "Conv" and behind:
            chosen.append(node.name)
        if behind or node.op_type in ("Conv", "Log"):
            changed.update(node.output)
    return chosen


def _describe(path: Path, found: Quantized) -> None:
    """Add to the metadata what was done."""
    import onnx

    model = onnx.load(path)
    about = {each.key: each.value for each in model.metadata_props}
    about["quantization"] = (
        f"convolutions in 8 bits; on {found.windows} windows probabilities differ by {found.mean:.2g} on "
        f"average, {found.largest:.2g} at most"
    )
    onnx.helper.set_model_props(model, about)
    onnx.save(model, path)
