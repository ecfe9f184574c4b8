"""What the fixtures of the original cannot show: images that no window divides, and any number of frames."""

import keras
import numpy as np
import pytest
from keras import ops

from music_zoo.models.swin import PatchMerging, Swin, WindowAttention, _attention_mask

pytestmark = pytest.mark.keras

SMALL = {"n_mels": 12, "patch_size": 2, "embed_dim": 8, "depths": (2, 2), "heads": (1, 2), "window": 3}


def by_definition(layer: WindowAttention, image: np.ndarray) -> np.ndarray:
    """Windows laid over the unpadded plane, one token after another; no rolling, no mask, float64."""
    weights = {v.path.split("/")[-2] + "." + v.name: ops.convert_to_numpy(v) for v in layer.attention.weights}
    table = ops.convert_to_numpy(layer.bias_table).astype("float64")
    height, width, channels = image.shape
    side, depth = layer.window, channels // layer.heads
    qkv = image.astype("float64") @ weights["qkv.kernel"] + weights["qkv.bias"]
    query, key, value = np.split(qkv.reshape(height, width, 3 * layer.heads, depth), 3, axis=2)
    tokens = [(row, column) for row in range(height) for column in range(width)]

    def window(token):
        return tuple((place + side - layer.shift) // side for place in token)

    mixed = np.zeros((height, width, layer.heads, depth))
    for token in tokens:
        others = [other for other in tokens if window(other) == window(token)]
        for head in range(layer.heads):
            logits = [
                query[token][head] @ key[other][head] / depth**0.5
                + table[
                    (token[0] - other[0] + side - 1) * (2 * side - 1) + token[1] - other[1] + side - 1, head
                ]
                for other in others
            ]
            attention = np.exp(logits) / np.exp(logits).sum()
            mixed[token][head] = sum(a * value[o][head] for a, o in zip(attention, others, strict=True))
    return mixed.reshape(image.shape) @ weights["output.kernel"] + weights["output.bias"]


@pytest.mark.parametrize("shift", [0, 1, 2])
@pytest.mark.parametrize("size", [(8, 8), (5, 7), (4, 9), (2, 3)])
def test_windows_of_any_image_attend_to_its_tokens_and_to_nothing_else(size, shift):
    rng = np.random.default_rng(0)
    layer = WindowAttention(heads=2, window=4, shift=shift)
    layer.build((None, *size, 6))
    for variable in layer.weights:
        variable.assign(rng.normal(size=variable.shape))
    image = rng.normal(size=(1, *size, 6)).astype("float32")
    np.testing.assert_allclose(
        ops.convert_to_numpy(layer(image))[0], by_definition(layer, image[0]), rtol=0, atol=2e-5
    )


@pytest.mark.parametrize("size", [(8, 8), (5, 7)])
def test_the_mask_of_an_unknown_width_is_that_of_the_known_one(size):
    np.testing.assert_array_equal(
        ops.convert_to_numpy(_attention_mask(*size, 4, 2, numpy=ops)), _attention_mask(*size, 4, 2)
    )


def test_merging_puts_neighbours_side_by_side_and_zeros_beyond_the_edge():
    image = np.arange(1.0, 16.0, dtype="float32").reshape(1, 3, 5, 1)  # row r, column c: 5 r + c + 1
    merged = ops.convert_to_numpy(PatchMerging()(image))
    assert merged.shape == (1, 2, 3, 4) == PatchMerging().compute_output_shape(image.shape)
    np.testing.assert_array_equal(merged[0, 0, 0], [1, 6, 2, 7])
    np.testing.assert_array_equal(merged[0, 1, 2], [15, 0, 0, 0])


@pytest.mark.parametrize("frames", [1, 2, 7, 12, 25, 40])
def test_any_number_of_frames_gives_a_map_of_the_promised_shape(frames):
    backbone = Swin(**SMALL)
    features = np.random.default_rng(0).normal(size=(2, 12, frames)).astype("float32")
    output = ops.convert_to_numpy(backbone(features))
    assert output.shape == (2, 3, -(-frames // 4), 16) == backbone.compute_output_shape(features.shape)
    assert np.isfinite(output).all()


@pytest.mark.parametrize(("settings", "reach"), [({}, 1), ({"patch_size": 4, "stem": (3, 5)}, 2)])
def test_patches_of_a_stem_overlap_and_others_do_not(settings, reach):
    backbone = Swin(**SMALL | {"n_mels": 16} | settings)
    patches = keras.Model(backbone.input, backbone.get_layer("patch_conv").output)
    side = backbone.patch_size
    features = np.zeros((1, 16, 8 * side), "float32")
    features[0, :, 4 * side] = np.random.default_rng(0).normal(size=16)  # the first frame of a patch
    changed = ops.convert_to_numpy(patches(features)) != ops.convert_to_numpy(patches(0 * features))
    assert np.flatnonzero(changed.any(axis=(0, 1, 3))).tolist() == [3, 4][-reach:]


def test_weights_do_not_depend_on_the_number_of_frames():
    # The original shrinks its windows, and with them its tables, to the shorter side of the image.
    shapes = {v.path: v.shape for v in Swin(**SMALL).weights}
    assert shapes["stage0_block0_attention/bias_table"] == (25, 1)
    assert shapes["stage1_block0_attention/bias_table"] == (25, 2)
    assert {v.path: v.shape for v in Swin(**SMALL | {"n_mels": 8}).weights}[
        "stage1_block0_attention/bias_table"
    ] == (9, 2)


def test_tiny_has_the_parameters_of_the_paper_but_for_two_input_channels():
    backbone = Swin(n_mels=224)
    assert sum(np.prod(v.shape) for v in backbone.trainable_weights) == 27_516_282


def test_paths_drop_while_training_only():
    keras.utils.set_random_seed(0)
    backbone = Swin(**SMALL | {"drop_path_rate": 0.9})
    features = np.random.default_rng(0).normal(size=(2, 12, 20)).astype("float32")
    rates = [layer.rate for layer in backbone.layers if layer.name.endswith("drop_path1")]
    np.testing.assert_allclose(rates, [0, 0.3, 0.6, 0.9])
    still = [ops.convert_to_numpy(backbone(features, training=False)) for _ in range(2)]
    np.testing.assert_array_equal(*still)
    assert not np.allclose(still[0], ops.convert_to_numpy(backbone(features, training=True)))


def test_absolute_positions_take_up_to_their_number_of_frames():
    backbone = Swin(**SMALL, position_frames=20)
    backbone(np.zeros((1, 12, 13), "float32"))
    with pytest.raises(ValueError, match="at most 10 steps of time, got 11; take a shorter window"):
        backbone(np.zeros((1, 12, 21), "float32"))


def test_says_which_stages_do_not_agree():
    with pytest.raises(ValueError, match=r"2 depths \(2, 2\) and 1 heads \(3,\)"):
        Swin(depths=(2, 2), heads=(3,))
    with pytest.raises(ValueError, match="of more than 4 mel bands, got n_mels=4"):
        Swin(**SMALL | {"n_mels": 4})
    with pytest.raises(ValueError, match=r"`stem` \(4, 6\) make patches of 4, got patch_size=2"):
        Swin(**SMALL | {"stem": (4, 6)})
    with pytest.raises(ValueError, match="5 heads do not divide tokens of width 8"):
        Swin(**SMALL | {"heads": (5, 2)})
