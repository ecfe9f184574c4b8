"""Backbones, one architecture a file: its layers, its backbone, its named configs, in that order."""

from music_zoo.models.backbone import Backbone
from music_zoo.models.crnn import CRNN
from music_zoo.models.fcn import FCN
from music_zoo.models.musicnn import MusiCNN
from music_zoo.models.resnet import ResNet
from music_zoo.models.short_chunk import ShortChunkCNN

#: Every architecture by the name that preset files use. Nothing else can be built from a file.
BACKBONES: dict[str, type[Backbone]] = {
    architecture.__name__: architecture for architecture in (CRNN, FCN, MusiCNN, ResNet, ShortChunkCNN)
}

__all__ = ["BACKBONES", "CRNN", "FCN", "Backbone", "MusiCNN", "ResNet", "ShortChunkCNN"]
