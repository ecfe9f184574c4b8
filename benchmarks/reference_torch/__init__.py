"""The networks of `music_zoo.models` in plain PyTorch, layer by layer the same, to measure ours against.

Written as one writes PyTorch: channels first, attention as the one kernel that PyTorch has for it, nothing
compiled. Each takes the front end's output and returns logits. Modules have the names that they have in the
originals' state dicts (a network without original: those of our layers), so that `check.py` can fill both
with the same weights.
"""

from inspect import signature

from torch import nn

from reference_torch.convolutional import (
    MusiCNN,
    crnn,
    fcn,
    harmonic_cnn,
    multi_view_resnet,
    resnet,
    sample_cnn,
    short_chunk,
)
from reference_torch.transformers import MusicTaggingTransformer, SpecTNT, cnnsa, swin

REFERENCES = {
    "CNNSA": cnnsa,
    "CRNN": crnn,
    "FCN": fcn,
    "HarmonicCNN": harmonic_cnn,
    "MultiViewResNet": multi_view_resnet,
    "MusicTaggingTransformer": MusicTaggingTransformer,
    "MusiCNN": MusiCNN,
    "ResNet": resnet,
    "SampleCNN": sample_cnn,
    "ShortChunkCNN": short_chunk,
    "SpecTNT": SpecTNT,
    "Swin": swin,
}


def build(backbone: dict, classes: int) -> nn.Module:
    """Return the network of a classifier's `backbone` config, with a linear layer to `classes` logits.

    Raises:
        KeyError: There is no reference for the architecture.
    """
    network = REFERENCES[backbone["architecture"]]
    known = set(signature(network).parameters)
    config = {
        name: value
        for name, value in backbone["config"].items()
        # Not all ask for the number of bands; None is a part that is not there.
        if name in known or not (name in ("name", "n_mels") or "drop" in name or value is None)
    }
    return network(**config, classes=classes).eval()
