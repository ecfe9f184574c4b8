"""Attention, seen: against attention forced by hand in NumPy, and on a network whose ear is known."""

import json
import re
from math import erf

import keras
import numpy as np
import pytest
from keras import ops
from small import seeded, small_classifier, small_front_end, song
from typer.testing import CliRunner

from music_zoo import cli
from music_zoo.classifier import Classifier
from music_zoo.errors import AudioError
from music_zoo.explain import explain
from music_zoo.layers.attention import SelfAttention
from music_zoo.models import CNNSA, MusicTaggingTransformer, SpecTNT

pytestmark = pytest.mark.keras

LABELS = ("guitar", "guitars", "piano")
SMALL_TRANSFORMER = {"n_mels": 16, "conv_width": 4, "embed_dim": 8, "depth": 2, "heads": 2, "mlp_ratio": 2}
STEPS = 15  # of four frames each in a second: 63 frames


def transformer() -> MusicTaggingTransformer:
    return MusicTaggingTransformer(**SMALL_TRANSFORMER, positions=20)


def cnnsa() -> CNNSA:
    return CNNSA(16, (4, 4, 8, 8), (2, 2, 1, 1), encoders=2, heads=2, inner_width=12)


def spectnt() -> SpecTNT:
    small = {"spectral_dim": 4, "temporal_dim": 8, "spectral_heads": 2, "temporal_heads": 2}
    return SpecTNT(16, **small, depth=2, positions=20)


def classifier_of(backbone, task: str = "multi_label") -> Classifier:
    classifier = Classifier(
        small_front_end(), backbone, LABELS, task=task, window=1.0, pooling="none", dropout=0.5
    )
    classifier.set_tensors(seeded(classifier.tensors()))
    return classifier


# ---- attention forced by hand ------------------------------------------------------------------------------


def _dense(x, tensors, name):
    return x @ tensors[f"{name}.kernel"] + tensors.get(f"{name}.bias", 0)


def _norm(x, tensors, name, epsilon=1e-5):
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + epsilon)
    return x * tensors[f"{name}.gamma"] + tensors[f"{name}.beta"]


def _gelu(x):
    return x * (1 + np.vectorize(erf)(x / np.sqrt(2))) / 2


def _attend(x, attention, tensors, name):
    """Mix the values of `(tokens, width)` by `(heads, tokens, tokens)`."""
    value = np.split(_dense(x, tensors, f"{name}.qkv"), 3, axis=-1)[2]
    heads = np.split(value, len(attention), axis=-1)
    mixed = np.concatenate([a @ v for a, v in zip(attention, heads, strict=True)], axis=-1)
    return _dense(mixed, tensors, f"{name}.output")


def _pre_norm(x, attention, t, block):
    """The last layer and what follows, as in the transformer and in SpecTNT: the embedding."""
    x = x + _attend(_norm(x, t, f"{block}_norm1"), attention, t, f"{block}_attention")
    inner = _gelu(_dense(_norm(x, t, f"{block}_norm2"), t, f"{block}_mlp1"))
    return _norm((x + _dense(inner, t, f"{block}_mlp2"))[0], t, "norm")


def _post_norm(x, attention, t, block):
    """The same as in CNNSA."""
    x = x + _attend(x, attention, t, f"{block}_attention")
    x = _norm(x, t, f"{block}_attention_norm", 1e-12)
    inner = _gelu(_dense(x, t, f"{block}_dense1"))
    x = _norm(x + _dense(inner, t, f"{block}_dense2"), t, f"{block}_dense_norm", 1e-12)
    return np.tanh(_dense(x[0], t, "pooler"))


NETWORKS = {
    "transformer": (transformer, _pre_norm, "encoder1", "encoder1_norm1"),
    "cnnsa": (cnnsa, _post_norm, "encoder1", "encoder1_attention"),
    "spectnt": (spectnt, _pre_norm, "block1_temporal", "block1_temporal_norm1"),
}


@pytest.mark.parametrize("task", ["multi_label", "single_label"])
@pytest.mark.parametrize("network", NETWORKS)
def test_contributions_are_those_of_attention_forced_to_each_step(network, task):
    build, rest_of_network, block, first = NETWORKS[network]
    classifier = classifier_of(build(), task)
    audio = song(1.5)
    explanation = explain(classifier, audio, 8000, start=0.5)

    backbone = classifier.backbone
    features = classifier.view("waveform", "features").predict_on_batch(audio[np.newaxis, 4000:])
    tokens = keras.Model(backbone.input, backbone.get_layer(first).input)(features)
    tokens = ops.convert_to_numpy(tokens)[0].astype("float64")
    all_tensors = classifier.tensors()
    tensors = {name.removeprefix("backbone."): t for name, t in all_tensors.items()}

    def probabilities(attention):
        logits = _dense(rest_of_network(tokens, attention, tensors, block), all_tensors, "head")
        logits = logits / all_tensors["calibrator.temperature"]
        if task == "multi_label":
            return 1 / (1 + np.exp(-logits))
        return np.exp(logits) / np.exp(logits).sum()

    steps = len(tokens) - 1
    forced = np.zeros((steps, 2, len(tokens), len(tokens)))
    forced[np.arange(steps), :, :, 1 + np.arange(steps)] = 1
    expected = np.array([probabilities(attention) for attention in forced])
    assert np.ptp(expected, axis=0).max() > 0.01  # steps differ
    np.testing.assert_allclose(explanation.contributions, expected, atol=2e-5)

    # By the network's own attention the same arithmetic gives the network's own output.
    attend = backbone.get_layer(f"{block}_attention")
    free = keras.Model(backbone.input, attend.input)(features)
    free = ops.convert_to_numpy(attend(free, attention_only=True))[0]
    np.testing.assert_allclose(explanation.probabilities, probabilities(free), atol=2e-5)
    assert explanation.attention.shape == (steps,)
    # Over the heads the class token's attention sums to one: what steps do not get, it gives itself.
    np.testing.assert_allclose(explanation.attention, free[:, 0].mean(0)[1:], atol=1e-6)
    np.testing.assert_allclose(explanation.attention.sum(), 1 - free[:, 0, 0].mean(), atol=1e-6)
    own = classifier.classify(audio[4000:], 8000).probabilities
    np.testing.assert_allclose(explanation.probabilities, own, atol=1e-6)


def test_attention_without_a_preference_is_spread_evenly():
    classifier = classifier_of(transformer())
    tensors = classifier.tensors()
    tensors["backbone.encoder1_attention.qkv.kernel"] *= 0
    classifier.set_tensors(tensors)
    explanation = explain(classifier, song(1), 8000)
    np.testing.assert_allclose(explanation.attention, np.full(STEPS, 1 / (STEPS + 1)), atol=1e-6)
    # All values are zero: attention makes no difference.
    np.testing.assert_allclose(
        explanation.contributions, np.tile(explanation.probabilities, (STEPS, 1)), atol=1e-6
    )


def test_values_are_the_output_where_all_tokens_are_alike():
    attend = SelfAttention(2, output_dim=3)
    tokens = np.random.default_rng(0).normal(size=(5, 1, 4)).astype("float32").repeat(3, axis=1)
    output = ops.convert_to_numpy(attend(tokens))
    np.testing.assert_allclose(ops.convert_to_numpy(attend.values(tokens)), output, atol=1e-6)


# ---- a network whose ear is known --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ear() -> Classifier:
    """Looks at loud steps only; there it hears "guitar", in silence "guitars", and "piano" it cannot tell."""
    classifier = classifier_of(transformer())
    plain = ("gamma", "variance", "temperature")
    tensors = {name: np.full_like(t, name.endswith(plain)) for name, t in classifier.tensors().items()}
    tensors["backbone.layer1_residual_conv_3.kernel"][1, 1, 0, 0] = 1  # the level, past all convolutions
    # From channels times bands: 16 bands were halved three times. The level goes into number 0 ...
    tensors["backbone.tokens.kernel"].reshape(4, 2, 8)[0, :, 0] = 10
    tensors["backbone.tokens.bias"][1] = 1  # ... against a constant in number 1
    # The class token is zero, so behind the normalisation it is this: the query of both heads.
    tensors["backbone.encoder1_norm1.beta"][3] = 1
    qkv = tensors["backbone.encoder1_attention.qkv.kernel"]
    qkv[3, [0, 4]] = 30  # query
    qkv[0, [8, 12]] = 30  # key: the level
    qkv[0, 16] = 1  # value: the level
    tensors["backbone.encoder1_attention.output.kernel"][0, 0] = 1
    tensors["head.kernel"][0] = [4, -4, 0]
    classifier.set_tensors(tensors)
    return classifier


@pytest.fixture
def late(write_wav):
    """Three seconds, silent up to 1.5 s, then loud."""
    audio = np.random.default_rng(0).uniform(-0.5, 0.5, 24_000)
    audio[:12_000] = 0
    return write_wav("late.wav", audio)


def test_a_network_that_hears_loudness_is_seen_to(ear, late):
    explanation = explain(ear, late, start=1.0)
    assert explanation.times.shape == (STEPS, 2)
    np.testing.assert_allclose(explanation.times[[0, -1], [0, 1]], [1, 2])
    np.testing.assert_allclose(explanation.times[1:, 0], explanation.times[:-1, 1])
    silent, loud = explanation.times[:, 1] < 1.4, explanation.times[:, 0] > 1.6
    assert explanation.attention[~silent].sum() > 0.999
    assert explanation.attention[silent].sum() < 1e-6
    guitar, guitars, piano = explanation.contributions.T
    assert guitar[loud].min() > 0.99 and guitar[silent].max() < 0.01
    np.testing.assert_allclose(guitars, 1 - guitar, atol=1e-5)
    np.testing.assert_allclose(piano, 0.5)
    assert list(explanation.columns()) == ["guitar", "piano", "guitars"]
    assert str(explanation).startswith(f"{late}  (1.0 to 2.0 s)\n  100.0%  guitar  (most: 100.0% from 1.")


def test_file_and_array_agree_at_any_rate(ear, late):
    t = np.arange(16_000 * 2) / 16_000
    audio = np.where(t < 0.7, 0, 0.5 * np.sin(2 * np.pi * 500 * t))
    stereo = explain(ear, np.stack([audio, audio]), 16_000, start=0.25)
    mono = explain(ear, audio, 16_000, start=0.25)
    np.testing.assert_array_equal(stereo.contributions, mono.contributions)
    assert mono.source == "array"


def test_picture(ear, late, tmp_path):
    explanation = explain(ear, late)
    for name in ("all.svg", "two.png"):
        assert explanation.plot(tmp_path / name, ["piano", "guitar"]) == tmp_path / name
    assert "<svg" in (tmp_path / "all.svg").read_text()
    assert (tmp_path / "two.png").read_bytes().startswith(b"\x89PNG")
    explanation.plot(tmp_path / "default.png")
    with pytest.raises(ValueError, match="must end in one of"):
        explanation.plot(tmp_path / "picture.txt")


# ---- bad input ---------------------------------------------------------------------------------------------


def test_networks_without_a_class_token_over_time_are_refused():
    with pytest.raises(ValueError, match=r"class token attends .*; the backbone of classifier is ResNet\."):
        explain(small_classifier(), song(1), 8000)
    assert SpecTNT(16, depth=1, clip_token=False).time_attention is None


def test_unknown_tags_are_refused_with_near_names(ear, late, tmp_path):
    explanation = explain(ear, late)
    with pytest.raises(ValueError, match="'gitar' is no tag of this classifier; did you mean guitar or guit"):
        explanation.to_dict(["piano", "gitar"])
    with pytest.raises(ValueError, match="'xyz' is no tag .*; expected one of guitar, guitars, piano"):
        explanation.plot(tmp_path / "no.png", ["xyz"])
    assert not list(tmp_path.glob("*.png"))


def test_audio_without_a_whole_window_is_refused(ear, late):
    with pytest.raises(
        AudioError, match=r"late.wav: .* 1 s from 2.5 s on, got 3.00 s of audio in all; start at 2.00"
    ):
        explain(ear, late, start=2.5)
    with pytest.raises(AudioError, match=r"the array: .* from 0 s on, got 0.90 s .*; take longer audio"):
        explain(ear, song(0.9), 8000)
    assert explain(ear, late, start=2.0).times[-1, 1] == 3


def test_wrong_arguments_are_refused(ear, late):
    for start in (-1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="`start` is a time in seconds, 0 or more"):
            explain(ear, late, start=start)
    with pytest.raises(ValueError, match="says its own sample rate"):
        explain(ear, late, 8000)
    with pytest.raises(AudioError, match="sample_rate is missing"):
        explain(ear, song(1))


# ---- the command -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def preset(ear, tmp_path_factory):
    folder = tmp_path_factory.mktemp("presets") / "ear"
    ear.save_preset(folder)
    return folder


@pytest.fixture
def invoke(preset, late):
    def run(*args, model=preset):
        return CliRunner().invoke(cli.app, ["explain", *map(str, [late, *args, "--model", model])])

    return run


def test_command_draws_and_prints(invoke, late, tmp_path):
    picture = tmp_path / "picture.png"
    result = invoke("--tag", "piano", "--tag", "guitar", "--output", picture, "--start", "1")
    assert (result.exit_code, result.stderr) == (0, f"wrote {picture}\n")
    head, *lines = result.stdout.splitlines()
    assert head == f"{late}  (1.0 to 2.0 s)"
    assert [line.split()[1] for line in lines] == ["piano", "guitar"]
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_command_gives_json_without_a_picture(invoke, late):
    result = invoke("--tag", "guitar", "--json")
    assert result.exit_code == 0
    read = json.loads(result.stdout)
    assert (read["source"], list(read["probabilities"])) == (str(late), ["guitar"])
    assert len(read["steps"]) == STEPS
    assert {tuple(step) for step in read["steps"]} == {("start", "end", "attention", "contributions")}
    assert read["steps"][-1]["end"] == 1


def test_command_refuses_wrong_use(invoke, tmp_path):
    other = tmp_path / "other"
    small_classifier().save_preset(other)
    for args, model, message in [
        (["--tag", "gitar", "--json"], None, "did you mean guitar or guitars?"),
        (["--json"], other, "is ResNet."),
        ([], None, "--output"),
        (["--output", "picture.txt"], None, "must end in one of"),
        (["--start", "-1", "--json"], None, "--start"),
    ]:
        result = invoke(*args, **({"model": model} if model else {}))
        assert (result.exit_code, result.stdout) == (2, "")
        assert message in re.sub(r"[\s│]+", " ", result.stderr)
    result = invoke("--start", "9", "--json")
    assert result.exit_code == 1 and isinstance(result.exception, AudioError)
