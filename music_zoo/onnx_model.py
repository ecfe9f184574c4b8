"""An exported ONNX file as a classifier, run by onnxruntime; imports no Keras."""

import json
from collections.abc import Callable, Iterable, Iterator
from os import PathLike
from pathlib import Path

import numpy as np

from music_zoo.backend import thread_limit
from music_zoo.errors import ExportError, MusicZooError
from music_zoo.inference import Cut, infer, predictions
from music_zoo.prediction import Prediction


class OnnxModel:
    """What `music_zoo.export` wrote, as far as files go: `classify_many` as of an `AudioModel`.

    Args:
        path: The ONNX file.

    Attributes:
        name, task, labels, sample_rate, window, window_samples: As of the model that was exported.

    Raises:
        ExportError: onnxruntime is not installed, or the file is not one that music_zoo wrote.
    """

    def __init__(self, path: str | PathLike):
        try:
            import onnxruntime
        except ImportError as error:
            raise ExportError(
                'ONNX files need onnxruntime, which is not installed: pip install "music-zoo[onnx]"'
            ) from error
        if not Path(path).is_file():
            raise ExportError(f"{path}: expected an ONNX file, found none; `music-zoo export` writes one.")
        try:
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = thread_limit()
            # Threads that wait for the next layer leave their cores to the decoders.
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
            self._session = onnxruntime.InferenceSession(path, options)
            about = self._session.get_modelmeta().custom_metadata_map
            self.name, self.task = about["name"], about["task"]
            self.labels = tuple(json.loads(about["labels"]))
            self.sample_rate, self.window = int(about["sample_rate"]), float(about["window"])
            self.window_samples = int(about["window_samples"])
        except Exception as error:  # onnxruntime raises classes that it does not name
            raise ExportError(
                f"{path}: expected an ONNX file that `music-zoo export` wrote: "
                f"{type(error).__name__}: {error}"
            ) from error

    def predict_on_batch(self, windows: np.ndarray) -> np.ndarray:
        """Return the probabilities `(batch, classes)` of windows `(batch, window_samples)`, both float32."""
        return self._session.run(["probabilities"], {"waveform": windows})[0]

    def view(self) -> "OnnxModel":
        """Return all of it, as from waveform to probabilities is all that a file holds."""
        return self

    def classify_many(
        self,
        audios: Iterable,
        *,
        hop: float | None = None,
        allow_truncated: bool = False,
        min_confidence: float | None = None,
        progress: Callable[[float], None] | None = None,
    ) -> Iterator[Prediction | MusicZooError]:
        """Classify many files; arguments and results as of `AudioModel.classify_many`."""
        results = infer(
            self,
            audios,
            Cut.of(self, hop),
            allow_truncated=allow_truncated,
            progress=progress,
        )
        return predictions(self, results, min_confidence)
