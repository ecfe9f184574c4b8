"""Batch normalisation as Keras has it, at the speed of the backend's own."""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="music_zoo")
class BatchNormalization(keras.layers.BatchNormalization):
    """Keras' layer with the same weights; on PyTorch, one fused operation computes it.

    Keras composes the layer of elementary operations. XLA and TensorFlow's graphs fuse them; PyTorch goes
    through memory for each, which takes several times as long as its own batch normalisation, and rounds
    more: Keras takes the variance as E[x^2] - E[x]^2. As in Keras, the running variance is the mean of the
    biased variances of the batches.

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
