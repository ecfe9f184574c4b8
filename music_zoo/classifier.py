"""The classifier: front end, backbone, pooling, head and calibrator as one model that takes audio."""

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from os import PathLike

import keras
import numpy as np

from music_zoo.calibration import Temperature
from music_zoo.errors import MusicZooError, PresetError
from music_zoo.hub.preset_files import PresetFiles, check_tensors, write_preset
from music_zoo.inference import Inference, infer
from music_zoo.layers import FrontEnd, GlobalPooling
from music_zoo.models import BACKBONES, Backbone
from music_zoo.prediction import Prediction
from music_zoo.task_model import TASKS, TaskModel

#: The parts that may have weights, the first word of each weight's name.
PARTS = ("front_end", "backbone", "head", "calibrator")

#: A file, or an array `(samples,)` or `(channels, samples)`.
Audio = str | PathLike | np.ndarray


@keras.saving.register_keras_serializable(package="music_zoo")
class Classifier(TaskModel):
    """Audio in, calibrated probabilities out.

    A functional model from a batch of windows of waveform, `(batch, window)` float32, mono, at
    `front_end.sample_rate`, to probabilities `(batch, num_classes)`. Compile and `fit` it like any Keras
    model. `classify` and `embed` take files and arrays of any length and do all that lies before and after
    the network. To train only the head, set `classifier.backbone.trainable = False` before `compile`; the
    backbone's batch normalisation then keeps its statistics.

    Args:
        front_end: Waveform to features.
        backbone: Features to feature map.
        labels: One name per class, in the order of the outputs.
        task: `"single_label"` (softmax) or `"multi_label"` (sigmoid).
        window: Length of a window in seconds.
        pooling: `"mean"`, `"max"`, `"mean_max"`, or `"none"` where the backbone gives the embedding, see
            `music_zoo.layers.GlobalPooling`.
        dropout: Rate before the head, while training.
        name: Name of the model.

    Attributes:
        front_end, backbone, pooling, head, calibrator: The parts, in the order of the data.
        labels: Tuple of label names.
        sample_rate: Of the waveform, in Hz.
        window: In seconds.
        window_samples: The same in samples.

    Raises:
        ValueError: A setting that cannot be: an unknown task, no or repeated labels, a window too short for
            the front end.
    """

    def __init__(
        self,
        front_end: FrontEnd,
        backbone: Backbone,
        labels: Sequence[str],
        *,
        task: str = "single_label",
        window: float,
        pooling: str = "mean",
        dropout: float = 0.0,
        name: str = "classifier",
    ):
        labels = (labels,) if isinstance(labels, str) else tuple(labels)  # no string is a list of letters
        _check_settings(front_end, labels, task, window)
        window_samples = round(window * front_end.sample_rate)
        pool = GlobalPooling(
            pooling, dtype="float32"
        )  # embeddings keep their digits under mixed precision, too
        drop = keras.layers.Dropout(dropout, name="dropout")
        head = keras.layers.Dense(len(labels), dtype="float32", name="head")
        calibrator = Temperature(name="calibrator")
        activation = keras.layers.Activation(TASKS[task], dtype="float32", name="probabilities")

        def outputs_of(features) -> dict:
            embedding = pool(backbone(features))
            logits = head(drop(embedding))
            probabilities = activation(calibrator(logits))
            return {
                "features": features,
                "embedding": embedding,
                "logits": logits,
                "probabilities": probabilities,
            }

        waveform = keras.Input((window_samples,), dtype="float32", name="waveform")
        features = keras.Input(backbone.input_shape[1:], name="features")
        from_waveform = outputs_of(front_end(waveform))
        super().__init__(
            inputs=waveform,
            outputs=from_waveform["probabilities"],
            task=task,
            xla_on_tensorflow=backbone.xla_on_tensorflow,
            name=name,
        )
        self._ends = {
            "waveform": (waveform, from_waveform),
            "features": (features, outputs_of(features)),
        }
        self.front_end = front_end
        self.backbone = backbone
        self.pooling = pool
        self.head = head
        self.calibrator = calibrator
        self.dropout = dropout
        self.labels = labels
        self.window = window
        self.window_samples = window_samples

    @property
    def sample_rate(self) -> int:
        """Sample rate of the waveform in Hz."""
        return self.front_end.sample_rate

    # ---- views: other ends of the same network, sharing its weights ----------------------------------------

    @cached_property  # writes past Keras' attribute tracking, which would list the shared layers again
    def _views(self) -> dict[tuple[str, str], TaskModel]:
        return {}

    def view(self, inputs: str = "waveform", outputs: str = "probabilities") -> TaskModel:
        """Return the network between two of its points, as a model that shares the weights.

        Args:
            inputs: `"waveform"` or `"features"` (the front end's output, of any number of frames).
            outputs: `"features"`, `"embedding"`, `"logits"` (before the calibrator) or `"probabilities"`.

        Raises:
            ValueError: No such point.
        """
        if (inputs, outputs) not in self._views:
            start, ends = self._ends.get(inputs, (None, {}))
            if outputs not in ends:
                raise ValueError(
                    "A view goes from 'waveform' or 'features' to 'features', 'embedding', 'logits' or "
                    f"'probabilities', got {inputs!r} to {outputs!r}."
                )
            self._views[inputs, outputs] = TaskModel(
                start,
                ends[outputs],
                task=self.task,
                xla_on_tensorflow=self.backbone.xla_on_tensorflow,
                name=f"{self.name}_{inputs}_to_{outputs}",
            )
        return self._views[inputs, outputs]

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
    ) -> Prediction:
        """Classify one file or array of any length; memory does not grow with the length of a file.

        The probabilities are the mean over windows. Windows start every `hop` seconds; the last one is moved
        back so that it ends with the audio; audio shorter than a window is repeated until it fills one.

        Args:
            audio: A file, or an array `(samples,)` or `(channels, samples)`.
            sample_rate: Of an array, in Hz; required for arrays, not for files, which say their own.
            hop: Seconds from the start of one window to that of the next; the window's length if None.
            allow_truncated: Take what can be decoded of a file that ends before its header says.

        Raises:
            AudioError: The audio cannot be used; the message says why.

        Warns:
            UserWarning: The audio is silent, or of so low a sample rate that much of what the classifier
                listens to is missing. The notes of the result say so too.
        """
        source = _source(audio, sample_rate)
        (result,) = self.classify_many([source], hop=hop, allow_truncated=allow_truncated)
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
        progress: Callable[[float], None] | None = None,
    ) -> Iterator[Prediction | MusicZooError]:
        """Classify many files, decoding ahead in threads, with batches that reach across files.

        Args:
            audios: Files, or pairs of array and sample rate.
            hop: As in `classify`.
            allow_truncated: As in `classify`.
            progress: Called now and then with the seconds of audio that have newly been classified.

        Yields:
            For each input, in order, its prediction or, where it cannot be used, the error.
        """
        for result in self.infer(audios, hop=hop, allow_truncated=allow_truncated, progress=progress):
            if isinstance(result, MusicZooError):
                yield result
            else:
                yield Prediction(
                    source=result.source,
                    model=self.name,
                    task=self.task,
                    labels=self.labels,
                    probabilities=result.outputs.mean(axis=0),
                    taggram=result.outputs,
                    times=result.times,
                    duration=result.duration,
                    notes=result.notes,
                )

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
        if hop is not None and not 0 < hop <= self.window:
            raise ValueError(f"`hop` must lie between 0 and the window of {self.window} s, got {hop}.")
        return infer(
            self.view("waveform", outputs),
            audios,
            sample_rate=self.sample_rate,
            window=self.window_samples,
            hop=max(1, round((hop or self.window) * self.sample_rate)),
            allow_truncated=allow_truncated,
            progress=progress,
        )

    # ---- files ---------------------------------------------------------------------------------------------

    def get_config(self) -> dict:
        """Return a description in plain JSON from which `from_config` builds the same network."""
        return {
            "front_end": self.front_end.get_config(),
            "backbone": {"architecture": type(self.backbone).__name__, "config": self.backbone.get_config()},
            "labels": list(self.labels),
            "task": self.task,
            "window": self.window,
            "pooling": self.pooling.mode,
            "dropout": self.dropout,
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config: Mapping, custom_objects=None) -> "Classifier":
        """Build an untrained classifier from what `get_config` returned.

        Only layers and backbones of this package can be named.

        Raises:
            ValueError: An unknown architecture or layer.
        """
        config = dict(config)
        backbone = config.pop("backbone")
        if backbone["architecture"] not in BACKBONES:
            raise ValueError(
                f"Unknown architecture {backbone['architecture']!r}; expected one of {', '.join(BACKBONES)}."
            )
        return cls(
            front_end=FrontEnd.from_config(config.pop("front_end")),
            backbone=BACKBONES[backbone["architecture"]].from_config(backbone["config"]),
            **config,
        )

    def get_compile_config(self) -> dict:
        """Return how it was compiled and which parts are frozen, so that training can go on from a file."""
        if not self.compiled:
            return {}
        frozen = [part for part in PARTS if not getattr(self, part).trainable]
        return super().get_compile_config() | {"frozen": frozen}

    def compile_from_config(self, config: dict) -> None:
        """Freeze and compile as before saving."""
        config = dict(config)
        for part in config.pop("frozen", ()):
            getattr(self, part).trainable = False
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
        if unknown := sorted(set(parts or ()) - set(PARTS)):
            raise ValueError(f"`parts` may name {', '.join(PARTS)}, got {', '.join(unknown)}.")

        def wanted(name: str) -> bool:
            return parts is None or name.split(".")[0] in parts

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
        write_preset(folder, {"classifier": self.get_config()}, self.tensors(), dict(golden))

    @classmethod
    def from_preset_files(
        cls, files: PresetFiles, labels: Sequence[str] | None = None, task: str | None = None
    ) -> "Classifier":
        """Build from the files of a preset.

        Args:
            files: As `music_zoo.hub.preset_files.read_preset` returns them.
            labels: If given, the head and the calibrator are fresh ones, for these labels.
            task: Of the fresh head; that of the preset if None.

        Raises:
            PresetError: A config that describes no classifier, or weights that do not fit it.
            ValueError: Labels or a task that a classifier cannot have.
        """
        try:
            classifier = cls.from_config(files.config["classifier"])
        except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
            raise PresetError(f"The preset's config.json describes no classifier: {error!r}") from error
        classifier.set_tensors(files.tensors)
        if labels is None:
            return classifier
        own = {"labels": labels, "task": task or classifier.task}
        trained = {"front_end": classifier.front_end, "backbone": classifier.backbone}
        return cls(**classifier.get_config() | own | trained)

    def _named_weights(self) -> dict[str, keras.Variable]:
        return {
            f"{part}.{variable.path.removeprefix(layer.name + '/').replace('/', '.')}": variable
            for part in PARTS
            for layer in [getattr(self, part)]
            for variable in layer.weights
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


def _check_settings(front_end: FrontEnd, labels: tuple[str, ...], task: str, window: float) -> None:
    if task not in TASKS:
        raise ValueError(f"`task` must be one of {', '.join(TASKS)}, got {task!r}.")
    if len(labels) < (2 if task == "single_label" else 1):
        raise ValueError(f"A {task} classifier needs more labels than {len(labels)}: {list(labels)}.")
    repeated = sorted({label for label in labels if labels.count(label) > 1})
    if repeated:
        raise ValueError(f"Labels must differ from each other; repeated: {repeated}.")
    if not front_end.min_samples <= window * front_end.sample_rate < float("inf"):
        raise ValueError(
            f"A window must hold at least the {front_end.min_samples} samples that the front end needs at "
            f"{front_end.sample_rate} Hz, got {window} s."
        )
