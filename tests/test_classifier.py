"""The classifier on audio of every kind: files, arrays, and what cannot be used."""

import re

import keras
import numpy as np
import pytest
import soundfile
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import expit, softmax
from small import SAMPLE_RATE, song
from small import small_classifier as build

from music_zoo import AudioError

pytestmark = pytest.mark.keras


def probabilities_of(classifier, *windows) -> np.ndarray:
    return classifier.predict_on_batch(np.stack(windows))


# ---- classify ----------------------------------------------------------------------------------------------


def test_a_prediction_names_source_model_labels_and_times(small_classifier, write_wav):
    path = write_wav("song.wav", song(2.5))
    prediction = small_classifier.classify(path)
    assert (prediction.source, prediction.model, prediction.task) == (str(path), "classifier", "single_label")
    assert prediction.labels == ("a", "b", "c")
    assert prediction.probabilities.shape == (3,) and prediction.taggram.shape == (3, 3)
    assert_allclose(prediction.taggram.sum(axis=1), 1, atol=1e-6)
    assert_array_equal(prediction.times, [[0, 1], [1, 2], [1.5, 2.5]])
    assert prediction.duration == 2.5
    assert prediction.notes == ()


def test_windows_are_the_audio_and_the_whole_is_their_mean(small_classifier):
    audio = song(2.5)
    prediction = small_classifier.classify(audio, SAMPLE_RATE)
    expected = probabilities_of(small_classifier, audio[:8000], audio[8000:16000], audio[-8000:])
    assert_allclose(prediction.taggram, expected, atol=1e-6)
    assert_allclose(prediction.probabilities, expected.mean(axis=0), atol=1e-6)


def test_hop_is_the_time_between_starts(small_classifier):
    prediction = small_classifier.classify(song(2.0), SAMPLE_RATE, hop=0.25)
    assert_array_equal(prediction.times[:, 0], [0, 0.25, 0.5, 0.75, 1])
    assert_array_equal(np.diff(prediction.times), 1)


@pytest.mark.parametrize("hop", [0, -1, 1.5, float("nan")])
def test_a_hop_that_cannot_be_is_refused(small_classifier, hop):
    with pytest.raises(ValueError, match=r"`hop` must lie between 0 and the window of 1.0 s"):
        small_classifier.classify(song(2.0), SAMPLE_RATE, hop=hop)


def test_short_audio_is_repeated(small_classifier):
    audio = song(0.4)
    prediction = small_classifier.classify(audio, SAMPLE_RATE)
    repeated = np.tile(audio, 3)[:8000]
    assert_allclose(prediction.taggram, probabilities_of(small_classifier, repeated), atol=1e-6)
    assert_array_equal(prediction.times, [[0, 0.4]])
    assert prediction.duration == 0.4


@pytest.mark.parametrize("sample_rate", [8000, 11025])
def test_file_array_and_channels_give_the_same(small_classifier, write_wav, sample_rate):
    audio = song(1.3, sample_rate)
    side = 0.1 * song(1.3, sample_rate)[::-1]
    stereo = np.stack([audio + side, audio - side])  # whose mean is `audio`, but for rounding
    expected = small_classifier.classify(audio, sample_rate)
    for prediction in (
        small_classifier.classify(write_wav("mono.wav", audio, sample_rate)),
        small_classifier.classify(str(write_wav("stereo.wav", stereo, sample_rate))),
        small_classifier.classify(stereo, sample_rate),
    ):
        assert_allclose(prediction.taggram, expected.taggram, atol=1e-5)
        assert_array_equal(prediction.times, expected.times)


def test_a_hop_of_less_than_a_sample_is_one_sample(small_classifier):
    prediction = small_classifier.classify(song(1.0)[:8003], SAMPLE_RATE, hop=1e-6)
    assert len(prediction.times) == 1
    prediction = small_classifier.classify(np.append(song(1.0), [0, 0]), SAMPLE_RATE, hop=1e-6)
    assert_array_equal(prediction.times[:, 0] * SAMPLE_RATE, [0, 1, 2])


def test_multi_label_probabilities_are_sigmoids_of_calibrated_logits():
    classifier = build(task="multi_label", labels=["a", "b"])
    audio = song(1.0)
    logits = classifier.view("waveform", "logits").predict_on_batch(audio[None])
    temperature = float(classifier.calibrator.temperature)
    assert temperature != 1
    assert_allclose(classifier.classify(audio, SAMPLE_RATE).taggram, expit(logits / temperature), atol=1e-6)


def test_single_label_probabilities_are_softmax_of_calibrated_logits(small_classifier):
    audio = song(1.0)
    logits = small_classifier.view("waveform", "logits").predict_on_batch(audio[None])
    expected = softmax(logits / float(small_classifier.calibrator.temperature), axis=-1)
    assert_allclose(small_classifier.classify(audio, SAMPLE_RATE).taggram, expected, atol=1e-6)


def test_embed_gives_the_head_s_input_for_each_window(small_classifier, write_wav):
    path = write_wav("song.wav", song(2.0))
    embeddings = small_classifier.embed(path)
    assert embeddings.shape == (2, 8) and embeddings.dtype == np.float32
    kernel, bias = map(keras.ops.convert_to_numpy, small_classifier.head.weights)
    (inference,) = small_classifier.infer([path], "logits")
    assert_allclose(embeddings @ kernel + bias, inference.outputs, atol=1e-5)
    assert_array_equal(small_classifier.embed(song(2.0), SAMPLE_RATE), embeddings)


def test_classify_many_takes_files_and_arrays_and_keeps_errors_in_place(
    small_classifier, write_wav, tmp_path
):
    path = write_wav("song.wav", song(1.0))
    results = list(
        small_classifier.classify_many([path, (song(1.0), SAMPLE_RATE), tmp_path / "none.wav", song(1.0)])
    )
    assert [getattr(result, "source", None) for result in results] == [str(path), "array", None, None]
    assert_array_equal(results[0].probabilities, results[1].probabilities)
    assert isinstance(results[2], AudioError) and "none.wav" in str(results[2])
    assert isinstance(results[3], AudioError) and "sample_rate is missing" in str(results[3])


# ---- audio that cannot be used, or hardly ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("audio", "sample_rate", "message"),
    [
        (song(1.0), None, "sample_rate is missing"),
        (song(1.0), 8.0, "if that is kHz, give 8000"),
        (np.full(8000, np.nan, np.float32), 8000, "NaN or infinity at 0.000 s"),
        (np.append(song(1.0), np.inf), 8000, "NaN or infinity at 1.000 s"),
        (np.zeros((2, 2, 8000)), 8000, r"shape \(2, 2, 8000\)"),
        (np.zeros((8000, 2)), 8000, r"audio\.T"),
        (np.zeros(0), 8000, "no audio"),
        (np.ones(1), 8000, "0.0001 s of audio are too short"),
        (song(0.05), 8000, "expected at least 0.1 s"),
    ],
)
def test_arrays_that_cannot_be_used(small_classifier, audio, sample_rate, message):
    for method in (small_classifier.classify, small_classifier.embed):
        with pytest.raises(AudioError, match=message):
            method(audio, sample_rate)


def test_a_file_says_its_own_sample_rate(small_classifier, write_wav):
    with pytest.raises(ValueError, match="A file says its own sample rate"):
        small_classifier.classify(write_wav("song.wav", song(1.0)), 8000)


@pytest.mark.parametrize("sample_rate", [8000, 11025])  # resampling makes a constant ring at its ends
@pytest.mark.parametrize("value", [0.0, 0.5])
def test_silence_and_constants_give_finite_numbers_and_a_warning(
    small_classifier, write_wav, value, sample_rate
):
    audio = np.full(round(2.5 * sample_rate), value, np.float32)
    for given in ((audio, sample_rate), (write_wav("constant.wav", audio, sample_rate),)):
        with pytest.warns(UserWarning, match="silent or constant"):
            prediction = small_classifier.classify(*given)
        assert np.isfinite(prediction.taggram).all()
        assert len(prediction.notes) == 1


def test_a_step_is_not_constant(small_classifier):
    step = np.repeat(np.float32([0.1, 0.2]), 8000)
    assert small_classifier.classify(step, 8000).notes == ()


def test_a_low_sample_rate_is_told():
    classifier = build(sample_rate=16000, window=0.5)
    with pytest.warns(UserWarning, match="recorded at 4000 Hz, so nothing above 2000 Hz"):
        prediction = classifier.classify(song(1.0, 4000), 4000)
    assert np.isfinite(prediction.probabilities).all()
    assert "4000 Hz" in prediction.to_text()


def test_truncated_files_need_leave(small_classifier, tmp_path):
    path = tmp_path / "cut.wav"
    soundfile.write(path, song(4.0), SAMPLE_RATE, subtype="PCM_16")
    path.write_bytes(path.read_bytes()[: 44 + 2 * 2 * SAMPLE_RATE])
    with pytest.raises(AudioError, match="allow_truncated=True"):
        small_classifier.classify(path)
    assert small_classifier.classify(path, allow_truncated=True).duration == 2.0
    assert len(small_classifier.embed(path, allow_truncated=True)) == 2


# ---- settings ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"task": "regression"}, "single_label, multi_label, got 'regression'"),
        ({"labels": ["a"]}, "needs more labels than 1"),
        ({"labels": [], "task": "multi_label"}, "needs more labels than 0"),
        ({"labels": "rock"}, "needs more labels than 1"),
        ({"labels": ["a", "b", "a"]}, r"repeated: \['a'\]"),
        ({"labels": ["a", 2, ["b"]]}, r"names, texts; got \[2, \[.b.\]\]"),
        ({"window": 0.0}, "at least the 1 samples"),
        ({"window": float("inf")}, "got inf s"),
        ({"pooling": "median"}, "median"),
    ],
)
def test_settings_that_cannot_be(settings, message):
    with pytest.raises(ValueError, match=message):
        build(**settings)


@pytest.mark.parametrize(
    "ends",
    [("waveform", "embeddings"), ("audio", "logits"), ("features", ()), ("features", ("logits", "labels"))],
)
def test_a_view_of_no_such_point_is_refused(small_classifier, ends):
    with pytest.raises(ValueError, match=re.escape(f"got {ends[0]!r} to {ends[1]!r}")):
        small_classifier.view(*ends)


def test_a_view_gives_several_outputs_side_by_side(small_classifier):
    audio, names = song(1.0)[None], ("embedding", "logits", "probabilities")
    expected = [small_classifier.view("waveform", name).predict_on_batch(audio) for name in names]
    both = small_classifier.view("waveform", names).predict_on_batch(audio)
    assert_allclose(both, np.concatenate(expected, axis=1), atol=1e-6)
    assert small_classifier.view("waveform", list(names)) is small_classifier.view("waveform", names)
    with pytest.raises(ValueError, match="shape"):
        small_classifier.view("features", ("features", "logits"))


def test_views_share_weights_and_join_up(small_classifier):
    audio = song(1.0)[None]
    features = small_classifier.view("waveform", "features").predict_on_batch(audio)
    assert features.shape == (1, 16, 63)
    expected = small_classifier.predict_on_batch(audio)
    assert_allclose(small_classifier.features_model.predict_on_batch(features), expected, atol=1e-6)
    assert small_classifier.features_model is small_classifier.view("features", "probabilities")
    ours = {id(weight) for weight in small_classifier.weights}
    assert {id(weight) for weight in small_classifier.features_model.weights} == ours
    assert len(small_classifier.weights) == len(small_classifier.tensors()) == len(ours)


def test_features_may_have_any_number_of_frames(small_classifier):
    features = np.random.default_rng(0).uniform(size=(2, 16, 20)).astype(np.float32)
    assert small_classifier.features_model.predict_on_batch(features).shape == (2, 3)
