"""Backbones, one architecture a file: its layers, its backbone, its named configs, in that order."""

import sys

from music_zoo.models.backbone import Backbone
from music_zoo.models.crnn import CRNN
from music_zoo.models.fcn import FCN
from music_zoo.models.harmonic import HarmonicCNN
from music_zoo.models.multi_view_resnet import MultiViewResNet
from music_zoo.models.music_tagging_transformer import MusicTaggingTransformer
from music_zoo.models.musicnn import MusiCNN
from music_zoo.models.resnet import ResNet
from music_zoo.models.sample_cnn import SampleCNN
from music_zoo.models.self_attention import CNNSA
from music_zoo.models.short_chunk import ShortChunkCNN
from music_zoo.models.spectnt import SpecTNT
from music_zoo.models.swin import Swin

#: Every architecture by the name that preset files use. Nothing else can be built from a file.
BACKBONES: dict[str, type[Backbone]] = {
    architecture.__name__: architecture
    for architecture in (
        CNNSA,
        CRNN,
        FCN,
        HarmonicCNN,
        MultiViewResNet,
        MusiCNN,
        MusicTaggingTransformer,
        ResNet,
        SampleCNN,
        ShortChunkCNN,
        SpecTNT,
        Swin,
    )
}


def named_configs() -> dict[str, dict]:
    """Return the named configurations of all architectures: classifiers without labels, name and weights."""
    modules = [sys.modules[architecture.__module__] for architecture in BACKBONES.values()]
    return {name: config for module in modules for name, config in module.CONFIGS.items()}


__all__ = [
    "BACKBONES",
    "CNNSA",
    "CRNN",
    "FCN",
    "Backbone",
    "HarmonicCNN",
    "MultiViewResNet",
    "MusiCNN",
    "MusicTaggingTransformer",
    "ResNet",
    "SampleCNN",
    "ShortChunkCNN",
    "SpecTNT",
    "Swin",
    "named_configs",
]
