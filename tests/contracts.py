"""What every backbone, classifier and preset promises, as functions that raise where a promise is broken.

A new architecture's test is an entry in `models/test_architectures.py`; a new preset's is nothing.
"""

import json

import keras
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import music_zoo
from music_zoo.audio_model import AudioModel
from music_zoo.classifier import Classifier
from music_zoo.golden import check_golden
from music_zoo.hub.preset_files import read_preset
from music_zoo.models import Backbone

#: How far outputs may be from those in float32, relative to the largest.
PRECISIONS = {"mixed_bfloat16": 5e-2, "mixed_float16": 5e-3}


def check_backbone(backbone: Backbone, lengths: tuple[int, ...] = (33, 48)) -> None:
    """Config, names, shapes, and that examples are processed one by one.

    Args:
        backbone: Freshly built.
        lengths: Of the inputs' last axis.
    """
    config = json.loads(json.dumps(backbone.get_config()))
    again = type(backbone).from_config(config)
    assert json.loads(json.dumps(again.get_config())) == config
    with pytest.raises(TypeError, match="unknown_setting"):
        type(backbone).from_config(config | {"unknown_setting": 1})
    # The same names, though something of the same kind was built before; and each only once.
    shapes = [(v.path, tuple(v.shape)) for v in backbone.weights]
    assert [(v.path, tuple(v.shape)) for v in again.weights] == shapes
    assert len(dict(shapes)) == len(shapes)

    for length in lengths:
        inputs = _inputs(backbone, 3, length)
        outputs = backbone.predict_on_batch(inputs)
        assert outputs.shape == backbone.compute_output_shape(inputs.shape)
        assert outputs.shape[0] == 3 and np.isfinite(outputs).all()
    for own, other in zip(again.weights, backbone.weights, strict=True):
        own.assign(keras.ops.convert_to_numpy(other))  # a copy: JAX may give away the buffer itself
    assert_array_equal(again.predict_on_batch(inputs), outputs)
    check_examples_are_independent(backbone, inputs)


def check_examples_are_independent(model: keras.Model, inputs: np.ndarray) -> None:
    """An example's output is the same alone and among others, whichever they are."""
    outputs = model.predict_on_batch(inputs)
    tolerance = 1e-5 * max(1.0, np.abs(outputs).max())
    assert_allclose(model.predict_on_batch(inputs[:1]), outputs[:1], rtol=0, atol=tolerance)
    louder = np.concatenate([inputs[:1], 100 * inputs[1:]])
    assert_allclose(model.predict_on_batch(louder)[:1], outputs[:1], rtol=0, atol=tolerance)


def check_precisions(build, tensors: dict[str, np.ndarray], inputs: np.ndarray, policies=PRECISIONS) -> None:
    """In half precision the outputs are finite and near to those in float32.

    Args:
        build: Builds the classifier.
        tensors: Its weights.
        inputs: `(batch, window)`.
        policies: Names of dtype policies, each with its tolerance.
    """

    def embeddings():
        classifier = build()
        classifier.set_tensors(tensors)
        assert all(v.dtype == "float32" for v in classifier.weights)
        assert classifier.output.dtype == "float32"
        return classifier.view("waveform", "embedding").predict_on_batch(inputs)

    expected = embeddings()
    before = keras.config.dtype_policy()
    for policy, tolerance in policies.items():
        keras.config.set_dtype_policy(policy)
        try:
            got = embeddings()
        finally:
            keras.config.set_dtype_policy(before)
        assert got.dtype == np.float32, policy
        assert_allclose(got, expected, rtol=0, atol=tolerance * np.abs(expected).max(), err_msg=policy)


def check_classifier(classifier: Classifier) -> None:
    """Config, weights by name, outputs, and one step of training that reaches every weight.

    The classifier's weights are changed.
    """
    config = json.loads(json.dumps(classifier.get_config()))
    again = Classifier.from_config(config)
    assert json.loads(json.dumps(again.get_config())) == config
    tensors = classifier.tensors()
    assert len(tensors) == len(classifier.weights)
    again.set_tensors(tensors)

    waveforms = np.random.default_rng(0).normal(size=(4, classifier.window_samples)).astype(np.float32) / 8
    probabilities = classifier.predict_on_batch(waveforms)
    assert (
        probabilities.shape == (4, len(classifier.labels)) == classifier.compute_output_shape(waveforms.shape)
    )
    assert ((probabilities >= 0) & (probabilities <= 1)).all()
    if classifier.task == "single_label":
        assert_allclose(probabilities.sum(axis=1), 1, atol=1e-6)
    assert_array_equal(again.predict_on_batch(waveforms), probabilities)
    check_examples_are_independent(classifier, waveforms)
    check_training_step(classifier, waveforms)


def check_training_step(classifier: Classifier, waveforms: np.ndarray) -> None:
    """One step moves every trainable weight and running statistic, to finite values, and nothing else."""
    shape = (
        (len(waveforms),) if classifier.task == "single_label" else (len(waveforms), len(classifier.labels))
    )
    targets = np.random.default_rng(1).integers(2, size=shape)
    before = classifier.tensors()
    # On TensorFlow XLA would compile for half a minute what is trained for one step.
    classifier.compile(keras.optimizers.SGD(1.0), jit_compile=keras.config.backend() == "jax")
    classifier.train_on_batch(waveforms, targets)
    after = classifier.tensors()
    assert not [name for name, value in after.items() if not np.isfinite(value).all()]
    unmoved = {name for name in before if (before[name] == after[name]).all()}
    assert unmoved == {"calibrator.temperature"}


def check_preset(name) -> AudioModel:
    """A preset, or the folder of one, loads strictly and gives its golden outputs on this backend."""
    classifier = music_zoo.load(name)
    folder = name if not isinstance(name, str) else music_zoo.zoo.locate(name)
    files = read_preset(folder)
    kind = files.config.pop("kind", "classifier")
    assert kind == classifier.kind
    assert files.config == {kind: json.loads(json.dumps(classifier.get_config()))}
    assert set(files.tensors) == set(classifier.tensors())
    check_golden(classifier, files.golden, tolerance=1e-5)
    return classifier


def _inputs(backbone: Backbone, batch: int, length: int) -> np.ndarray:
    shape = [batch, *backbone.input_shape[1:-1], backbone.input_shape[-1] or length]
    return np.random.default_rng(0).uniform(size=shape).astype(np.float32)
