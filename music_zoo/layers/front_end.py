"""The front end: an ordered stack of preprocessing layers that a plain JSON config describes."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal, Self

import keras
from keras import ops

from music_zoo.layers.base import SignalLayer
from music_zoo.layers.compression import LogCompression
from music_zoo.layers.decibels import Decibels
from music_zoo.layers.frames import FrameSelection
from music_zoo.layers.harmonic import HarmonicFilterBank
from music_zoo.layers.mel import MelFilterBank
from music_zoo.layers.normalization import FixedStandardization, MinMaxNormalization, Standardization
from music_zoo.layers.stft import STFT

# All that a config can name. Nothing else is ever looked up, imported or built from one.
LAYERS: dict[str, type[SignalLayer]] = {
    layer.__name__: layer
    for layer in (
        STFT,
        MelFilterBank,
        HarmonicFilterBank,
        Decibels,
        LogCompression,
        MinMaxNormalization,
        Standardization,
        FixedStandardization,
        FrameSelection,
    )
}


@keras.saving.register_keras_serializable(package="music_zoo")
class FrontEnd(SignalLayer):
    """Waveform to the features that a backbone sees: the layers, one after another.

    Every example is processed on its own, in float32. Without layers it passes waveforms on as they are.
    The result is that of the layers one by one, with less work: mel bands are made of a few frames at a time,
    and frames that a `FrameSelection` will drop are dropped as early as they can be.

    Shapes: `(batch, samples)` to whatever the last layer gives, such as `(batch, n_mels, frames)`.

    Args:
        layers: Layers of this package, first to last.
        sample_rate: Samples per second that the layers are made for.
        name: Name of the layer.

    Raises:
        ValueError: If a layer is not one of this package's, or two layers contradict each other.
    """

    def __init__(self, layers: Sequence[SignalLayer], sample_rate: int, *, name: str = "front_end"):
        super().__init__(name=name)
        if not sample_rate > 0:
            raise ValueError(f"sample_rate must be positive, got {sample_rate} Hz.")
        for layer in layers:
            if type(layer) not in LAYERS.values():
                raise ValueError(f"A front end is made of {_known()}; got {type(layer).__name__}.")
        self.layers = list(layers)
        self.sample_rate = sample_rate
        self._check_agreement()

    def _check_agreement(self) -> None:
        n_fft = None
        for layer in self.layers:
            if isinstance(layer, STFT):
                n_fft = layer.n_fft
            elif isinstance(layer, MelFilterBank | HarmonicFilterBank):
                if layer.sample_rate != self.sample_rate:
                    raise ValueError(
                        f"The filter bank is made for {layer.sample_rate} Hz, the front end for "
                        f"{self.sample_rate} Hz; give both the same sample_rate."
                    )
                if layer.n_fft != n_fft:
                    raise ValueError(
                        f"The filter bank is made for n_fft={layer.n_fft}, the STFT before it has "
                        f"n_fft={n_fft}; give both the same."
                    )

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Build the layers, each for the shape that the one before gives."""
        for layer in self.layers:
            layer.build(input_shape)
            input_shape = layer.compute_output_shape(input_shape)
        self._steps = self._plan()

    def _plan(self) -> list[Callable[[Any], Any]]:
        """Return the layers' work in an order in which there is less of it."""
        steps = list(self.layers)
        frames = None
        at = next((i for i, step in enumerate(steps) if isinstance(step, FrameSelection)), None)
        if at is not None:
            first = at
            while first and steps[first - 1].rising:
                first -= 1
            if not all(layer.frame_wise for layer in steps[first:at]):
                steps[first : at + 1] = [partial(_select_first, steps[at], steps[first:at])]
            else:
                while first and steps[first - 1].frame_wise:
                    first -= 1
                steps.insert(first, steps.pop(at))
                if first and isinstance(steps[first - 1], STFT):
                    frames = steps.pop(first).frames
        at = next((i for i, step in enumerate(steps) if isinstance(step, STFT)), None)
        if at is not None:
            stft, pooling = steps[at], None
            if isinstance(steps[at + 1] if at + 1 < len(steps) else None, MelFilterBank):
                pooling = stft.pooling(steps.pop(at + 1).filters)
            steps[at] = partial(stft.pooled, pooling=pooling, select=frames)
        return steps

    def call(self, waveform: Any) -> Any:
        """Return the features of `(batch, samples)`."""
        self.compute_output_shape(waveform.shape)
        for step in self._steps:
            waveform = step(waveform)
        return waveform

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Return the shape of the features."""
        for layer in self.layers:
            input_shape = layer.compute_output_shape(input_shape)
        return tuple(input_shape)

    def min_length(self, length: int) -> int:
        """Return the shortest waveform that gives features of `length` along time or more."""
        for layer in reversed(self.layers):
            length = layer.min_length(length)
        return length

    @property
    def min_samples(self) -> int:
        """The shortest waveform the front end takes, in samples."""
        return self.min_length(1)

    def with_method(self, method: Literal["fft", "conv"]) -> Self:
        """Return the same front end with its Fourier transform computed in the other way.

        Args:
            method: See `STFT`; `"conv"` is the one that exports.
        """
        config = self.get_config()
        for entry in config["layers"]:
            if entry["layer"] == STFT.__name__:
                entry["config"]["method"] = method
        return type(self).from_config(config)

    def get_config(self) -> dict[str, Any]:
        """Return plain JSON values: the sample rate, and name and arguments of each layer."""
        return super().get_config() | {
            "sample_rate": self.sample_rate,
            "layers": [
                {
                    "layer": type(layer).__name__,
                    "config": {key: value for key, value in layer.get_config().items() if key != "name"},
                }
                for layer in self.layers
            ],
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Build a front end from what `get_config` returned, or from such a JSON file.

        Args:
            config: `{"sample_rate": 22050, "layers": [{"layer": "STFT", "config": {"n_fft": 2048}}, ...]}`.

        Raises:
            ValueError: If the config is not of that form, names an unknown layer or gives one a wrong
                argument. Only the layers of this package can be built.
        """
        if not {"sample_rate", "layers"} <= set(config) <= {"sample_rate", "layers", "name"}:
            raise ValueError(
                f"A front end's config has the keys 'sample_rate' and 'layers', got {sorted(config)}."
            )
        layers = [_build(number, entry) for number, entry in enumerate(config["layers"])]
        return cls(layers, config["sample_rate"], name=config.get("name", "front_end"))


def _select_first(selection: FrameSelection, layers: Sequence[SignalLayer], values: Any) -> Any:
    """Return what rising layers and then a selection of frames give, without the work on the other frames.

    Of those the layers see the extremes, as two more frames.
    """
    kept = selection(values)
    axes = tuple(range(1, len(values.shape)))
    extremes = [extreme(values, axis=axes, keepdims=True) for extreme in (ops.min, ops.max)]
    frame = ops.zeros_like(kept[..., :1])
    kept = ops.concatenate([kept, *(frame + each for each in extremes)], axis=-1)
    for layer in layers:
        kept = layer(kept)
    return kept[..., : selection.n_frames]


def _build(number: int, entry: Mapping[str, Any]) -> SignalLayer:
    if not isinstance(entry, Mapping) or not {"layer"} <= set(entry) <= {"layer", "config"}:
        raise ValueError(
            f'Layer {number} of a front end must be {{"layer": name, "config": {{...}}}}, got {entry!r}.'
        )
    if entry["layer"] not in list(LAYERS):
        raise ValueError(
            f"Layer {number} of the front end is {entry['layer']!r}, which is none of {_known()}; "
            "it may need a newer music_zoo."
        )
    try:
        return LAYERS[entry["layer"]](**entry.get("config", {}))
    except (TypeError, ValueError) as error:
        raise ValueError(f"Layer {number} of the front end, {entry['layer']}: {error}") from error


def _known() -> str:
    return ", ".join(LAYERS)
