"""Backbones, one architecture a file: its layers, its backbone, its named configs, in that order."""

from music_zoo.models.backbone import Backbone
from music_zoo.models.resnet import ResNet

#: Every architecture by the name that preset files use. Nothing else can be built from a file.
BACKBONES: dict[str, type[Backbone]] = {"ResNet": ResNet}

__all__ = ["BACKBONES", "Backbone", "ResNet"]
