"""Self-attention and what stands around it: a class token, learned positions, drop path, attention maps."""

from collections.abc import Sequence

import keras
from keras import layers, ops

from music_zoo.layers.fused import Dense


@keras.saving.register_keras_serializable(package="music_zoo")
class SelfAttention(layers.Layer):
    """Multi-head self-attention with query, key and value in one matrix, as vision transformers have it.

    `keras.layers.MultiHeadAttention` does not serve: it takes no additive bias, and its biases are either all
    there or none. (A separate bias of the keys would also be a weight without a gradient, since it moves all
    logits of a query alike.)

    Args:
        heads: Number of heads; must divide the width of the tokens.
        output_dim: Width of the output; that of the input if None.
        qkv_bias: Whether query, key and value have a bias.
        dropout: Rate for what tokens attend to, while training.
        kernel_initializer: Of both matrices.
        name: Name of the layer.
        **kwargs: Passed on to `keras.layers.Layer`.

    Input `(batch, ..., tokens, width)`, output `(batch, ..., tokens, output_dim)`. Tokens attend to each
    other along the last axis but one, for every index of the axes before it on its own.

    Raises:
        ValueError: `heads` does not divide the width.
    """

    def __init__(
        self,
        heads: int,
        output_dim: int | None = None,
        qkv_bias: bool = True,
        dropout: float = 0.0,
        kernel_initializer: str | dict | keras.Initializer = "glorot_uniform",
        name: str | None = None,
        **kwargs,
    ):
        super().__init__(name=name, **kwargs)
        self.heads = heads
        self.output_dim = output_dim
        self.qkv_bias = qkv_bias
        self.dropout = dropout
        self.attention_dropout = layers.Dropout(dropout, name="dropout")
        self.kernel_initializer = keras.initializers.get(kernel_initializer)

    def build(self, input_shape) -> None:
        """Make the two matrices."""
        width = input_shape[-1]
        if width % self.heads:
            raise ValueError(f"{self.name}: {self.heads} heads do not divide tokens of width {width}.")
        self.qkv = Dense(
            3 * width,
            use_bias=self.qkv_bias,
            kernel_initializer=self.kernel_initializer.clone(),  # an initializer repeats its numbers
            dtype=self.dtype_policy,
            name="qkv",
        )
        self.output_projection = Dense(
            self.output_dim or width,
            kernel_initializer=self.kernel_initializer.clone(),  # an initializer repeats its numbers
            dtype=self.dtype_policy,
            name="output",
        )
        self.qkv.build((None, width))
        self.output_projection.build((None, width))

    def call(self, inputs, bias=None, attention_only: bool = False):
        """Let tokens attend to each other.

        Args:
            inputs: `(batch, ..., tokens, width)`.
            bias: Added to the logits; broadcast against `(batch, ..., heads, tokens, tokens)`, queries before
                keys.
            attention_only: Return how much each token attends to each, of the logits' shape, instead.
        """
        *others, width = ops.shape(inputs)
        qkv = ops.reshape(self.qkv(inputs), (*others, 3, self.heads, width // self.heads))
        # (batch, ..., tokens, 3, heads, depth) to three times (batch, ..., heads, tokens, depth)
        query, key, value = ops.unstack(ops.swapaxes(ops.moveaxis(qkv, -3, 0), -3, -2), 3)
        logits = ops.matmul(query * (width // self.heads) ** -0.5, ops.swapaxes(key, -2, -1))
        if bias is not None:
            logits = logits + ops.cast(bias, logits.dtype)
        attention = ops.softmax(logits)
        if attention_only:
            return attention
        mixed = ops.swapaxes(ops.matmul(self.attention_dropout(attention), value), -3, -2)
        return self.output_projection(ops.reshape(mixed, (*others, width)))

    def values(self, inputs):
        """Return, for each token, the output of any query that attends to it alone, in the output's shape."""
        return self.output_projection(self.qkv(inputs)[..., -inputs.shape[-1] :])

    def get_config(self) -> dict:
        """Return the constructor's arguments."""
        return super().get_config() | {
            "heads": self.heads,
            "output_dim": self.output_dim,
            "qkv_bias": self.qkv_bias,
            "dropout": self.dropout,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }


@keras.saving.register_keras_serializable(package="music_zoo")
class ClassToken(layers.Layer):
    """Puts a learned token in front of a sequence: `(batch, ..., n, width)` to `(batch, ..., n + 1, width)`.

    Args:
        initializer: Of the token.
        name: Name of the layer.
        **kwargs: Passed on to `keras.layers.Layer`.
    """

    def __init__(self, initializer: str = "random_normal", name: str = "class_token", **kwargs):
        super().__init__(name=name, **kwargs)
        self.initializer = initializer

    def build(self, input_shape) -> None:
        """Make the token."""
        self.token = self.add_weight(shape=input_shape[-1:], initializer=self.initializer, name="token")

    def call(self, inputs):
        """Put the token in front."""
        token = ops.broadcast_to(self.token, (*ops.shape(inputs)[:-2], 1, inputs.shape[-1]))
        return ops.concatenate([ops.cast(token, inputs.dtype), inputs], axis=-2)

    def compute_output_shape(self, input_shape) -> tuple:
        """Return the input's shape with one token more."""
        *others, tokens, width = input_shape
        return (*others, None if tokens is None else tokens + 1, width)

    def get_config(self) -> dict:
        """Return the constructor's arguments."""
        return super().get_config() | {"initializer": self.initializer}


@keras.saving.register_keras_serializable(package="music_zoo")
class LearnedPositions(layers.Layer):
    """Adds a learned table to `(batch, ..., n, width)`: its first `n` entries.

    Args:
        length: Entries in the table, the most that inputs may have along the last axis but one. None: one for
            all of them, so that only rows differ.
        rows: Size of the axis before, if every entry along that has a table of its own.
        initializer: Of the table.
        name: Name of the layer.
        **kwargs: Passed on to `keras.layers.Layer`.

    Raises:
        ValueError: In the call, for an input with more.
    """

    def __init__(
        self,
        length: int | None,
        rows: int | None = None,
        initializer: str = "random_normal",
        name: str = "positions",
        **kwargs,
    ):
        super().__init__(name=name, **kwargs)
        self.length = length
        self.rows = rows
        self.initializer = initializer

    def build(self, input_shape) -> None:
        """Make the table, `(length, width)` or `(rows, length, width)`, with 1 for a length of None."""
        rows = () if self.rows is None else (self.rows,)
        self.table = self.add_weight(
            shape=(*rows, self.length or 1, input_shape[-1]), initializer=self.initializer, name="table"
        )

    def call(self, inputs):
        """Add the positions."""
        self.compute_output_shape(inputs.shape)
        return inputs + ops.cast(self.table[..., : ops.shape(inputs)[-2], :], inputs.dtype)

    def compute_output_shape(self, input_shape) -> tuple:
        """Return the input's shape."""
        steps = input_shape[-2]
        if self.length is not None and steps is not None and steps > self.length:
            raise ValueError(
                f"The network has learned positions for at most {self.length} steps of time, got {steps}; "
                "take a shorter window."
            )
        return tuple(input_shape)

    def get_config(self) -> dict:
        """Return the constructor's arguments."""
        return super().get_config() | {
            "length": self.length,
            "rows": self.rows,
            "initializer": self.initializer,
        }


def drop_path(x, rate: float, name: str):
    """Drop a residual branch of whole examples while training (stochastic depth, arXiv:1603.09382)."""
    return layers.Dropout(rate, noise_shape=(None,) + (1,) * (len(x.shape) - 1), name=name)(x)


def attention_maps(model: keras.Model, names: Sequence[str] | None = None) -> keras.Model:
    """Return a model from the inputs of a functional model to what its layers attend to, sharing its weights.

    Args:
        model: A functional model, such as a backbone.
        names: Of the layers; all that are `SelfAttention` if None.

    Outputs: by the layer's name, `(batch, ..., heads, tokens, tokens)`, queries before keys; rows sum to one.
    """
    if names is None:
        names = [layer.name for layer in model.layers if isinstance(layer, SelfAttention)]
    chosen = {name: model.get_layer(name) for name in names}
    maps = {name: layer(layer.input, attention_only=True) for name, layer in chosen.items()}
    return keras.Model(model.input, maps)
