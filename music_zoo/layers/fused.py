"""Layers of Keras with the same weights and results, in fewer passes through memory on PyTorch.

Keras composes them of elementary operations. XLA and TensorFlow's graphs fuse these; PyTorch, which runs them
one by one, writes and reads an array for each. Here, `+=` and `*=` reuse an array that is not needed any more
(on other backends they mean the same as `+` and `*`), and batch normalisation has its gradient in closed form
(`benchmarks/training.py` measures it).
"""

import math

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="music_zoo")
class BatchNormalization(keras.layers.BatchNormalization):
    """Keras' batch normalisation. Arguments as of `keras.layers.BatchNormalization`.

    On PyTorch the variance is rounded less than in Keras, which takes it as E[x^2] - E[x]^2.
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
            now = _moments(ops.stop_gradient(x), self.axis)
            for moving, before, value in zip(
                (self.moving_mean, self.moving_variance), (mean, variance), now, strict=True
            ):
                moving.assign(before * self.momentum + value * (1 - self.momentum))
            mean, variance = now
            outputs = _normalized_by_own(x, gamma, beta, mean, ops.rsqrt(variance + self.epsilon), self.axis)
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


def _all_but(axis: int, x) -> list[int]:
    return [other for other in range(len(x.shape)) if other != axis % len(x.shape)]


def _moments(x, axis: int):
    """Mean and variance of each channel."""
    return ops.mean(x, axis=_all_but(axis, x)), ops.var(x, axis=_all_but(axis, x))


def _affine(x, scale, shift, axis: int):
    """Return `x * scale + shift` with a scale and a shift for each channel."""
    shape = [1] * len(x.shape)
    shape[axis] = -1
    outputs = x * ops.reshape(scale, shape)
    outputs += ops.reshape(shift, shape)
    return outputs


def _normalized_by_own(x, gamma, beta, mean, inverse_std, axis: int):
    """Return `(x - mean) * inverse_std * gamma + beta`, where mean and deviation are those of `x`."""

    @ops.custom_gradient
    def normalize(x, gamma, beta):
        scale = gamma * inverse_std

        def gradient(*args, upstream):
            # Ioffe and Szegedy 2015, arXiv:1502.03167, section 3, gathered into one multiple of x.
            axes = _all_but(axis, x)
            count = math.prod(x.shape[other] for other in axes)
            to_beta = ops.sum(upstream, axis=axes)
            to_gamma = (ops.sum(upstream * x, axis=axes) - mean * to_beta) * inverse_std
            slope = -inverse_std * to_gamma / count
            to_x = _affine(x, slope, -mean * slope - to_beta / count, axis)
            to_x += upstream
            to_x *= ops.reshape(
                scale, [-1 if other == axis % len(x.shape) else 1 for other in range(len(x.shape))]
            )
            return to_x, to_gamma, to_beta

        return _affine(x, scale, beta - mean * scale, axis), gradient

    return normalize(x, gamma, beta)
