"""Every bundled preset: whole, loadable, calibrated, and as good as the manifest says."""

import csv

import keras
import numpy as np
import pytest

import music_zoo
from music_zoo.audio import load as load_audio
from music_zoo.calibration.calibrators import new_calibrator
from music_zoo.datasets import open_dataset
from music_zoo.evaluation.evaluate import evaluate
from music_zoo.golden import check_golden, make_golden
from music_zoo.hub.preset_files import read_preset
from music_zoo.hub.schema import BundledSource
from music_zoo.hub.sources import fetch

pytestmark = pytest.mark.keras

FOLDERS = {
    "fma-small": "data/fma-small-logmel",
    "gtzan": "data/gtzan-logmel",
    "nsynth-test": "data/nsynth-test",
}
#: What the default run scores presets on; of the notes, which are audio, the test split takes a minute.
QUICK_SPLITS = {"fma-small": "test", "gtzan": "test", "nsynth-test": "validation"}

BUNDLED = [
    name
    for name in music_zoo.list_models()
    if any(isinstance(source, BundledSource) for source in music_zoo.describe(name).sources)
]


@pytest.fixture(scope="module", params=BUNDLED)
def preset(request):
    return request.param, music_zoo.load(request.param), music_zoo.describe(request.param)


def test_entry_describes_the_classifier(preset):
    name, classifier, entry = preset
    assert classifier.name == name
    assert (classifier.labels, classifier.task) == (entry.labels, entry.task)
    assert (classifier.sample_rate, classifier.window) == (entry.sample_rate, entry.window_seconds)
    assert classifier.count_params() == entry.parameters
    assert classifier.architecture == entry.architecture


def test_golden_outputs_on_this_backend(preset):
    name, classifier, entry = preset
    golden = read_preset(fetch(name, entry)).golden
    # From the same features networks agree to 1e-6; Fourier transforms do not give quite the same ones. On
    # one machine PyTorch's moved an embedding by 1.2e-5 of its largest value.
    check_golden(classifier, golden, tolerance=2e-5)
    got = make_golden(classifier)["probabilities"]
    np.testing.assert_allclose(got, golden["probabilities"], rtol=0, atol=1e-5)


def test_is_calibrated(preset):
    _, classifier, entry = preset
    fitted = classifier.calibrator
    fresh = new_calibrator(fitted.kind, classifier.task, len(classifier.labels))
    assert any((a != b).any() for a, b in zip(fitted.get_weights(), fresh.get_weights(), strict=True))
    for result in entry.results:
        assert set(result.metrics) == set(result.uncalibrated)
        if result.split == "validation":
            # Of four digits, which a temperature near 1 may leave as they were.
            assert result.metrics["nll"] <= result.uncalibrated["nll"]


def test_silence_is_reported_and_gives_finite_numbers(preset):
    if keras.backend.backend() != "tensorflow":
        pytest.skip("once is enough: golden outputs tie the backends together")
    _, classifier, _ = preset
    with pytest.warns(UserWarning, match="silent"):
        silence = classifier.classify(np.zeros(classifier.sample_rate), classifier.sample_rate)
    assert np.isfinite(silence.probabilities).all()


@pytest.mark.parametrize("everywhere", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_manifest_numbers_reproduce(preset, everywhere, shared_data, monkeypatch):
    # Hundreds of draws, of which nothing is asked here.
    monkeypatch.setattr("music_zoo.evaluation.evaluate.errors_if_calibrated", lambda *_: {})
    _, classifier, entry = preset
    if not everywhere and keras.backend.backend() != "tensorflow":
        pytest.skip("once is enough: golden outputs tie the backends together")
    for result in entry.results:
        if not everywhere and result.split != QUICK_SPLITS[result.dataset]:
            continue
        got = evaluate(classifier, open_dataset(shared_data / FOLDERS[result.dataset]), result.split)
        assert got.examples == result.examples
        for metrics, stated in ((got.metrics, result.metrics), (got.uncalibrated, result.uncalibrated)):
            assert {name: metrics[name] for name in stated} == pytest.approx(stated, abs=0.005)


def test_audio_and_stored_features_agree(shared_data):
    """Eight songs that are in no training set, from their MP3 and from features that librosa made of it."""
    folder = shared_data / "audio" / "fma-songs"
    classifier = music_zoo.load("resnet-fma")
    errors, same = {}, 0
    with np.load(folder / "logmel.npz") as stored, (folder / "songs.csv").open(newline="") as table:
        for song in csv.DictReader(table):
            audio, _ = load_audio(folder / song["file"], classifier.sample_rate)
            waveform = audio[None, : classifier.window_samples]
            features = classifier.view("waveform", "features").predict(waveform, verbose=0)
            expected = stored[song["file"].removesuffix(".mp3")][None] / np.float32(255)
            errors[song["file"], song["sample_rate"]] = 80 * np.abs(features - expected).mean()
            a, b = (classifier.features_model.predict(f, verbose=0).argmax() for f in (features, expected))
            same += a == b
    assert np.mean(list(errors.values())) < 0.5
    # The stored features of the 48 kHz song were made at its own rate, those of the preset after resampling.
    assert all(error < 0.15 for (_, rate), error in errors.items() if rate == "44100")
    assert same == len(errors)
