"""What the reference fixtures hold, and how far our networks are from it.

The weights are a function of their PyTorch names (`fixture_rules.py`), so a fixture is small: names and
shapes of the entries (`<name>.keys.json`) and a sample of what the original computes from them
(`<name>.npz`).
"""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import fixture_rules
import keras
import numpy as np

from music_zoo.classifier import Classifier
from music_zoo.hub.convert import convert
from music_zoo.models import BACKBONES
from music_zoo.models.blocks import DATA_FORMAT

FOLDER = Path(__file__).parent
FIFTY = tuple(map(str, range(50)))
#: Largest absolute differences: of decibels; of features and of logits behind them; of other logits.
DECIBELS, FROM_SPECTROGRAM, TIGHT = 1e-2, 1e-4, 2e-5


@dataclass(frozen=True)
class Case:
    """A fixture and the configuration of ours that must reproduce it.

    Attributes:
        config: A name in the CONFIGS of a module of `music_zoo.models`.
        source: The mapping table.
        layers: For an array of the fixture, the layer of our backbone whose output it is.
        tokens: Those of `layers` whose last axis are features in the original, too.
        backend_layout: Whether all of `layers` compute in `blocks.DATA_FORMAT`; else channels last.
    """

    config: str
    source: str
    layers: Mapping[str, str] = field(default_factory=dict)
    tokens: frozenset[str] = frozenset()
    backend_layout: bool = False

    def channels_first(self, layer: str, value: np.ndarray) -> np.ndarray:
        """Return the output of one of `layers` as the original has it."""
        first = self.backend_layout and DATA_FORMAT == "channels_first"
        return value if first or layer in self.tokens else np.moveaxis(value, -1, 1)


class Row(NamedTuple):
    """One comparison: the array's name, the largest absolute difference, what it may be."""

    array: str
    difference: float
    limit: float


class Comparison(NamedTuple):
    """A network beside its original: numbers of parameters, where they are on record, and all differences."""

    parameters: int | None
    expected_parameters: int | None
    rows: list[Row]

    @property
    def failures(self) -> list[str]:
        """What is not as it should be, in words; empty if all is."""
        said = [f"{array}: {difference:.1e} > {limit:.0e}" for array, difference, limit in self.rows]
        failures = [
            words for words, row in zip(said, self.rows, strict=True) if not row.difference <= row.limit
        ]
        if self.parameters != self.expected_parameters:
            failures.append(f"{self.parameters} parameters in place of {self.expected_parameters}")
        return failures


def published_config(name: str) -> dict:
    """Return the named configuration of any architecture."""
    for architecture in BACKBONES.values():
        configs = sys.modules[architecture.__module__].CONFIGS
        if name in configs:
            return configs[name]
    raise KeyError(name)


def specification(fixture: str) -> dict:
    """Return what `<fixture>.keys.json` says."""
    return json.loads((FOLDER / f"{fixture}.keys.json").read_text())


def rule_weights(fixture: str) -> dict[str, np.ndarray]:
    """Return the original's state dict, filled by rule and checked against the sums in the fixture."""
    spec, state = specification(fixture), {}
    for entry in spec["state_dict"]:
        if entry["rule"] == "computed":
            continue
        value = fixture_rules.fill(entry["name"], entry["shape"], spec["model"])
        assert abs(value.sum(dtype="float64") - entry["sum"]) < 1e-6 * max(1, entry["abs_sum"]), entry["name"]
        state[entry["name"]] = value
    return state


def build(case: Case, state: Mapping[str, np.ndarray], labels=FIFTY) -> Classifier:
    """Return the classifier with the original's weights."""
    classifier = Classifier.from_config(published_config(case.config) | {"labels": labels})
    shapes = {name: tensor.shape for name, tensor in classifier.tensors().items()}
    classifier.set_tensors(convert(case.source, state, shapes))
    return classifier


def count_parameters(classifier: Classifier) -> int:
    """Return the number of trainable numbers (the calibrator's temperature is not trained)."""
    return sum(int(np.prod(v.shape)) for v in classifier.trainable_weights)


def compare_case(fixture: str, case: Case) -> Comparison:
    """Fill the network by rule and hold it to the fixture."""
    classifier = build(case, rule_weights(fixture))
    expected = specification(fixture)["trainable_parameters"]
    return Comparison(count_parameters(classifier), expected, compare(fixture, case, classifier))


def compare(fixture: str, case: Case, classifier: Classifier) -> list[Row]:
    """Run the fixture's waveforms, and its stand-in for features, through the classifier."""
    spec = specification(fixture)
    stored = np.load(FOLDER / f"{fixture}.npz")
    rows = []

    def row(array: str, value, limit: float) -> None:
        difference = fixture_rules.worst_difference(
            stored[array], _numpy(value), spec["arrays"][array]["step"]
        )
        rows.append(Row(array, difference, limit))

    waveforms = fixture_rules.wave_batch(spec["input"]["samples"], spec["input"]["rate"])
    features = classifier.front_end(waveforms)
    if "front_end" in stored:
        row("front_end", features, DECIBELS)
    spectral = "front_end" in stored
    outputs = _run(classifier, features, list(case.layers.values()))
    for array, layer in case.layers.items():
        value = case.channels_first(layer, outputs[layer])
        # Behind decibels of nearly nothing float32 costs the original itself more: of the largest value.
        largest = spec["arrays"][array]["abs_max"] if spectral else 1.0
        row(array, value, FROM_SPECTROGRAM * max(1.0, largest))
    row("logits", outputs["logits"], FROM_SPECTROGRAM if spectral else TIGHT)
    if "output" in stored:
        row("output", 1 / (1 + np.exp(-outputs["logits"])), 5e-5)
    if "body_logits" in stored:
        body = fixture_rules.decibel_like(fixture, spec["body_input"]["shape"])
        mid = case.layers["after__" + spec["arrays"]["body_mid"]["of"].replace(".", "_")]
        outputs = _run(classifier, body, [mid])
        row("body_mid", case.channels_first(mid, outputs[mid]), FROM_SPECTROGRAM)
        row("body_logits", outputs["logits"], TIGHT)
    return rows


def _run(classifier: Classifier, features, layers: list[str]) -> dict[str, np.ndarray]:
    backbone = classifier.backbone
    ends = {name: backbone.get_layer(name).output for name in layers} | {"backbone": backbone.output}
    outputs = keras.Model(backbone.input, ends)(features, training=False)
    outputs["logits"] = classifier.head(classifier.pooling(outputs["backbone"]))
    return {name: _numpy(value) for name, value in outputs.items()}


def _numpy(value) -> np.ndarray:
    return keras.ops.convert_to_numpy(value)
