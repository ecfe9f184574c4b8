"""The multi-view ResNet, filled by rule, against what its authors' PyTorch code computes."""

import fixture_rules
import keras
import numpy as np
import pytest
from fixtures import DECIBELS, FOLDER, Comparison, Row, published_config, rule_weights, specification
from keras import ops

from music_zoo.classifier import Classifier
from music_zoo.hub.convert import convert

pytestmark = [
    pytest.mark.keras,
    pytest.mark.filterwarnings("ignore:.*mel filters catch no frequency bin"),  # as the original has them
]

FIXTURE = "deezer_resnet"
LAYERS = {
    "after__backbone_embedding_bn1": "stem1_norm",
    "after__backbone_embedding_layer1_0": "stage0_block0",
    "after__backbone_embedding_layer1": "stage0_block2",
    "after__backbone_embedding_layer2_0": "stage1_block0",
    "after__backbone_embedding_layer4": "stage3_block2",
    "after__backbone": "attention_pooling",
}


def through_training_heads(embedding: np.ndarray, state: dict, names=("head", "projector")) -> np.ndarray:
    """Apply what pre-training puts behind the network: linear, normalisation, ReLU, ..., linear."""
    for name in names:
        numbers = sorted({int(key.split(".")[2]) for key in state if key.startswith(f"{name}.ops.")})
        for number in numbers:
            entry = f"{name}.ops.{number}."
            if entry + "running_mean" not in state:
                embedding = embedding @ state[entry + "weight"].T
                continue
            scale = state[entry + "weight"] / np.sqrt(state[entry + "running_var"] + 1e-5)
            embedding = (embedding - state[entry + "running_mean"]) * scale + state[entry + "bias"]
            embedding = np.maximum(embedding, 0)
    return embedding


def compare_with_training_heads() -> Comparison:
    """Fill the network by rule and run the fixture's waveforms, and its stand-in for features, through it."""
    spec, state = specification(FIXTURE), rule_weights(FIXTURE)
    classifier = Classifier.from_config(published_config("multi-view-resnet") | {"labels": ["a"]})
    backbone = classifier.backbone
    parameters = sum(int(np.prod(v.shape)) for v in backbone.trainable_weights)
    shapes = {n: t.shape for n, t in classifier.tensors().items() if n.startswith("backbone.")}
    classifier.set_tensors(convert("multi-view-resnet", state, shapes), parts=["backbone"])

    waveforms = fixture_rules.wave_batch(spec["input"]["samples"], spec["input"]["rate"])
    features = ops.convert_to_numpy(classifier.front_end(waveforms))
    body = fixture_rules.decibel_like(FIXTURE, spec["body_input"]["shape"])[:, 0]
    ends = {name: backbone.get_layer(layer).output for name, layer in LAYERS.items()}
    network = keras.Model(backbone.input, ends)

    def run(inputs) -> dict[str, np.ndarray]:
        outputs = network(inputs, training=False)
        return {name: np.moveaxis(ops.convert_to_numpy(value), -1, 1) for name, value in outputs.items()}

    outputs = run(features) | {"front_end": features}
    outputs["after__head"] = through_training_heads(outputs["after__backbone"], state, ("head",))
    outputs["logits"] = through_training_heads(outputs["after__backbone"], state)
    outputs["body_mid"] = run(body)["after__backbone"]
    outputs["body_logits"] = through_training_heads(outputs["body_mid"], state)
    limits = {"front_end": DECIBELS, "body_mid": 1e-4, "body_logits": 1e-4}
    with np.load(FOLDER / f"{FIXTURE}.npz") as stored:
        rows = [
            Row(
                name,
                fixture_rules.worst_difference(stored[name], outputs[name], spec["arrays"][name]["step"]),
                limits.get(name, 5e-4),
            )
            for name in stored
        ]
    return Comparison(parameters, 2_800_392, rows)


#: For the test and for `tests/parity_report.py`.
COMPARISONS = {FIXTURE: compare_with_training_heads}


def test_equals_the_original():
    assert not COMPARISONS[FIXTURE]().failures


@pytest.mark.parametrize("prefix", ["module.backbone.", "student.module.backbone."])
def test_names_of_the_published_files_are_understood(prefix):
    state = rule_weights(FIXTURE)
    classifier = Classifier.from_config(published_config("multi-view-resnet") | {"labels": ["a"]})
    shapes = {n: t.shape for n, t in classifier.tensors().items() if n.startswith("backbone.")}
    published = {
        name.replace("backbone.", prefix, 1) if name.startswith("backbone.") else f"module.{name}": value
        for name, value in state.items()
    }
    expected = convert("multi-view-resnet", state, shapes)
    for name, value in convert("multi-view-resnet", published, shapes).items():
        np.testing.assert_array_equal(value, expected[name])
