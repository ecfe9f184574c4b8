"""Every architecture, in small, keeps the contract of `tests/contracts.py`, and says what it cannot do."""

import keras
import numpy as np
import pytest
from contracts import check_backbone, check_classifier, check_precisions
from small import SMALL_RESNET, seeded, small_front_end

from music_zoo.classifier import Classifier
from music_zoo.layers.attention import attention_maps
from music_zoo.models import BACKBONES, CNNSA, CRNN, FCN, HarmonicCNN

pytestmark = pytest.mark.keras

MEL = small_front_end().get_config()  # 16 bands, 63 frames a second


def mel(n_mels: int) -> dict:
    """So many frames a second, too, of other bands."""
    return {
        "sample_rate": 8000,
        "layers": [
            {"layer": "STFT", "config": {"n_fft": 1024, "hop_length": 128}},
            {"layer": "MelFilterBank", "config": {"sample_rate": 8000, "n_fft": 1024, "n_mels": n_mels}},
            {"layer": "Decibels", "config": {"ref": "max"}},
            {"layer": "MinMaxNormalization"},
        ],
    }


HARMONIC = {
    "sample_rate": 8000,
    "layers": [
        {"layer": "STFT", "config": {"n_fft": 256, "hop_length": 128}},
        {
            "layer": "HarmonicFilterBank",
            "config": {"sample_rate": 8000, "n_fft": 256, "n_harmonics": 2, "per_semitone": 1},
        },
        {"layer": "Decibels", "config": {"top_db": None}},
    ],
}
WAVEFORM = {"sample_rate": 8000, "layers": []}

#: The smallest of each kind: architecture, arguments, front end, pooling.
SMALL = {
    "resnet": ("ResNet", SMALL_RESNET, MEL, "mean_max"),
    "swin": (
        "Swin",
        {"n_mels": 12, "patch_size": 2, "embed_dim": 8, "depths": (2, 2), "heads": (1, 2), "window": 3},
        mel(12),
        "mean",
    ),
    "swin with a stem": (
        "Swin",
        {
            "n_mels": 20,
            "patch_size": 4,
            "embed_dim": 8,
            "depths": (2, 2),
            "heads": (1, 2),
            "window": 3,
            "stem": (4, 6),
        },
        mel(20),
        "mean",
    ),
    "music tagging transformer": (
        "MusicTaggingTransformer",
        {"n_mels": 16, "conv_width": 4, "embed_dim": 8, "heads": 2, "depth": 2, "positions": 30},
        MEL,
        "none",
    ),
    "spectnt": (
        "SpecTNT",
        {
            "n_mels": 5,
            "spectral_dim": 8,
            "temporal_dim": 12,
            "depth": 2,
            "spectral_heads": 2,
            "temporal_heads": 3,
            "positions": 40,
        },
        mel(5),
        "none",
    ),
    "multi-view resnet": (
        "MultiViewResNet",
        {"n_mels": 64, "frames": 40, "width": 4, "blocks": (1, 1, 1, 1), "heads": 2, "embedding_dim": 12},
        mel(64),
        "none",
    ),
    "fcn": ("FCN", {"n_mels": 16, "widths": (4, 6), "pools": ((2, 4), (4, 2))}, MEL, "mean"),
    "fcn with elu": (
        "FCN",
        {"n_mels": 16, "widths": (4, 6), "pools": ((2, 4), (4, 2)), "activation": "elu"},
        MEL,
        "mean",
    ),
    "crnn": ("CRNN", {"n_mels": 16, "widths": (4, 6), "pools": (4, 4), "units": 5}, MEL, "none"),
    "musicnn of Won": (
        "MusiCNN",
        {
            "n_mels": 16,
            "timbral": (11, 6),
            "temporal": (9, 5),
            "front_widths": (4, 3),
            "mid_width": 5,
            "dense_width": 6,
        },
        MEL,
        "none",
    ),
    "musicnn of Pons": (
        "MusiCNN",
        {
            "n_mels": 16,
            "timbral": (6, 11),
            "temporal": (8, 4),
            "front_widths": (4, 3),
            "mid_width": 5,
            "dense_width": 6,
            "original": True,
        },
        MEL,
        "none",
    ),
    "short chunk": ("ShortChunkCNN", {"n_mels": 16, "widths": (4, 4, 6)}, MEL, "none"),
    "short chunk with residuals": (
        "ShortChunkCNN",
        {"n_mels": 16, "widths": (4, 4, 6), "residual": True},
        MEL,
        "none",
    ),
    "harmonic": (
        "HarmonicCNN",
        {"n_harmonics": 2, "levels": 71, "widths": (4, 4, 6), "pools": ((2, 2), (2, 2), (2, 3))},
        HARMONIC,
        "none",
    ),
    "self-attention": (
        "CNNSA",
        {"n_mels": 16, "widths": (4, 4, 6, 8), "strides": (2, 2, 1, 1), "heads": 2, "inner_width": 9},
        MEL,
        "none",
    ),
    "sample": ("SampleCNN", {"widths": (4, 4, 6, 6)}, WAVEFORM, "mean"),
    "sample of CLMR": (
        "SampleCNN",
        {"widths": (4, 4, 6, 6), "stem_padding": 0, "last_kernel": 3},
        WAVEFORM,
        "mean",
    ),
    "sample with squeeze and excitation": (
        "SampleCNN",
        {"widths": (4, 4, 6, 6), "squeeze_excitation": True},
        WAVEFORM,
        "none",
    ),
}


@pytest.fixture(autouse=True)
def seed():
    keras.utils.set_random_seed(0)


def backbone_of(name: str):
    architecture, arguments, _, _ = SMALL[name]
    return BACKBONES[architecture](**arguments)


def classifier_of(name: str, window: float = 0.5, **settings) -> Classifier:
    architecture, arguments, front_end, pooling = SMALL[name]
    return Classifier.from_config(
        {
            "front_end": front_end,
            "backbone": {"architecture": architecture, "config": arguments},
            "labels": ["a", "b"],
            "window": window,
            "pooling": pooling,
            "dropout": 0.5,
            **settings,
        }
    )


def test_every_architecture_is_here():
    assert {architecture for architecture, *_ in SMALL.values()} == set(BACKBONES)


@pytest.mark.parametrize("name", SMALL)
def test_backbones_keep_the_contract(name):
    lengths = (40, 33) if name == "multi-view resnet" else (90, 33)  # it takes 31 to 46 frames
    check_backbone(backbone_of(name), lengths)


@pytest.mark.parametrize("name", SMALL)
def test_a_training_step_reaches_every_weight(name):
    classifier = classifier_of(name, task="multi_label")
    tensors = classifier.tensors()
    # Without an offset the scale of the first normalisation cancels in the next: its gradient is rounding.
    offset = {n: t + 0.5 for n, t in tensors.items() if n == "backbone.input_norm.beta"}
    classifier.set_tensors(tensors | offset)
    check_classifier(classifier)


@pytest.mark.parametrize("name", SMALL)
def test_half_precision(name):
    tensors = seeded(classifier_of(name).tensors())
    waveforms = np.random.default_rng(0).normal(size=(2, 4000)).astype(np.float32) / 8
    check_precisions(lambda: classifier_of(name), tensors, waveforms)


SHORTEST = {
    "fcn": 8,
    "crnn": 16,
    "short chunk": 8,
    "harmonic": 12,
    "sample": 25,
    "sample of CLMR": 27,
    "sample with squeeze and excitation": 25,
}


@pytest.mark.parametrize("name", SHORTEST)
def test_the_shortest_input_works_and_a_shorter_one_is_refused(name):
    backbone = backbone_of(name)
    shortest = SHORTEST[name]
    shape = backbone.input_shape[1:-1]
    assert backbone(np.zeros((1, *shape, shortest), "float32")).shape[0] == 1
    with pytest.raises(ValueError, match=f"needs at least {shortest} (frames|samples), got {shortest - 1}"):
        backbone(np.zeros((1, *shape, shortest - 1), "float32"))


def test_a_window_too_short_for_the_network_is_refused():
    with pytest.raises(ValueError, match="needs at least 16 frames, got 13; take a longer window"):
        classifier_of("crnn", window=0.2)


@pytest.mark.parametrize("name, pooling", [("crnn", "mean"), ("fcn", "none")])
def test_a_pooling_that_the_backbone_does_not_have_is_refused(name, pooling):
    with pytest.raises(ValueError, match=f"`mode` must be 'none' for a backbone .* got '{pooling}'"):
        classifier_of(name, pooling=pooling)


@pytest.mark.parametrize(
    "build, message",
    [
        (lambda: FCN(widths=(4,), pools=((2, 2), (2, 2))), "1 widths and 2 pools"),
        (lambda: CRNN(widths=(4,)), "1 widths and 4 pools"),
        (lambda: CRNN(n_mels=192), "must leave one of 192 mel bands"),
        (lambda: HarmonicCNN(widths=(4,)), "1 widths and 7 pools"),
        (lambda: CNNSA(widths=(4,)), "1 widths, 7 strides"),
        (lambda: CNNSA(n_mels=129), "7 blocks leave more than one of 129 mel bands"),
    ],
)
def test_settings_that_do_not_agree_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_attention_maps_of_the_self_attention_network():
    backbone = backbone_of("self-attention")
    features = np.random.default_rng(0).normal(size=(2, 16, 40)).astype("float32")
    maps = attention_maps(backbone)(features)
    assert set(maps) == {"encoder0_attention", "encoder1_attention"}
    for each in maps.values():
        assert tuple(each.shape) == (2, 2, 11, 11)  # heads, and 40 frames in steps of 4 behind the token
        np.testing.assert_allclose(keras.ops.convert_to_numpy(keras.ops.sum(each, axis=-1)), 1, atol=1e-5)


def test_backbones_are_saved_and_loaded_by_keras(tmp_path):
    for name in ("musicnn of Pons", "self-attention", "sample with squeeze and excitation"):
        backbone = backbone_of(name)
        backbone.save(tmp_path / "backbone.keras")
        loaded = keras.models.load_model(tmp_path / "backbone.keras")
        shape = backbone.input_shape[1:-1]
        inputs = np.random.default_rng(0).normal(size=(1, *shape, 40)).astype("float32")
        np.testing.assert_array_equal(
            keras.ops.convert_to_numpy(loaded(inputs)), keras.ops.convert_to_numpy(backbone(inputs))
        )
