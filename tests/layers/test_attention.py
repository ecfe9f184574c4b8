import keras
import numpy as np
import pytest
from keras import ops

from music_zoo.layers.attention import ClassToken, LearnedPositions, SelfAttention, attention_maps

pytestmark = pytest.mark.keras


def test_self_attention_is_that_of_keras_with_the_same_weights():
    rng = np.random.default_rng(0)
    tokens = rng.normal(size=(2, 5, 6)).astype("float32")
    ours, theirs = SelfAttention(3), keras.layers.MultiHeadAttention(3, 2)
    ours.build(tokens.shape)
    for variable in ours.weights:
        variable.assign(rng.normal(size=variable.shape))
    theirs.build(tokens.shape, tokens.shape)
    kernel, bias, output, output_bias = map(ops.convert_to_numpy, ours.weights)
    parts = zip(np.split(kernel, 3, axis=1), np.split(bias, 3), strict=True)
    split = [array for k, b in parts for array in (k.reshape(6, 3, 2), b.reshape(3, 2))]
    names = [f"{part}/{leaf}" for part in ("query", "key", "value") for leaf in ("kernel", "bias")]
    values = dict(zip(names, split, strict=True))
    values |= {"attention_output/kernel": output.reshape(3, 2, 6), "attention_output/bias": output_bias}
    for variable in theirs.weights:
        variable.assign(values["/".join(variable.path.split("/")[-2:])])

    expected, weights = theirs(tokens, tokens, return_attention_scores=True)
    actual, attention = ours(tokens), ours(tokens, attention_only=True)
    np.testing.assert_allclose(*map(ops.convert_to_numpy, (actual, expected)), atol=1e-5)
    np.testing.assert_allclose(*map(ops.convert_to_numpy, (attention, weights)), atol=1e-6)


def test_self_attention_leaves_the_axes_before_the_tokens_apart():
    tokens = np.random.default_rng(0).normal(size=(2, 3, 4, 6)).astype("float32")
    layer = SelfAttention(2, output_dim=5)
    together = ops.convert_to_numpy(layer(tokens))
    assert together.shape == (2, 3, 4, 5)
    apart = ops.convert_to_numpy(layer(tokens.reshape(6, 4, 6)))
    np.testing.assert_allclose(together.reshape(6, 4, 5), apart, atol=1e-6)


def test_a_bias_shuts_tokens_out():
    tokens = np.random.default_rng(0).normal(size=(1, 3, 4)).astype("float32")
    bias = np.where(np.arange(3) == 2, -1e9, 0.0)  # nobody looks at the last
    attention = SelfAttention(2)(tokens, bias=bias, attention_only=True)
    assert attention.shape == (1, 2, 3, 3)
    np.testing.assert_array_equal(ops.convert_to_numpy(attention)[..., 2], 0)


def test_the_matrices_do_not_start_alike():
    layer = SelfAttention(2, output_dim=12)
    layer.build((None, 4, 4))
    qkv, output = layer.qkv.kernel, layer.output_projection.kernel
    assert not np.allclose(ops.convert_to_numpy(qkv), ops.convert_to_numpy(output))


def test_a_class_token_comes_first_and_positions_are_added_from_the_start():
    sequence = np.random.default_rng(0).normal(size=(2, 3, 4, 5)).astype("float32")
    token = ClassToken()
    longer = ops.convert_to_numpy(token(sequence))
    assert longer.shape == (2, 3, 5, 5) == token.compute_output_shape(sequence.shape)
    np.testing.assert_array_equal(longer[..., 1:, :], sequence)
    np.testing.assert_array_equal(longer[..., 0, :], np.broadcast_to(token.token, (2, 3, 5)))

    positions = LearnedPositions(6, rows=3)
    moved = ops.convert_to_numpy(positions(sequence))
    table = ops.convert_to_numpy(positions.table)
    assert table.shape == (3, 6, 5)
    np.testing.assert_allclose(moved, sequence + table[:, :4], atol=1e-6)
    alike = LearnedPositions(6)
    moved = ops.convert_to_numpy(alike(sequence))
    np.testing.assert_allclose(moved, sequence + ops.convert_to_numpy(alike.table)[:4], atol=1e-6)
    with pytest.raises(ValueError, match="at most 6 steps of time, got 7; take a shorter window"):
        positions(np.zeros((2, 3, 7, 5), "float32"))


def test_attention_maps_of_a_model_share_its_weights():
    inputs = keras.Input((None, 4))
    first = SelfAttention(2, name="first")(inputs)
    model = keras.Model(inputs, SelfAttention(1, name="second")(first))
    maps = attention_maps(model)
    tokens = np.random.default_rng(0).normal(size=(2, 3, 4)).astype("float32")
    outputs = {name: ops.convert_to_numpy(output) for name, output in maps(tokens).items()}
    assert {name: output.shape for name, output in outputs.items()} == {
        "first": (2, 2, 3, 3),
        "second": (2, 1, 3, 3),
    }
    for output in outputs.values():
        np.testing.assert_allclose(output.sum(-1), 1, atol=1e-6)
    for variable in model.weights:
        variable.assign(ops.zeros(variable.shape))
    np.testing.assert_allclose(ops.convert_to_numpy(maps(tokens)["first"]), 1 / 3, atol=1e-6)
    assert set(attention_maps(model, ["second"])(tokens)) == {"second"}
