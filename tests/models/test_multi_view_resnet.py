import numpy as np
import pytest
from keras import ops

from music_zoo.models import MultiViewResNet
from music_zoo.models.multi_view_resnet import AttentionPooling

pytestmark = pytest.mark.keras

SMALL = {"n_mels": 16, "frames": 24, "width": 4, "blocks": (1, 2, 1), "heads": 2, "embedding_dim": 6}


@pytest.mark.parametrize("frames", [15, 16, 24, 30])
def test_takes_any_length_up_to_its_positions(frames):
    features = np.random.default_rng(0).normal(size=(2, 16, frames)).astype("float32")
    output = ops.convert_to_numpy(MultiViewResNet(**SMALL | {"frames": 30})(features))
    assert output.shape == (2, 6) and np.isfinite(output).all()


def test_refuses_what_is_too_short_or_too_long():
    backbone = MultiViewResNet(**SMALL)
    with pytest.raises(ValueError, match="at least 15 frames, got 14; take a longer window"):
        backbone(np.zeros((1, 16, 14), "float32"))
    with pytest.raises(ValueError, match="at most 1 steps of time, got 2; take a shorter window"):
        backbone(np.zeros((1, 16, 31), "float32"))
    with pytest.raises(ValueError, match="3 stages need at least 15 mel bands and frames.*n_mels=14"):
        MultiViewResNet(**SMALL | {"n_mels": 14})


def test_attention_pooling_answers_for_the_mean_of_the_map():
    rng = np.random.default_rng(0)
    layer = AttentionPooling(heads=1, output_dim=2, columns=3)
    layer.build((None, 2, None, 2))
    identity, nothing = np.eye(2), np.zeros((2, 2))
    layer.positions.assign(rng.normal(size=(7, 2)))
    layer.attention.qkv.kernel.assign(np.concatenate([nothing, nothing, identity], axis=1))
    layer.attention.output_projection.kernel.assign(identity)
    image = rng.normal(size=(1, 2, 2, 2)).astype("float32")
    # Without queries and keys, attention is even: the mean of the map's mean and its four points.
    positions = ops.convert_to_numpy(layer.positions)
    points = image[0] + positions[1:].reshape(2, 3, 2)[:, :2]
    expected = np.mean([image[0].mean((0, 1)) + positions[0], *points.reshape(4, 2)], axis=0)
    np.testing.assert_allclose(ops.convert_to_numpy(layer(image))[0], expected, atol=1e-6)
