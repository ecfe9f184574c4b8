"""Reading each example of a batch at places of its own, with and without interpolation."""

from typing import Any

from keras import ops


def take_last(inputs: Any, index: Any) -> Any:
    """Return the elements `index` of the last axis.

    Args:
        inputs: `(batch, ..., length)`.
        index: `(batch, n)` int32, from 0 to `length - 1`, for each example its own.

    Returns:
        `(batch, ..., n)`.
    """
    *outer, length = ops.shape(inputs)
    rows = outer[0]
    for size in outer[1:]:
        rows = rows * size
    begin = ops.reshape(ops.arange(rows, dtype="int32") * length, (-1, *outer[1:], 1))
    index = ops.reshape(index, (-1, *[1] * len(outer[1:]), index.shape[-1]))
    return ops.take(ops.reshape(inputs, (-1,)), begin + index, axis=0)


def take_bands(inputs: Any, index: Any) -> Any:
    """Return the bands `index`, `(batch, n)` int32, of images `(batch, bands, frames)`."""
    batch, bands, frames = ops.shape(inputs)
    begin = ops.reshape(ops.arange(batch, dtype="int32") * bands, (-1, 1))
    return ops.take(ops.reshape(inputs, (-1, frames)), begin + index, axis=0)


def interpolate_last(inputs: Any, positions: Any) -> Any:
    """Return the last axis at positions between its elements, linearly interpolated.

    Args:
        inputs: `(batch, ..., length)`.
        positions: `(batch, n)` float32, for each example its own, from 0 to `length - 1`; one outside stands
            for the nearest inside.

    Returns:
        `(batch, ..., n)`.
    """
    below, above, share = _neighbours(positions, ops.shape(inputs)[-1])
    share = ops.reshape(share, (-1, *[1] * (len(inputs.shape) - 2), share.shape[-1]))
    return _between(take_last(inputs, below), take_last(inputs, above), share)


def interpolate_bands(inputs: Any, positions: Any) -> Any:
    """Return what `interpolate_last` does, along the bands of `(batch, bands, frames)`."""
    below, above, share = _neighbours(positions, ops.shape(inputs)[1])
    return _between(take_bands(inputs, below), take_bands(inputs, above), share[..., None])


def _neighbours(positions: Any, length: Any) -> tuple[Any, Any, Any]:
    positions = ops.clip(positions, 0.0, ops.cast(length - 1, "float32"))
    below = ops.floor(positions)
    index = ops.cast(below, "int32")
    return index, ops.minimum(index + 1, length - 1), positions - below


def _between(below: Any, above: Any, share: Any) -> Any:
    return below + share * (above - below)
