"""Augmentations of log-mel images `(batch, n_mels, frames)`, scaled to 0..1 as a front end gives them."""

import math
from typing import Any

import keras
import numpy as np
from keras import ops

from music_zoo.layers.augmentation.base import Augmentation
from music_zoo.layers.augmentation.gather import interpolate_bands, interpolate_last


@keras.saving.register_keras_serializable(package="music_zoo")
class RandomResizedCrop(Augmentation):
    """Stretches a random part of the image, in time and frequency, to the size of the whole.

    Faster or slower, and transposed, in one: music in another tempo and key. Interpolates linearly; shares of
    1 change nothing. As in BYOL-A (Niizumi et al. 2021, arXiv:2103.06695), which also shrinks.

    Args:
        scale_time: Least and greatest share of the duration that is kept, above 0 and up to 1.
        scale_frequency: The same of the mel range.
        probability: As of `Augmentation`.
        seed: As of `Augmentation`.
        name: Name of the layer.

    Raises:
        ValueError: A range that is not in order, or not above 0 and up to 1.
    """

    def __init__(
        self,
        scale_time: tuple[float, float] = (0.6, 1.0),
        scale_frequency: tuple[float, float] = (0.6, 1.0),
        *,
        probability: float = 1.0,
        seed: int | None = None,
        name: str | None = None,
    ):
        super().__init__(probability=probability, seed=seed, name=name)
        for argument, (low, high) in (("scale_time", scale_time), ("scale_frequency", scale_frequency)):
            if not 0 < low <= high <= 1:
                raise ValueError(
                    f"RandomResizedCrop: `{argument}` must be (low, high) with 0 < low <= high <= 1, got "
                    f"({low}, {high})."
                )
        self.scale_time = tuple(scale_time)
        self.scale_frequency = tuple(scale_frequency)

    def draw(self, inputs: Any) -> dict[str, Any]:
        """Return the shares kept, and of what is not kept the shares before the part (each 0..1)."""
        return {
            "time_share": self.uniform(inputs, *self.scale_time),
            "time_place": self.uniform(inputs),
            "frequency_share": self.uniform(inputs, *self.scale_frequency),
            "frequency_place": self.uniform(inputs),
        }

    def apply(
        self, inputs: Any, time_share: Any, time_place: Any, frequency_share: Any, frequency_place: Any
    ) -> Any:
        """Return the stretched parts."""
        _, n_mels, frames = ops.shape(inputs)
        # First along the bands, where whole rows are copied.
        if self.scale_frequency != (1, 1):
            inputs = interpolate_bands(inputs, _part(n_mels, frequency_share, frequency_place))
        if self.scale_time != (1, 1):
            inputs = interpolate_last(inputs, _part(frames, time_share, time_place))
        return inputs

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return super().get_config() | {
            "scale_time": self.scale_time,
            "scale_frequency": self.scale_frequency,
        }


class _Masking(Augmentation):
    """Blanks `count` stretches along one axis; the two subclasses say which."""

    axis: int

    def __init__(
        self,
        max_width: int,
        count: int = 2,
        fill: float | str = "mean",
        *,
        probability: float = 1.0,
        seed: int | None = None,
        name: str | None = None,
    ):
        super().__init__(probability=probability, seed=seed, name=name)
        if max_width < 0 or count < 1:
            raise ValueError(
                f"{type(self).__name__}: `max_width` must be at least 0 and `count` at least 1, got "
                f"max_width={max_width}, count={count}."
            )
        if fill != "mean" and not isinstance(fill, int | float):
            raise ValueError(f'{type(self).__name__}: `fill` must be "mean" or a number, got {fill!r}.')
        self.max_width = max_width
        self.count = count
        self.fill = fill

    def draw(self, inputs: Any) -> dict[str, Any]:
        """Return `start` and `width` of each stretch, `(batch, count)`."""
        size = ops.shape(inputs)[self.axis]
        if inputs.shape[self.axis] is not None and size < self.max_width:
            raise ValueError(
                f"{self.name} ({type(self).__name__}) blanks up to {self.max_width}, got inputs of shape "
                f"{tuple(inputs.shape)} with only {size} along that axis; lower `max_width`."
            )
        width = self.integers(inputs, self.max_width, shape=(self.count,))
        return {"start": self.integers(inputs, size - width, shape=(self.count,)), "width": width}

    def apply(self, inputs: Any, start: Any, width: Any) -> Any:
        """Return the images with their stretches blanked."""
        place = ops.arange(ops.shape(inputs)[self.axis], dtype="int32")
        start, width = start[..., None], width[..., None]
        blank = ops.any(ops.logical_and(place >= start, place < start + width), axis=1)
        fill = ops.mean(inputs, axis=(1, 2), keepdims=True) if self.fill == "mean" else float(self.fill)
        return ops.where(ops.expand_dims(blank, 3 - self.axis), fill, inputs)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return super().get_config() | {
            "max_width": self.max_width,
            "count": self.count,
            "fill": self.fill,
        }


@keras.saving.register_keras_serializable(package="music_zoo")
class TimeMasking(_Masking):
    """Blanks stretches of frames: SpecAugment's time masking (Park et al. 2019, arXiv:1904.08779).

    Args:
        max_width: Of a stretch, in frames; its width is drawn evenly from 0 on.
        count: How many stretches. They may overlap.
        fill: What replaces them: a number, or "mean" for the image's own.
        probability: As of `Augmentation`.
        seed: As of `Augmentation`.
        name: Name of the layer.

    Raises:
        ValueError: An argument out of range, or inputs with fewer than `max_width` frames.
    """

    axis = 2


@keras.saving.register_keras_serializable(package="music_zoo")
class FrequencyMasking(_Masking):
    """Blanks stretches of bands: SpecAugment's frequency masking (Park et al. 2019, arXiv:1904.08779).

    Args:
        max_width: Of a stretch, in mel bands; its width is drawn evenly from 0 on.
        count: How many stretches. They may overlap.
        fill: What replaces them: a number, or "mean" for the image's own.
        probability: As of `Augmentation`.
        seed: As of `Augmentation`.
        name: Name of the layer.

    Raises:
        ValueError: An argument out of range, or inputs with fewer than `max_width` bands.
    """

    axis = 1


@keras.saving.register_keras_serializable(package="music_zoo")
class Gain(Augmentation):
    """Gives the image another range of loudness: all values times `1 + normal(std)`.

    From the training of the preset `resnet-fma` (`music_zoo.training.examples`, there with 0.08).

    Args:
        std: Standard deviation of the factor, at least 0.
        probability: As of `Augmentation`.
        seed: As of `Augmentation`.
        name: Name of the layer.

    Raises:
        ValueError: An argument out of range.
    """

    def __init__(
        self,
        std: float = 0.08,
        *,
        probability: float = 1.0,
        seed: int | None = None,
        name: str | None = None,
    ):
        super().__init__(probability=probability, seed=seed, name=name)
        _require_std(self, std)
        self.std = std

    def draw(self, inputs: Any) -> dict[str, Any]:
        """Return the factors, `(batch,)`."""
        return {"gain": 1 + self.normal(inputs, self.std)}

    def apply(self, inputs: Any, gain: Any) -> Any:
        """Return the images times their factors."""
        return inputs * gain[:, None, None]

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return super().get_config() | {"std": self.std}


@keras.saving.register_keras_serializable(package="music_zoo")
class EqualizerTilt(Augmentation):
    """Adds a smooth random curve over the mel axis, like another setting of the tone controls.

    From the training of the preset `resnet-fma` (`music_zoo.training.examples`).

    Args:
        std: Standard deviation of the curve at its points, in units of the image: 0.04 are 3.2 of 80 dB.
        points: Where the curve is drawn, evenly from the lowest to the highest band, and linear between; at
            least 2.
        probability: As of `Augmentation`.
        seed: As of `Augmentation`.
        name: Name of the layer.

    Raises:
        ValueError: An argument out of range.
    """

    def __init__(
        self,
        std: float = 0.04,
        points: int = 6,
        *,
        probability: float = 1.0,
        seed: int | None = None,
        name: str | None = None,
    ):
        super().__init__(probability=probability, seed=seed, name=name)
        _require_std(self, std)
        if points < 2:
            raise ValueError(f"EqualizerTilt: a curve has at least 2 points, got points={points}.")
        self.std = std
        self.points = points

    def draw(self, inputs: Any) -> dict[str, Any]:
        """Return the curve at its points, `(batch, points)`."""
        return {"offsets": self.normal(inputs, self.std, shape=(self.points,))}

    def apply(self, inputs: Any, offsets: Any) -> Any:
        """Return the images with their curves added."""
        at = np.linspace(0, self.points - 1, inputs.shape[1], dtype="float32")
        hats = np.maximum(0, 1 - np.abs(at - np.arange(self.points, dtype="float32")[:, None]))
        return inputs + ops.matmul(offsets, hats)[..., None]

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return super().get_config() | {"std": self.std, "points": self.points}


@keras.saving.register_keras_serializable(package="music_zoo")
class LogMelMixup(Augmentation):
    """Plays a little of another example of the batch along with each.

    Sound adds in power, not in decibels, so power is what is mixed: `share` of another image's and the rest
    of its own, as in BYOL-A (Niizumi et al. 2021, arXiv:2103.06695, up to 0.4). Targets stay as they are.
    An example may meet itself, and then nothing changes.

    Args:
        max_share: Greatest share of the other example, from 0 to 1; the share is drawn evenly from 0 on.
        decibels: What the images' range from 0 to 1 stands for.
        probability: As of `Augmentation`.
        seed: As of `Augmentation`.
        name: Name of the layer.

    Raises:
        ValueError: An argument out of range.
    """

    def __init__(
        self,
        max_share: float = 0.4,
        decibels: float = 80.0,
        *,
        probability: float = 1.0,
        seed: int | None = None,
        name: str | None = None,
    ):
        super().__init__(probability=probability, seed=seed, name=name)
        if not 0 <= max_share <= 1 or decibels <= 0:
            raise ValueError(
                "LogMelMixup: `max_share` must be from 0 to 1 and `decibels` above 0, got "
                f"max_share={max_share}, decibels={decibels}."
            )
        self.max_share = max_share
        self.decibels = decibels

    def draw(self, inputs: Any) -> dict[str, Any]:
        """Return the number of each one's `partner`, a random order of the batch, and its `share`."""
        return {
            "partner": ops.argsort(self.uniform(inputs)),
            "share": self.uniform(inputs, 0.0, self.max_share),
        }

    def apply(self, inputs: Any, partner: Any, share: Any) -> Any:
        """Return the mixtures."""
        scale = math.log(10) / 10 * self.decibels  # log power of 1
        own, other = (ops.log(ops.maximum(part, 1e-30))[:, None, None] for part in (1 - share, share))
        powers = scale * inputs
        return ops.logaddexp(powers + own, ops.take(powers, partner, axis=0) + other) / scale

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return super().get_config() | {"max_share": self.max_share, "decibels": self.decibels}


@keras.saving.register_keras_serializable(package="music_zoo")
class TimeWarping(Augmentation):
    """Moves one point in time, and stretches what is before and after it to fit.

    SpecAugment's time warping (Park et al. 2019, arXiv:1904.08779) with linear interpolation.

    Args:
        max_shift: Farthest that the point moves either way, in frames. The point lies at least as far from
            both ends.
        probability: As of `Augmentation`.
        seed: As of `Augmentation`.
        name: Name of the layer.

    Raises:
        ValueError: A shift below 0, or inputs of no more than `2 * max_shift + 1` frames.
    """

    def __init__(
        self,
        max_shift: float,
        *,
        probability: float = 1.0,
        seed: int | None = None,
        name: str | None = None,
    ):
        super().__init__(probability=probability, seed=seed, name=name)
        if max_shift < 0:
            raise ValueError(f"TimeWarping: `max_shift` must be at least 0, got {max_shift}.")
        self.max_shift = max_shift

    def draw(self, inputs: Any) -> dict[str, Any]:
        """Return where the `point` is and by how many frames it moves (`shift`)."""
        last = ops.shape(inputs)[2] - 1
        if inputs.shape[2] is not None and last <= 2 * self.max_shift:
            raise ValueError(
                f"{self.name} (TimeWarping) needs more than {2 * self.max_shift + 1} frames to move a point "
                f"by {self.max_shift}, got inputs of shape {tuple(inputs.shape)}; lower `max_shift`."
            )
        room = ops.cast(last, "float32") - 2 * self.max_shift
        return {
            "point": self.max_shift + room * self.uniform(inputs),
            "shift": self.uniform(inputs, -self.max_shift, self.max_shift),
        }

    def apply(self, inputs: Any, point: Any, shift: Any) -> Any:
        """Return the warped images."""
        frames = ops.shape(inputs)[2]
        last = ops.cast(frames - 1, "float32")
        point, moved = point[:, None], (point + shift)[:, None]
        at = ops.arange(frames, dtype="float32")
        # Where an end is the point's new place there is nothing on that side: any divisor will do.
        before = at * point / ops.maximum(moved, 1e-3)
        after = last - (last - at) * (last - point) / ops.maximum(last - moved, 1e-3)
        return interpolate_last(inputs, ops.where(at <= moved, before, after))

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return super().get_config() | {"max_shift": self.max_shift}


def _part(size: Any, share: Any, place: Any) -> Any:
    """Return `size` positions `(batch, size)`, evenly over a part of an axis of that size."""
    share, place = share[:, None], place[:, None]
    last = ops.cast(size - 1, "float32")
    return place * (1 - share) * last + share * ops.arange(size, dtype="float32")


def _require_std(layer: Augmentation, std: float) -> None:
    if std < 0:
        raise ValueError(f"{type(layer).__name__}: `std` must be at least 0, got {std}.")
