"""Random parts of a track: one for training a classifier, two for learning what they have in common."""

from typing import Any

import keras
from keras import ops

from music_zoo.layers.augmentation.base import Augmentation
from music_zoo.layers.augmentation.gather import take_last


class _Segments(Augmentation):
    """Cuts `length` samples or frames out of `(batch, samples)` or `(batch, n_mels, frames)`."""

    def __init__(self, length: int, *, seed: int | None = None, name: str | None = None):
        super().__init__(seed=seed, name=name)
        if length < 1:
            raise ValueError(f"{type(self).__name__}: `length` must be at least 1, got {length}.")
        self.length = length

    def cut(self, inputs: Any, start: Any) -> Any:
        """Return `(batch, ..., length)` from `start`, `(batch,)`, on."""
        return take_last(inputs, ops.expand_dims(start, 1) + ops.arange(self.length, dtype="int32"))

    def free(self, inputs: Any, needed: int) -> Any:
        """Return how many places there are, besides the first, for something `needed` long."""
        self._check(inputs.shape, needed)
        return ops.shape(inputs)[-1] - needed

    def _check(self, shape: tuple[int | None, ...], needed: int) -> None:
        if shape[-1] is not None and shape[-1] < needed:
            raise ValueError(
                f"{self.name} ({type(self).__name__}) needs at least {needed} samples or frames, got inputs "
                f"of shape {tuple(shape)}; give it longer tracks or ask for shorter segments."
            )

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"length": self.length, "seed": self.seed, "name": self.name}


@keras.saving.register_keras_serializable(package="music_zoo")
class RandomCrop(_Segments):
    """Cuts a part of each example at a random place; when not training, from the middle.

    Shapes: `(batch, samples)` to `(batch, length)`, or `(batch, n_mels, frames)` to
    `(batch, n_mels, length)`.

    Args:
        length: Of the part, in samples or frames.
        seed: As of `Augmentation`.
        name: Name of the layer.

    Raises:
        ValueError: A length below 1, and inputs that are shorter.
    """

    def draw(self, inputs: Any) -> dict[str, Any]:
        """Return the first index `start` of each part."""
        return {"start": self.integers(inputs, self.free(inputs, self.length))}

    def apply(self, inputs: Any, start: Any) -> Any:
        """Return the parts."""
        return self.cut(inputs, start)

    def without(self, inputs: Any) -> Any:
        """Return the middle of each example."""
        start = self.free(inputs, self.length) // 2
        return inputs[..., start : start + self.length]

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Return the input's shape with `length` at its end."""
        self._check(input_shape, self.length)
        return (*input_shape[:-1], self.length)


@keras.saving.register_keras_serializable(package="music_zoo")
class TwoSegments(_Segments):
    """Cuts two parts of each example, at least `min_distance` apart, in random order.

    Every pair of places that the distance allows is equally likely. When not training, the first and the last
    part there is. Two segments of one track as the views of contrastive learning are the only augmentation
    of Meseguer-Brocal et al. 2024 (arXiv:2404.09177): 4 s each, at least 4 s apart.

    Shapes: `(batch, samples)` to twice `(batch, length)`, or `(batch, n_mels, frames)` to twice
    `(batch, n_mels, length)`.

    Args:
        length: Of each part, in samples or frames.
        min_distance: From the end of one part to the start of the other, in samples or frames; negative lets
            them overlap, `-length` lets them be the same.
        seed: As of `Augmentation`.
        name: Name of the layer.

    Raises:
        ValueError: A length below 1, a distance below `-length`, and inputs too short for two such parts.
    """

    def __init__(
        self, length: int, min_distance: int = 0, *, seed: int | None = None, name: str | None = None
    ):
        super().__init__(length, seed=seed, name=name)
        if min_distance < -length:
            raise ValueError(
                f"TwoSegments: parts overlap by no more than their length, so `min_distance` must be at "
                f"least {-length}, got {min_distance}."
            )
        self.min_distance = min_distance
        self._step = length + min_distance  # from start to start, at the least
        self._needed = self._step + length

    def draw(self, inputs: Any) -> dict[str, Any]:
        """Return the first index of both parts, `first` and `second`."""
        free = self.free(inputs, self._needed)
        # The earlier part starts at 0 <= i <= free, the later at `step + j` with i <= j <= free. Of all
        # 0 <= x <= free and 0 <= y <= free + 1, those with y > x stand for (i, j) = (x, y - 1), the others
        # for (y, x): each pair has one chance in either order.
        x, y = self.integers(inputs, free), self.integers(inputs, free + 1)
        in_order = y > x
        return {
            "first": ops.where(in_order, x, x + self._step),
            "second": ops.where(in_order, y - 1 + self._step, y),
        }

    def apply(self, inputs: Any, first: Any, second: Any) -> tuple[Any, Any]:
        """Return the two parts."""
        return self.cut(inputs, first), self.cut(inputs, second)

    def without(self, inputs: Any) -> tuple[Any, Any]:
        """Return the first and the last part."""
        last = self.free(inputs, self._needed) + self._step
        return inputs[..., : self.length], inputs[..., last : last + self.length]

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[tuple[int | None, ...], ...]:
        """Return the shapes of the two parts."""
        self._check(input_shape, self._needed)
        return ((*input_shape[:-1], self.length),) * 2

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return super().get_config() | {"min_distance": self.min_distance}
