"""What the compact ResNet promises beyond the contract of all architectures."""

import keras
import numpy as np
import pytest
from contracts import check_backbone, check_classifier
from small import SMALL_RESNET

from music_zoo.classifier import Classifier
from music_zoo.layers import STFT, FixedStandardization, FrontEnd, MelFilterBank
from music_zoo.models import ResNet
from music_zoo.models.resnet import CONFIGS

pytestmark = pytest.mark.keras


@pytest.fixture(autouse=True)
def seed():
    keras.utils.set_random_seed(0)


def around(backbone, **settings) -> Classifier:
    """A classifier of half a second of audio around a backbone over mel bands."""
    layers = [
        STFT(512, 256),
        MelFilterBank(8000, 512, backbone.n_mels, norm=None),
        FixedStandardization(0.0, 10.0),
    ]
    return Classifier(FrontEnd(layers, 8000), backbone, ["a", "b"], window=0.5, dropout=0.5, **settings)


@pytest.mark.parametrize("name", CONFIGS)
def test_every_named_config_keeps_the_contract(name):
    backbone = ResNet(**CONFIGS[name]["backbone"]["config"])
    check_backbone(backbone, lengths=(33,))
    check_classifier(around(backbone))


def test_compact_resnet_has_391k_parameters():
    # Stem: 25*24 + 2*24. Blocks without shortcut: 2*9*w*w + 4*w. With: 9*v*w + 9*w*w + v*w + 6*w. Batch
    # normalisation has two trained and two counted numbers per channel.
    backbone = ResNet(**CONFIGS["resnet-compact"]["backbone"]["config"])
    plain = {w: 2 * 9 * w * w + 4 * w for w in (24, 48, 96)}
    wider = {w: 9 * (w // 2) * w + 9 * w * w + (w // 2) * w + 6 * w for w in (48, 96)}
    trained = 25 * 24 + 2 * 24 + 2 * plain[24] + plain[48] + plain[96] + wider[48] + wider[96]
    assert sum(int(np.prod(v.shape)) for v in backbone.trainable_weights) == trained


def test_resnet_halves_both_axes_in_the_stem_and_in_every_stage_but_the_first():
    backbone = ResNet(**SMALL_RESNET)
    assert backbone.output_shape == (None, 4, None, 8)
    assert backbone.compute_output_shape((1, 16, 25)) == (1, 4, 7, 8)


def test_resnet_says_which_stages_do_not_agree():
    with pytest.raises(ValueError, match=r"2 widths \(4, 8\) and 1 blocks \(1,\)"):
        ResNet(widths=(4, 8), blocks=(1,))


def test_a_backbone_alone_is_saved_and_loaded_by_keras(tmp_path):
    backbone = ResNet(**SMALL_RESNET)
    backbone.save(tmp_path / "backbone.keras")
    loaded = keras.models.load_model(tmp_path / "backbone.keras")
    features = np.random.default_rng(0).uniform(size=(1, 16, 20)).astype(np.float32)
    np.testing.assert_array_equal(loaded.predict_on_batch(features), backbone.predict_on_batch(features))
