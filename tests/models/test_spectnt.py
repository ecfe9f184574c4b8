"""There is no code of the authors to compare with: what their description says is tested."""

import keras
import numpy as np
import pytest
from keras import ops

from music_zoo.layers.attention import attention_maps
from music_zoo.models import SpecTNT
from music_zoo.models.spectnt import frame_classifier

pytestmark = pytest.mark.keras

SMALL = {"n_mels": 5, "spectral_dim": 8, "temporal_dim": 12, "depth": 2, "spectral_heads": 2}
SMALL |= {"temporal_heads": 3, "positions": 6}


def features(frames: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(2, 5, frames)).astype("float32")


def randomized(**settings) -> SpecTNT:
    """A network in which no weight is zero, as some are at the start."""
    backbone, rng = SpecTNT(**SMALL | settings), np.random.default_rng(1)
    for variable in backbone.trainable_weights:
        variable.assign(rng.normal(size=variable.shape) / 3)
    return backbone


def behind_the_front(backbone: SpecTNT) -> keras.Model:
    """From `(batch, steps, bins, channels)` on."""
    return keras.Model(backbone.get_layer("steps").output, backbone.output)


def steps_of(seed: int = 2) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(2, 4, 5, 8)).astype("float32")


def test_frequencies_attend_to_frequencies_and_steps_to_steps():
    maps = attention_maps(SpecTNT(**SMALL))(features(17))
    shapes = {name: tuple(array.shape) for name, array in maps.items()}
    assert shapes == {
        "block0_spectral_attention": (2, 4, 2, 6, 6),  # 4 steps, 2 heads, 5 bins and the class token
        "block0_temporal_attention": (2, 3, 5, 5),  # 3 heads, 4 steps and the clip's token
        "block1_spectral_attention": (2, 4, 2, 6, 6),
        "block1_temporal_attention": (2, 3, 5, 5),
    }


def test_weights_know_neither_the_number_of_bins_nor_that_of_steps():
    # Attention over channels or features would have matrices as wide as there are bins or steps.
    shapes = {v.path: tuple(v.shape) for v in SpecTNT(**SMALL).weights}
    assert shapes["block0_spectral_attention/qkv/kernel"] == (8, 24)
    assert shapes["block0_temporal_attention/qkv/kernel"] == (12, 36)
    wider = {v.path: tuple(v.shape) for v in SpecTNT(**SMALL | {"n_mels": 7, "positions": 9}).weights}
    differing = {path for path in shapes if shapes[path] != wider[path]}
    assert differing == {"frequency_positions/table", "temporal_embedding/positions/table"}


def test_without_positions_the_order_of_the_frequencies_does_not_matter():
    backbone = randomized()
    network, order = behind_the_front(backbone), [3, 0, 4, 1, 2]
    expected, shuffled = network(steps_of()), network(steps_of()[:, :, order])
    assert not np.allclose(ops.convert_to_numpy(expected), ops.convert_to_numpy(shuffled), atol=1e-3)
    table = backbone.get_layer("frequency_positions").table
    table.assign(ops.zeros(table.shape))
    expected, shuffled = network(steps_of()), network(steps_of()[:, :, order])
    np.testing.assert_allclose(*map(ops.convert_to_numpy, (expected, shuffled)), atol=1e-5)


def test_without_positions_frames_move_with_their_steps_and_the_clip_stays():
    order = [2, 0, 3, 1]
    for clip_token in (True, False):
        backbone = randomized(clip_token=clip_token)
        table = backbone.get_layer("temporal_embedding").positions.table
        table.assign(ops.ones(table.shape))
        network = behind_the_front(backbone)
        expected, shuffled = (ops.convert_to_numpy(network(x)) for x in (steps_of(), steps_of()[:, order]))
        np.testing.assert_allclose(shuffled, expected if clip_token else expected[:, order], atol=1e-5)


def test_a_spectral_layer_sees_one_step_and_time_carries_the_news_to_the_others():
    backbone = randomized()
    start = backbone.get_layer("steps").output
    names = ("block0_spectral_attention", "block1_spectral_attention")
    maps = {n: backbone.get_layer(n)(backbone.get_layer(n).input, attention_only=True) for n in names}
    network, other = keras.Model(start, maps), steps_of()
    other[:, 1] += steps_of(3)[:, 1]
    for name, moved in zip(names, ([1], [0, 1, 2, 3]), strict=True):
        before, after = (ops.convert_to_numpy(network(x)[name]) for x in (steps_of(), other))
        differences = np.abs(after - before).max(axis=(0, 2, 3, 4))
        np.testing.assert_array_equal(np.flatnonzero(differences > 1e-6), moved)


@pytest.mark.parametrize("frames", [8, 11, 27])
def test_takes_any_length_up_to_its_positions(frames):
    assert SpecTNT(**SMALL)(features(frames - 4)).shape == (2, 12)
    assert SpecTNT(**SMALL, clip_token=False)(features(frames)).shape == (2, frames // 4, 12)


def test_refuses_what_is_too_short_or_too_long():
    with pytest.raises(ValueError, match="at least 4 frames, got 3; take a longer window"):
        SpecTNT(**SMALL)(features(3))
    with pytest.raises(ValueError, match="at most 6 steps of time, got 7; take a shorter window"):
        SpecTNT(**SMALL)(features(28))


def test_a_frame_classifier_shares_the_backbone_and_labels_every_four_frames():
    backbone = SpecTNT(**SMALL, clip_token=False)
    model = frame_classifier(backbone, 3)
    assert model(features(17)).shape == (2, 4, 3)
    head = model.get_layer("head")
    expected = head(backbone(features(17)))
    np.testing.assert_allclose(*map(ops.convert_to_numpy, (model(features(17)), expected)), atol=1e-5)
    with pytest.raises(ValueError, match="clip_token=False"):
        frame_classifier(SpecTNT(**SMALL), 3)


def test_bands_are_pooled_to_fewer_tokens():
    backbone = SpecTNT(**SMALL | {"n_mels": 6, "bands_per_token": 3})
    images = np.random.default_rng(0).normal(size=(2, 6, 17)).astype("float32")
    spectral = attention_maps(backbone)(images)["block0_spectral_attention"]
    assert tuple(spectral.shape) == (2, 4, 2, 3, 3)  # two tokens of three bands, and the class token
    assert SpecTNT.from_config(backbone.get_config()).bands_per_token == 3
    with pytest.raises(ValueError, match="5 mel bands do not make tokens of 2"):
        SpecTNT(**SMALL | {"bands_per_token": 2})
