"""Whether the networks of `reference_torch` are those of `music_zoo.models`, and both the originals.

`python benchmarks/forward.py --check` fills both with the weights that the fixtures of `tests/parity` give by
rule, and compares their logits; where a fixture records what the original computes, with that, too.
"""

import json
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from keras import ops
from reference_torch import build
from torch import nn

from music_zoo.hub.conversion.table import Table, same
from music_zoo.hub.convert import TABLES
from music_zoo.layers import FrontEnd, GlobalPooling
from music_zoo.models import BACKBONES, Backbone, named_configs

PARITY = Path(__file__).parents[1] / "tests" / "parity"
sys.path.insert(0, str(PARITY))

import fixture_rules  # noqa: E402

CLASSES = 50
LIMIT = 1e-4  # of a logit, in float32

#: By config: the fixture, and the array in it that our input gives.
FIXTURES = {
    "fcn": ("fcn", "body_logits"),
    "crnn": ("crnn", "body_logits"),
    "musicnn-won": ("musicnn_mtat", "body_logits"),
    "musicnn-won-large": ("musicnn_msd", "body_logits"),
    "short-chunk-cnn": ("shortchunk", "body_logits"),
    "short-chunk-resnet": ("shortchunk_res", "body_logits"),
    "harmonic-cnn": ("harmoniccnn", "body_logits"),
    "self-attention-cnn": ("cnnsa", "body_logits"),
    "sample-cnn": ("samplecnn", "logits"),
    "sample-cnn-se": ("samplecnn_se", "logits"),
    "sample-cnn-clmr": ("clmr_samplecnn", "logits"),
    "music-tagging-transformer": ("mtt_teacher", "body_logits"),
    "music-tagging-transformer-student": ("mtt_student", "body_logits"),
    "multi-view-resnet": ("deezer_resnet", "body_mid"),
    "swin-compact": ("swin_small_w4", "logits"),
}
#: By architecture: the fixture after whose rules the networks without one are filled.
RULES = {"FCN": "fcn", "MusiCNN": "musicnn_mtat"}

#: By architecture: from our names to those of the reference, which are the original's wherever there is one.
_ENCODER, _THEIR_ENCODER = r"backbone\.block(\d)_(spectral|temporal)_", r"blocks.\1.\2"
REFERENCE_TABLES = {
    "CNNSA": TABLES["self-attention-cnn"],
    "CRNN": TABLES["crnn"],
    "FCN": TABLES["fcn"],
    "HarmonicCNN": TABLES["harmonic-cnn"],
    "MultiViewResNet": replace(
        TABLES["multi-view-resnet"], modules={**TABLES["multi-view-resnet"].modules, "head": "head"}
    ),
    "MusicTaggingTransformer": TABLES["music-tagging-transformer"],
    "MusiCNN": replace(
        TABLES["musicnn-won"], modules={**TABLES["musicnn-won"].modules, r"backbone\.pool_norm": "pool_bn"}
    ),
    "ResNet": Table(
        {
            r"backbone\.stem_(conv|norm)": r"stem.\1",
            r"backbone\.(stage\d_block\d)_shortcut_(conv|norm)": r"\1.shortcut.\2",
            r"backbone\.(stage\d_block\d)_((conv|norm)\d)": r"\1.\2",
            "head": "head",
        }
    ),
    "SampleCNN": replace(
        TABLES["sample-cnn-se"], modules={**TABLES["sample-cnn-se"].modules, "plain_head": "dense"}
    ),
    "ShortChunkCNN": TABLES["short-chunk"],
    "SpecTNT": Table(
        {
            r"backbone\.input_norm": "frontend.input_norm",
            r"backbone\.residual_conv_(\d)": r"frontend.residual.conv_\1",
            r"backbone\.residual_norm_(\d)": r"frontend.residual.bn_\1",
            r"backbone\.block(\d)_to_(\w+)": r"blocks.\1.to_\2",
            rf"{_ENCODER}norm1": rf"{_THEIR_ENCODER}.0.fn.norm",
            rf"{_ENCODER}attention\.qkv": rf"{_THEIR_ENCODER}.0.fn.fn.to_qkv",
            rf"{_ENCODER}attention\.output": rf"{_THEIR_ENCODER}.0.fn.fn.to_out.0",
            rf"{_ENCODER}norm2": rf"{_THEIR_ENCODER}.1.fn.norm",
            rf"{_ENCODER}mlp1": rf"{_THEIR_ENCODER}.1.fn.fn.net.0",
            rf"{_ENCODER}mlp2": rf"{_THEIR_ENCODER}.1.fn.fn.net.3",
            r"backbone\.norm": "norm",
            "head": "head",
        },
        {
            r"backbone\.(clip_token|frequency_class_token)\.token": ((r"\1",), same),
            r"backbone\.(temporal_embedding|frequency_positions)\b.*\.table": ((r"\1",), same),
        },
    ),
    "Swin": replace(
        TABLES["swin"],
        modules={**TABLES["swin"].modules, r"backbone\.stem_(conv|norm)(\d)": r"stem.\1\2"},
        tensors={**TABLES["swin"].tensors, r"backbone\.positions\.table": (("positions.table",), same)},
    ),
}


def check_all(names: list[str] | None) -> int:
    """Compare the named configs, or all; print the differences and return 1 if one is too large."""
    worst = 0.0
    print(f"{'largest difference of logits':36}{'from ours':>12}{'from the original':>20}")
    for name in names or named_configs():
        differences = check(name)
        worst = max(worst, *differences)
        columns = zip(differences, (12, 20), strict=False)
        print(f"{name:36}" + "".join(f"{d:{width}.1e}" for d, width in columns), flush=True)
    return int(worst > LIMIT)


def check(name: str) -> list[float]:
    """Return the largest difference from our logits and, if a fixture records them, from the original's."""
    config = named_configs()[name]
    fixture, array = FIXTURES.get(name, ("", ""))
    spec = json.loads((PARITY / f"{fixture}.keys.json").read_text()) if fixture else {}
    network = build(config["backbone"], CLASSES)
    rules = fixture or RULES.get(config["backbone"]["architecture"], "")
    state = {
        key: fixture_rules.fill(_original_name(key, name), value.shape, rules)
        for key, value in network.state_dict().items()
    }
    network.load_state_dict({key: torch.from_numpy(value) for key, value in state.items()})
    features = _features(config, spec)
    theirs = _run(network, features)
    differences = [float(np.abs(_ours(config, state, features) - theirs).max())]
    if array:
        original = _run(network.backbone, features) if array == "body_mid" else theirs
        with np.load(PARITY / f"{fixture}.npz") as stored:
            step = spec["arrays"][array]["step"]
            differences.append(fixture_rules.worst_difference(stored[array], original, step))
    return differences


def _original_name(key: str, config: str) -> str:
    """Return the original's name for an entry of the reference's state dict."""
    if config != "sample-cnn-clmr":
        return key
    key = re.sub(r"^layer(\d+)", lambda match: f"sequential.{int(match[1]) - 1}", key)
    return key.replace(".conv.", ".0.").replace(".bn.", ".1.").replace("dense.", "fc.")


def _features(config: dict, spec: dict) -> np.ndarray:
    """Return the fixture's stand-in for what the front end gives, or one of the same kind."""
    front_end = FrontEnd.from_config(config["front_end"])
    samples = round(config["window"] * front_end.sample_rate)
    if not front_end.layers:
        return fixture_rules.wave_batch(samples, front_end.sample_rate)
    if config["backbone"]["architecture"] == "ResNet":
        return fixture_rules.image("", (2, 1, 128, 128))[:, 0]
    if "image" in spec.get("input", ()):
        return fixture_rules.image(spec["model"], spec["input"]["image"])[:, 0]
    shape = front_end.compute_output_shape((2, samples))
    return fixture_rules.decibel_like(spec.get("model", ""), shape)


@torch.inference_mode()
def _run(network: nn.Module, features: np.ndarray) -> np.ndarray:
    return network(torch.from_numpy(features)).numpy()


def _ours(config: dict, state: dict[str, np.ndarray], features: np.ndarray) -> np.ndarray:
    """Return the logits of our network with the weights of the reference."""
    architecture, settings = config["backbone"]["architecture"], config["backbone"]["config"]
    backbone = BACKBONES[architecture](**settings)
    tensor = fill(backbone, state)
    embedding = GlobalPooling(config["pooling"])(backbone(features, training=False))
    head = _head(config)
    return ops.convert_to_numpy(embedding) @ tensor(f"{head}.kernel") + tensor(f"{head}.bias")


def _head(config: dict) -> str:
    """Return our name of the head in `REFERENCE_TABLES`."""
    # SampleCNN's own head has the name of another's dense layer.
    plain = config["backbone"]["architecture"] == "SampleCNN" and config["pooling"] != "none"
    return "plain_head" if plain else "head"


def state_of(classifier) -> dict[str, torch.Tensor]:
    """Return the state dict of the reference that computes what our classifier computes."""
    config = classifier.get_config()
    table = REFERENCE_TABLES[classifier.architecture]
    state = build(config["backbone"], len(classifier.labels)).state_dict()
    keys = {table.renamed(key): key for key in state}
    for name, ours in classifier.tensors().items():
        if not name.startswith(("backbone.", "head.")):
            continue
        if name.startswith("head."):
            name = name.replace("head", _head(config), 1)
        names, make = table.origin(name)
        theirs = [state[keys[entry]].flatten() for entry in names]
        # Tables say how ours are made of theirs: where numbers go can be seen from their places.
        starts = np.cumsum([0, *(tensor.numel() for tensor in theirs)])
        places = make(
            *(
                np.arange(start, start + tensor.numel()).reshape(state[keys[entry]].shape)
                for entry, tensor, start in zip(names, theirs, starts, strict=False)
            )
        )
        flat = torch.cat(theirs)
        flat[torch.from_numpy(places.ravel())] = torch.from_numpy(ours.ravel())
        for entry, part in zip(names, flat.split([len(tensor) for tensor in theirs]), strict=True):
            state[keys[entry]] = part.reshape(state[keys[entry]].shape)
    return state


def fill(backbone: Backbone, state: dict[str, np.ndarray]) -> Callable[[str], np.ndarray]:
    """Give our network the weights of the reference; return what gives any of them by our name."""
    table = REFERENCE_TABLES[type(backbone).__name__]
    entries = {table.renamed(key): value for key, value in state.items()}

    def tensor(name: str) -> np.ndarray:
        names, make = table.origin(name)
        return make(*(entries[entry] for entry in names))

    for variable in backbone.weights:
        # A copy: PyTorch's variables would share the memory of what they are given.
        variable.assign(np.array(tensor("backbone." + variable.path.replace("/", "."))))
    return tensor
