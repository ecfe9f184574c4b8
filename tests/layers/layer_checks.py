"""What the tests of the layers share: test signals, gradients on any backend, numpy in and out."""

import keras
import numpy as np
import scipy.signal


def signals(sample_rate: int, seconds: float = 2.0) -> dict[str, np.ndarray]:
    """Full-scale sweeps, a click, noise and a square wave: `(samples,)` float32."""
    t = np.arange(int(seconds * sample_rate)) / sample_rate
    click = np.zeros_like(t)
    click[len(t) // 3] = 1
    top = 0.49 * sample_rate
    every = {
        "linear sweep": scipy.signal.chirp(t, 20, seconds, top),
        "exponential sweep": scipy.signal.chirp(t, 20, seconds, top, method="logarithmic"),
        "click": click,
        "noise": np.random.default_rng(1).standard_normal(len(t)) * 0.1,
        "square": np.where(t * 220 % 1 < 0.5, 1.0, -1.0),
    }
    return {name: signal.astype("float32") for name, signal in every.items()}


def edge_cases(samples: int) -> dict[str, np.ndarray]:
    """What breaks naive front ends: `(samples,)` float32."""
    click = np.zeros(samples)
    click[samples // 2] = 1
    every = {
        "silence": np.zeros(samples),
        "click": click,
        "constant": np.ones(samples),
        "full scale": np.where(np.arange(samples) % 100 < 50, 1.0, -1.0),
        "nearly silent": np.full(samples, 1e-30),
    }
    return {name: signal.astype("float32") for name, signal in every.items()}


def run(layer, values) -> np.ndarray:
    """The layer's output, called eagerly, as numpy."""
    return keras.ops.convert_to_numpy(layer(np.asarray(values, "float32")))


def run_traced(layer, values, length: int | None = None) -> np.ndarray:
    """The layer's output inside a functional model of unknown batch size, and unknown length if not given."""
    inputs = keras.Input((*values.shape[1:-1], length))
    return keras.Model(inputs, layer(inputs)).predict(values, verbose=0)


def gradient(layer, values) -> np.ndarray:
    """The gradient of the sum of squares of the layer's output, as numpy."""
    values = np.asarray(values, "float32")

    def loss(inputs):
        return keras.ops.sum(keras.ops.square(layer(inputs)))

    layer(values)
    backend = keras.config.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        inputs = tf.constant(values)
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            total = loss(inputs)
        return tf.convert_to_tensor(tape.gradient(total, inputs)).numpy()
    if backend == "jax":
        import jax

        return np.asarray(jax.grad(loss)(values))
    import torch

    inputs = torch.tensor(values, requires_grad=True)
    loss(inputs).backward()
    return inputs.grad.numpy()
