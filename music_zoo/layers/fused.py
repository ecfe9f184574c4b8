"""Layers of Keras with the same weights and results, in fewer passes through memory on PyTorch.

Keras composes them of elementary operations. XLA and TensorFlow's graphs fuse these; PyTorch, which runs them
one by one, writes and reads an array for each. Here, `+=` and `*=` reuse an array that is not needed any more
(on other backends they mean the same as `+` and `*`), and batch normalisation has its gradient in closed form
(`benchmarks/training.py` measures it).
"""

import math

import keras
from keras import ops

#: Numbers of an intermediate result that a processor's cache takes.
CACHED = 2**19


@keras.saving.register_keras_serializable(package="music_zoo")
class BatchNormalization(keras.layers.BatchNormalization):
    """Keras' batch normalisation. Arguments as of `keras.layers.BatchNormalization`.

    On PyTorch the variance is the mean of squares about the mean, which Keras takes as E[x^2] - E[x]^2.
    """

    def call(self, inputs, training=None, mask=None):
        """Return the input normalised over all axes but the channels."""
        is_plain = mask is None and self.scale and self.center and not self.renorm
        if keras.config.backend() != "torch" or not is_plain:
            return super().call(inputs, training=training, mask=mask)
        x = ops.cast(inputs, keras.backend.result_type(inputs.dtype, "float32"))
        gamma, beta, mean, variance = (
            ops.cast(variable, x.dtype)
            for variable in (self.gamma, self.beta, self.moving_mean, self.moving_variance)
        )
        if training and self.trainable:
            outputs, *now = _normalized(x, gamma, beta, self.axis, self.epsilon)
            for moving, before, value in zip(
                (self.moving_mean, self.moving_variance), (mean, variance), now, strict=True
            ):
                moving.assign(before * self.momentum + value * (1 - self.momentum))
        else:
            scale = gamma * ops.rsqrt(variance + self.epsilon)
            outputs = _affine(x, scale, beta - mean * scale, self.axis)
        return ops.cast(outputs, self.compute_dtype)


@keras.saving.register_keras_serializable(package="music_zoo")
class Dense(keras.layers.Dense):
    """Keras' dense layer. Arguments as of `keras.layers.Dense`."""

    def call(self, inputs, training=None):
        """Return `activation(inputs @ kernel + bias)`."""
        outputs = ops.matmul(inputs, self.kernel)
        if self.bias is not None:
            outputs += ops.convert_to_tensor(self.bias)
        return outputs if self.activation is None else self.activation(outputs)


class _BiasInPlace:
    """A convolution of Keras that adds its bias to the convolved array itself."""

    def call(self, inputs):
        """Return `activation(inputs * kernel + bias)`."""
        outputs = self.convolution_op(inputs, self.kernel)
        if self.use_bias:
            axis = 1 if self.data_format == "channels_first" else -1
            outputs += _for_channels(self.bias, axis, self.rank + 2)
        return outputs if self.activation is None else self.activation(outputs)


@keras.saving.register_keras_serializable(package="music_zoo")
class Conv1D(_BiasInPlace, keras.layers.Conv1D):
    """Keras' convolution over time, without its causal padding. Arguments as of `keras.layers.Conv1D`."""


@keras.saving.register_keras_serializable(package="music_zoo")
class Conv2D(_BiasInPlace, keras.layers.Conv2D):
    """Keras' convolution of images. Arguments as of `keras.layers.Conv2D`."""


def _for_channels(values, axis: int, rank: int):
    """Reshape values of the channels so that they act on an array of that rank."""
    return ops.reshape(values, [-1 if other == axis % rank else 1 for other in range(rank)])


def _affine(x, scale, shift, axis: int):
    """Return `x * scale + shift` with a scale and a shift for each channel."""
    outputs = x * _for_channels(scale, axis, len(x.shape))
    outputs += _for_channels(shift, axis, len(x.shape))
    return outputs


def _parts(axes: list[int], *arrays):
    """Split arrays of one shape along axes, into views, until what a part becomes stays in the cache."""
    axis, *others = axes
    shape = arrays[0].shape
    count = min(shape[axis], 1 + math.prod(shape) // CACHED)
    for parts in zip(*(ops.array_split(array, count, axis) for array in arrays), strict=True):
        if others:
            yield from _parts(others, *parts)
        else:
            yield parts


def _normalized(x, gamma, beta, axis: int, epsilon: float):
    """Return `x` normalised by its own statistics, and these: mean and biased variance of each channel."""
    rank = len(x.shape)
    axes = [other for other in range(rank) if other != axis % rank]
    count = math.prod(x.shape[other] for other in axes)
    moments = []  # not outputs of what follows, whose gradient is that of one output

    @ops.custom_gradient
    def normalize(x, gamma, beta):
        # Both in one pass, about the mean of a part, so that the difference of squares loses no digits.
        about = ops.mean(next(_parts(axes, x))[0], axis=axes, keepdims=True)
        sums = squares = 0.0
        for (part,) in _parts(axes, x):
            part = part - about
            sums += ops.sum(part, axis=axes)
            squares += ops.sum(ops.square(part), axis=axes)
        sums /= count
        mean = ops.reshape(about, [-1]) + sums
        variance = ops.maximum(squares / count - ops.square(sums), 0.0)
        moments.extend((mean, variance))
        inverse_std = ops.rsqrt(variance + epsilon)
        scale = gamma * inverse_std

        def gradient(*args, upstream):
            # Ioffe and Szegedy 2015, arXiv:1502.03167, section 3, gathered into one multiple of x.
            to_beta = products = 0.0
            for up, part in _parts(axes, upstream, x):
                to_beta += ops.sum(up, axis=axes)
                products += ops.sum(up * part, axis=axes)
            to_gamma = (products - mean * to_beta) * inverse_std
            slope = -inverse_std * to_gamma / count
            shift = _for_channels(-mean * slope - to_beta / count, axis, rank)
            factor = _for_channels(scale, axis, rank)
            to_x = x * _for_channels(slope, axis, rank)
            for part, up in _parts(axes, to_x, upstream):
                part += shift
                part += up
                part *= factor
            return to_x, to_gamma, to_beta

        return _affine(x, scale, beta - mean * scale, axis), gradient

    return normalize(x, gamma, beta), *moments
