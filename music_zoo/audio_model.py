"""What every model of music is on its outside: audio of any length in, probabilities out, preset files."""

import warnings
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import ClassVar, Self

import keras
import numpy as np
from numpy.typing import ArrayLike

from music_zoo.calibration.base import Calibrator
from music_zoo.calibration.calibrators import new_calibrator
from music_zoo.errors import MusicZooError, PresetError
from music_zoo.hub.preset_files import PresetFiles, check_tensors, write_preset
from music_zoo.inference import Cut, Inference, infer, predictions
from music_zoo.layers import FrontEnd
from music_zoo.prediction import Prediction
from music_zoo.task_model import TASKS, TaskModel

#: A file, or an array `(samples,)` or `(channels, samples)`.
Audio = str | PathLike | np.ndarray


class AudioModel(TaskModel):
    """A functional model from windows of waveform to calibrated probabilities; the base of `Classifier`.

    A subclass builds its network and says what its parts are; it returns every constructor argument from
    `get_config`, as plain JSON.

    Args:
        front_end: Waveform to features.
        network: Called with features; returns a dict of `"embedding"`, `"logits"` (before calibration) and
            `"probabilities"`.
        features_shape: Of one example, None where any length will do.
        calibration: What `network` passes logits through, see `music_zoo.calibration.calibrators`.
        labels: One name per class, in the order of the outputs.
        task: `"single_label"` or `"multi_label"`.
        window: Length of a window in seconds.
        xla_on_tensorflow: Whether XLA pays on TensorFlow on a CPU.
        name: Name of the model.

    Attributes:
        front_end, labels, task, window: As given, labels as a tuple.
        sample_rate: Of the waveform, in Hz.
        window_samples: The window in samples.
    """

    #: What `config.json` calls models of this class.
    kind: ClassVar[str]

    def __init__(
        self,
        front_end: FrontEnd,
        network: Callable[..., dict],
        features_shape: Sequence[int | None],
        *,
        calibration: keras.Sequential,
        labels: Sequence[str],
        task: str,
        window: float,
        xla_on_tensorflow: bool,
        name: str,
    ):
        window_samples = round(window * front_end.sample_rate)
        waveform = keras.Input((window_samples,), dtype="float32", name="waveform")
        heard = front_end(waveform)
        from_waveform = {"features": heard, **network(heard)}
        super().__init__(
            inputs=waveform,
            outputs=from_waveform["probabilities"],
            task=task,
            xla_on_tensorflow=xla_on_tensorflow,
            name=name,
        )
        features = keras.Input(features_shape, name="features")
        self._ends = {
            "waveform": (waveform, from_waveform),
            "features": (features, {"features": features, **network(features)}),
        }
        self.xla_on_tensorflow = xla_on_tensorflow
        self.front_end = front_end
        self.calibration = calibration
        self.labels = tuple(labels)
        self.window = window
        self.window_samples = window_samples

    @property
    def sample_rate(self) -> int:
        """Sample rate of the waveform in Hz."""
        return self.front_end.sample_rate

    @property
    def calibrator(self) -> Calibrator:
        """The layer from logits to calibrated logits, see `calibrate`."""
        return self.calibration.layers[-1]

    # ---- what differs between classes ----------------------------------------------------------------------

    @property
    @abstractmethod
    def _parts(self) -> dict[str, keras.layers.Layer]:
        """The layers that may have weights, by the first words of their weights' names in a preset."""

    @property
    @abstractmethod
    def architecture(self) -> str:
        """Name of the network."""

    @abstractmethod
    def with_labels(self, labels: Sequence[str], task: str | None = None) -> Self:
        """Return a model on the same trained backbone, with a fresh head and calibrator for these labels.

        Args:
            labels: Names of the classes.
            task: Of the fresh head; that of this model if None.

        Raises:
            ValueError: Labels or a task that cannot be.
        """

    def calibration_logits(self, logits: np.ndarray) -> np.ndarray:
        """Return what the calibrator sees of logits, float32: here, the logits, `(..., classes)`."""
        return np.asarray(logits, np.float32)

    def probabilities_of(self, logits: np.ndarray, calibrated: bool = True) -> np.ndarray:
        """Return the probabilities, `(..., classes)` float32, that belong to logits.

        Args:
            logits: As `view(..., "logits")` gives them.
            calibrated: False to leave out the calibrator.
        """
        logits = self.calibration_logits(logits)
        activation = keras.activations.get(TASKS[self.task])
        return keras.ops.convert_to_numpy(activation(self.calibrator(logits) if calibrated else logits))

    # ---- calibration ---------------------------------------------------------------------------------------

    def calibrate(
        self,
        x: ArrayLike,
        y: ArrayLike,
        method: str = "temperature",
        *,
        inputs: str = "waveform",
        batch_size: int = 32,
    ) -> None:
        """Fit the calibrator to held-out examples, which the network was not trained on.

        Args:
            x: Windows of waveform `(examples, window_samples)`, or features of them, `(examples, ...)`.
            y: Class indices `(examples,)`; multi-label: 0 or 1, `(examples, num_classes)`.
            method: `"temperature"`, `"vector"` or `"isotonic"`, see `music_zoo.calibration`.
            inputs: What `x` is, `"waveform"` or `"features"`.
            batch_size: Examples that pass the network at once.

        Raises:
            ValueError: No such method, or examples that it cannot be fitted to (too few, labels out of
                range, a class missing, logits that are not finite); nothing has changed.

        Warns:
            UserWarning: The examples do not determine the calibration, wholly or of some class.
        """
        logits = self.view(inputs, "logits").predict(np.asarray(x), batch_size=batch_size, verbose=0)
        self.calibrate_logits(logits, y, method)

    def calibrate_logits(
        self, logits: Iterable[ArrayLike], targets: ArrayLike, method: str = "temperature"
    ) -> None:
        """Fit the calibrator to the logits of held-out files, of one window or several each.

        Args:
            logits: Of each file, what `view(..., "logits")` gives of one window, or an array of such, with
                the windows along the first axis.
            targets: As `y` of `calibrate`.
            method: As in `calibrate`.

        Raises:
            ValueError: As in `calibrate`.

        Warns:
            UserWarning: As in `calibrate`.
        """
        fresh = new_calibrator(method, self.task, len(self.labels))
        seen = [self.calibration_logits(file) for file in logits]
        fresh.fit([file.reshape(-1, file.shape[-1]) for file in seen], targets, self.task)
        if fresh.kind == self.calibrator.kind:
            self.calibrator.set_weights(fresh.get_weights())
            return
        self.calibration.pop(rebuild=False)
        self.calibration.add(fresh)
        for model in (self, *self._views.values()):  # what was compiled holds the calibrator of before
            model.train_function = model.test_function = model.predict_function = None

    # ---- views: other ends of the same network, sharing its weights ----------------------------------------

    @cached_property  # writes past Keras' attribute tracking, which would list the shared layers again
    def _views(self) -> dict[tuple[str, tuple[str, ...]], TaskModel]:
        return {}

    def view(self, inputs: str = "waveform", outputs: str | tuple[str, ...] = "probabilities") -> TaskModel:
        """Return the network between two of its points, as a model that shares the weights.

        Args:
            inputs: `"waveform"` or `"features"` (the front end's output, of any number of frames).
            outputs: `"features"`, `"embedding"`, `"logits"` (before the calibrator) or `"probabilities"`; a
                tuple of them for several in one pass, side by side on the last axis.

        Raises:
            ValueError: No such point, or several whose shapes differ in more than the last axis.
        """
        names = (outputs,) if isinstance(outputs, str) else tuple(outputs)
        if (inputs, names) not in self._views:
            start, ends = self._ends.get(inputs, (None, {}))
            if not names or not set(names) <= ends.keys():
                raise ValueError(
                    "A view goes from 'waveform' or 'features' to 'features', 'embedding', 'logits' or "
                    f"'probabilities', got {inputs!r} to {outputs!r}."
                )
            chosen = [ends[name] for name in names]
            self._views[inputs, names] = TaskModel(
                start,
                chosen[0] if len(chosen) == 1 else keras.ops.concatenate(chosen, axis=-1),
                task=self.task,
                xla_on_tensorflow=self.xla_on_tensorflow,
                name=f"{self.name}_{inputs}_to_{'_and_'.join(names)}",
            )
        return self._views[inputs, names]

    @property
    def features_model(self) -> TaskModel:
        """The network after its front end: `fit` and `predict` on stored features, the same weights."""
        return self.view("features", "probabilities")

    # ---- audio of any length -------------------------------------------------------------------------------

    def classify(
        self,
        audio: Audio,
        sample_rate: int | None = None,
        *,
        hop: float | None = None,
        allow_truncated: bool = False,
        min_confidence: float | None = None,
    ) -> Prediction:
        """Classify one file or array of any length; memory does not grow with the length of a file.

        The probabilities are the mean over windows. Windows start every `hop` seconds; the last one is moved
        back so that it ends with the audio; audio shorter than a window is repeated until it fills one.

        Args:
            audio: A file, or an array `(samples,)` or `(channels, samples)`.
            sample_rate: Of an array, in Hz; required for arrays, not for files, which say their own.
            hop: Seconds from the start of one window to that of the next; the window's length if None.
            allow_truncated: Take what can be decoded of a file that ends before its header says.
            min_confidence: Abstain if no label is as probable as this, from 0 to 1, see
                `Prediction.abstains`; `music_zoo.calibration.reject_threshold` finds one for a target error.

        Raises:
            AudioError: The audio cannot be used; the message says why.
            ValueError: `hop` or `min_confidence` out of range, a sample rate for a file.

        Warns:
            UserWarning: The audio is silent, or of so low a sample rate that much of what the classifier
                listens to is missing. The notes of the result say so too.
        """
        source = _source(audio, sample_rate)
        (result,) = self.classify_many(
            [source], hop=hop, allow_truncated=allow_truncated, min_confidence=min_confidence
        )
        if isinstance(result, MusicZooError):
            raise result
        for note in result.notes:
            warnings.warn(f"{result.source}: {note}", stacklevel=2)
        return result

    def classify_many(
        self,
        audios: Iterable[Audio | tuple[np.ndarray, int]],
        *,
        hop: float | None = None,
        allow_truncated: bool = False,
        min_confidence: float | None = None,
        progress: Callable[[float], None] | None = None,
    ) -> Iterator[Prediction | MusicZooError]:
        """Classify many files, decoding ahead in threads, with batches that reach across files.

        Args:
            audios: Files, or pairs of array and sample rate.
            hop: As in `classify`.
            allow_truncated: As in `classify`.
            min_confidence: As in `classify`.
            progress: Called now and then with the seconds of audio that have newly been classified.

        Yields:
            For each input, in order, its prediction or, where it cannot be used, the error.
        """
        results = self.infer(audios, hop=hop, allow_truncated=allow_truncated, progress=progress)
        return predictions(self, results, min_confidence)

    def embed(
        self,
        audio: Audio,
        sample_rate: int | None = None,
        *,
        hop: float | None = None,
        allow_truncated: bool = False,
    ) -> np.ndarray:
        """Return the embedding of each window, `(windows, embedding_dim)` float32.

        Arguments and errors as in `classify`.
        """
        source = _source(audio, sample_rate)
        (result,) = self.infer([source], "embedding", hop=hop, allow_truncated=allow_truncated)
        if isinstance(result, MusicZooError):
            raise result
        return result.outputs

    def infer(
        self,
        audios: Iterable[Audio | tuple[np.ndarray, int]],
        outputs: str = "probabilities",
        *,
        hop: float | None = None,
        allow_truncated: bool = False,
        progress: Callable[[float], None] | None = None,
    ) -> Iterator[Inference | MusicZooError]:
        """Run many files up to some point of the network, with the outputs of each window kept apart.

        Args:
            audios: As in `classify_many`.
            outputs: As in `view`.
            hop: As in `classify`.
            allow_truncated: As in `classify`.
            progress: As in `classify_many`.

        Yields:
            For each input, in order, what came out or, where it cannot be used, the error.
        """
        return infer(
            self.view("waveform", outputs),
            audios,
            Cut.of(self, hop),
            allow_truncated=allow_truncated,
            progress=progress,
        )

    # ---- files ---------------------------------------------------------------------------------------------

    def get_compile_config(self) -> dict:
        """Return how it was compiled and which parts are frozen, so that training can go on from a file."""
        if not self.compiled:
            return {}
        frozen = [name for name, part in self._parts.items() if not part.trainable]
        return super().get_compile_config() | {"frozen": frozen}

    def compile_from_config(self, config: dict) -> None:
        """Freeze and compile as before saving."""
        config = dict(config)
        for part in config.pop("frozen", ()):
            self._parts[part].trainable = False
        super().compile_from_config(config)

    def tensors(self) -> dict[str, np.ndarray]:
        """Return a copy of every weight by its name in a preset, such as `backbone.stem_conv.kernel`."""
        # What Keras gives shares memory with the weight on some backends, and so does what it is given.
        return {name: np.array(keras.ops.convert_to_numpy(v)) for name, v in self._named_weights().items()}

    def set_tensors(self, tensors: Mapping[str, np.ndarray], parts: Sequence[str] | None = None) -> None:
        """Set weights by name, all or none of them.

        Args:
            tensors: As from `tensors`; floats of any width.
            parts: Set only the weights of these parts (such as `["front_end", "backbone"]`), ignore others.

        Raises:
            PresetError: A missing, extra or misshapen tensor; the message names each, and no weight has
                changed.
            ValueError: A part that there is not.
        """
        if unknown := sorted(set(parts or ()) - set(self._parts)):
            raise ValueError(f"`parts` may name {', '.join(self._parts)}, got {', '.join(unknown)}.")

        def wanted(name: str) -> bool:
            return parts is None or any(name.startswith(f"{part}.") for part in parts)

        variables = {name: v for name, v in self._named_weights().items() if wanted(name)}
        tensors = {name: t for name, t in tensors.items() if wanted(name)}
        check_tensors({name: tuple(v.shape) for name, v in variables.items()}, tensors)
        for name, variable in variables.items():
            variable.assign(np.array(tensors[name]))

    def save_preset(self, folder: str | PathLike, golden: Mapping[str, np.ndarray] | None = None) -> None:
        """Write a preset folder (`config.json`, `model.safetensors`, `golden.safetensors`) that `load` reads.

        Args:
            folder: Made, or replaced if it is a preset folder already.
            golden: Tensors to check copies against, see `music_zoo.golden`; made anew if None.
        """
        from music_zoo.golden import make_golden

        golden = make_golden(self) if golden is None else golden
        kind = {} if self.kind == "classifier" else {"kind": self.kind}
        write_preset(folder, kind | {self.kind: self.get_config()}, self.tensors(), dict(golden))

    def export_onnx(self, path: str | PathLike) -> Path:
        """Write an ONNX file: windows of waveform in, calibrated probabilities out, batches of any size.

        See `music_zoo.export` for other formats, and for the file's metadata and errors.
        """
        from music_zoo.export import export

        return export(self, path, "onnx")

    @classmethod
    def from_preset_files(
        cls, files: PresetFiles, labels: Sequence[str] | None = None, task: str | None = None
    ) -> Self:
        """Build from the files of a preset.

        Args:
            files: As `music_zoo.hub.preset_files.read_preset` returns them.
            labels: If given, the head and the calibrator are fresh ones, for these labels.
            task: Of the fresh head; that of the preset if None.

        Raises:
            PresetError: A config that describes no such model, or weights that do not fit it.
            ValueError: Labels or a task that the model cannot have.
        """
        try:
            model = cls.from_config(files.config[cls.kind])
        except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
            raise PresetError(f"The preset's config.json describes no {cls.kind}: {error!r}") from error
        model.set_tensors(files.tensors)
        return model if labels is None else model.with_labels(labels, task)

    def _named_weights(self) -> dict[str, keras.Variable]:
        return {
            f"{name}.{variable.path.removeprefix(part.name + '/').replace('/', '.')}": variable
            for name, part in self._parts.items()
            for variable in part.weights
        }


def _source(audio: Audio, sample_rate: int | None):
    """One input of `infer`: a file, or a pair of array and sample rate."""
    if not isinstance(audio, str | PathLike):
        return audio, sample_rate
    if sample_rate is not None:
        raise ValueError(
            f"A file says its own sample rate; `sample_rate` belongs to arrays. Got {audio} with "
            f"{sample_rate}."
        )
    return audio
