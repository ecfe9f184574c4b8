import keras
import numpy as np
import pytest
from keras import ops

from music_zoo.layers.attention import attention_maps
from music_zoo.models import MusicTaggingTransformer

pytestmark = pytest.mark.keras

SMALL = {"n_mels": 16, "conv_width": 4, "embed_dim": 8, "depth": 2, "heads": 2, "positions": 6}


@pytest.mark.parametrize("frames", [4, 7, 23])
def test_takes_any_length_up_to_its_positions(frames):
    backbone = MusicTaggingTransformer(**SMALL)
    features = np.random.default_rng(0).normal(size=(2, 16, frames)).astype("float32")
    output = ops.convert_to_numpy(backbone(features))
    assert output.shape == (2, 8) and np.isfinite(output).all()


def test_refuses_what_is_too_short_or_too_long():
    backbone = MusicTaggingTransformer(**SMALL)
    with pytest.raises(ValueError, match="at least 4 frames, got 3; take a longer window"):
        backbone(np.zeros((1, 16, 3), "float32"))
    with pytest.raises(ValueError, match="at most 6 steps of time, got 7; take a shorter window"):
        backbone(np.zeros((1, 16, 24), "float32"))


def test_attention_maps_lead_from_every_token_to_every_token():
    backbone = MusicTaggingTransformer(**SMALL)
    features = np.random.default_rng(0).normal(size=(2, 16, 13)).astype("float32")
    maps = attention_maps(backbone)(features)
    assert sorted(maps) == ["encoder0_attention", "encoder1_attention"]
    for attention in maps.values():
        assert attention.shape == (2, 2, 4, 4)  # the class token and three more
        np.testing.assert_allclose(ops.convert_to_numpy(attention).sum(-1), 1, atol=1e-6)


def test_dropout_acts_while_training():
    keras.utils.set_random_seed(0)
    backbone = MusicTaggingTransformer(**SMALL)
    features = np.random.default_rng(0).normal(size=(2, 16, 13)).astype("float32")
    for layer in backbone.layers:  # batch normalisation, too, tells training from inference
        layer.trainable = not isinstance(layer, keras.layers.BatchNormalization)
    still, moved = (ops.convert_to_numpy(backbone(features, training=t)) for t in (False, True))
    assert not np.allclose(still, moved)
