"""Layers of Keras that it composes of elementary operations, with the same weights and results.

XLA and TensorFlow's graphs fuse such operations. PyTorch goes through memory for each, so there one operation
of its own computes the layer: a step of training takes up to a third less
(`benchmarks/training.py`).
"""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="music_zoo")
class BatchNormalization(keras.layers.BatchNormalization):
    """Keras' batch normalisation.

    PyTorch's own also rounds less: Keras takes the variance as E[x^2] - E[x]^2. As in Keras, the running
    variance is the mean of the biased variances of the batches.

    Arguments as of `keras.layers.BatchNormalization`.
    """

    def call(self, inputs, training=None, mask=None):
        """Return the input normalised over all axes but the channels."""
        if keras.config.backend() != "torch" or mask is not None or self.renorm:
            return super().call(inputs, training=training, mask=mask)
        import torch

        x = ops.cast(inputs, keras.backend.result_type(inputs.dtype, "float32"))
        gamma, beta, moving_mean, moving_variance = (
            None if variable is None else ops.cast(variable, x.dtype)
            for variable in (self.gamma, self.beta, self.moving_mean, self.moving_variance)
        )
        of_batch = bool(training and self.trainable)
        statistics = (None, None) if of_batch else (moving_mean, moving_variance)
        outputs, mean, inverse_std = torch.native_batch_norm(
            torch.movedim(x, self.axis, 1), gamma, beta, *statistics, of_batch, 0.0, self.epsilon
        )
        if of_batch:
            variance = torch.clamp(inverse_std.detach() ** -2 - self.epsilon, min=0)
            for moving, now in ((self.moving_mean, mean.detach()), (self.moving_variance, variance)):
                moving.assign(ops.cast(moving, x.dtype) * self.momentum + now * (1 - self.momentum))
        return ops.cast(torch.movedim(outputs, 1, self.axis), self.compute_dtype)


@keras.saving.register_keras_serializable(package="music_zoo")
class Dense(keras.layers.Dense):
    """Keras' dense layer. Arguments as of `keras.layers.Dense`."""

    def call(self, inputs, training=None):
        """Return `activation(inputs @ kernel + bias)`."""
        if keras.config.backend() != "torch":
            return super().call(inputs, training=training)
        import torch

        kernel = ops.convert_to_tensor(self.kernel)
        bias = None if self.bias is None else ops.convert_to_tensor(self.bias)
        outputs = torch.nn.functional.linear(inputs, kernel.T, bias)
        return outputs if self.activation is None else self.activation(outputs)
