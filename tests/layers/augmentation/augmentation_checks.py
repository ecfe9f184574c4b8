"""What the tests of the augmentations share: parameters and results as numpy, compiled calls, saved state."""

import keras
import numpy as np


def drawn(layer, inputs) -> dict[str, np.ndarray]:
    """The parameters that the layer draws next for such inputs."""
    return keras.tree.map_structure(keras.ops.convert_to_numpy, layer.draw(_tensor(inputs)))


def applied(layer, inputs, **parameters):
    """What the layer makes of the inputs with these parameters."""
    parameters = {name: _tensor(value) for name, value in parameters.items()}
    apply = layer.apply
    if keras.config.backend() == "jax":  # which would compile every operation by itself
        import jax

        apply = jax.jit(apply)
    return keras.tree.map_structure(keras.ops.convert_to_numpy, apply(_tensor(inputs), **parameters))


def called(layer, inputs, training: bool | None = True):
    """What the layer makes of the inputs."""
    outputs = layer(_tensor(inputs), training=training)
    return keras.tree.map_structure(keras.ops.convert_to_numpy, outputs)


def called_compiled(layer, batches) -> list:
    """What the layer makes of one batch after the other while training, in a graph of unknown batch size."""
    shape = (None, *batches[0].shape[1:])
    layer.build(shape)
    backend = keras.config.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        graph = tf.function(
            lambda inputs: layer(inputs, training=True), input_signature=[tf.TensorSpec(shape, "float32")]
        )
        outputs = [graph(tf.constant(batch)) for batch in batches]
    elif backend == "jax":
        import jax

        step = jax.jit(lambda state, inputs: layer.stateless_call([], state, inputs, training=True))
        state = [variable.value for variable in layer.non_trainable_variables]
        outputs = []
        for batch in batches:
            output, state = step(state, batch)
            outputs.append(output)
    else:
        outputs = [layer(_tensor(batch), training=True) for batch in batches]
    return keras.tree.map_structure(keras.ops.convert_to_numpy, outputs)


def check_restored(layer, inputs, path) -> None:
    """A layer of the same config with the saved state of this one draws what this one draws next."""
    shape = inputs.shape[1:]
    called(layer, inputs)  # so that the state is not the first one
    copy = from_own_config(layer)
    _model(layer, shape).save_weights(path)
    expected = called(layer, inputs)
    assert not all_equal(called(copy, inputs), expected)
    _model(copy, shape).load_weights(path)
    assert all_equal(called(copy, inputs), expected)


def from_own_config(layer):
    """The layer that its own saved form describes, which is the same again."""
    config = keras.saving.serialize_keras_object(layer)
    copy = keras.saving.deserialize_keras_object(config)
    assert keras.saving.serialize_keras_object(copy) == config
    return copy


def all_equal(one, other) -> bool:
    """Whether two arrays, or two tuples of arrays, are the same."""
    return all(
        np.array_equal(a, b) for a, b in zip(keras.tree.flatten(one), keras.tree.flatten(other), strict=True)
    )


def _model(layer, shape) -> keras.Model:
    inputs = keras.Input(shape)
    return keras.Model(inputs, layer(inputs))


def _tensor(values):
    values = np.asarray(values)
    return keras.ops.convert_to_tensor(values.astype("int32" if values.dtype.kind == "i" else "float32"))
