"""The published checkpoints that the tests may find beside the repository, and what their originals give."""

import os
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest import mock

import fixture_rules
import keras
import numpy as np
import soundfile
from fixtures import FOLDER, Comparison, Row

import music_zoo

#: Largest absolute differences of logits for stand-in features, of logits for audio, of probabilities.
BODY, LOGITS, PROBABILITIES = 1e-4, 1e-3, 1e-4


#: The presets by the name of the fixture, `published_<name>.npz`.
CHECKPOINTS = {
    f"{dataset}_{model}": f"{model}-{dataset}"
    for dataset, models in {
        "mtat": ("fcn", "crnn", "musicnn"),
        "msd": ("fcn", "crnn"),
        "jamendo": ("fcn", "crnn", "musicnn"),
    }.items()
    for model in models
}


def load_published(preset: str, data: Path) -> music_zoo.Classifier:
    """Load a preset as anybody does, but for the address: `data` holds a copy of the originals."""
    mirror = {"MUSIC_ZOO_ORIGINALS": str(data / "originals")}
    with TemporaryDirectory() as cache, mock.patch.dict(os.environ, mirror):
        return music_zoo.load(preset, cache_dir=cache)


def compare_published(name: str, data: Path) -> Comparison:
    """Run formula waveforms, a real song and stand-in features through a converted checkpoint.

    Args:
        name: A key of `CHECKPOINTS`.
        data: The folder that holds `originals` and `parity`.
    """
    classifier = load_published(CHECKPOINTS[name], data)
    samples = classifier.window_samples
    song, _ = soundfile.read(data / "parity" / "vibe_ace_16k_29s.flac", dtype="float32")
    song = song[: len(song) // samples * samples].reshape(-1, samples)
    waveforms = {"formula": fixture_rules.wave_batch(samples, 16_000), "clip": song}
    rows = []
    with np.load(FOLDER / f"published_{name}.npz") as stored:
        for kind, waveform in waveforms.items():
            logits = classifier.view("waveform", "logits").predict(waveform, batch_size=3, verbose=0)
            rows.append(Row(f"{kind}_logits", _worst(logits, stored[f"{kind}_logits"]), LOGITS))
            rows.append(
                Row(f"{kind}_output", _worst(_sigmoid(logits), stored[f"{kind}_output"]), PROBABILITIES)
            )
        shape = (2, 96, 1 + samples // 256)
        features = fixture_rules.decibel_like("published/" + name.split("_")[1], shape)
        logits = classifier.view("features", "logits").predict(features, verbose=0)
        rows.append(Row("body_logits", _worst(logits, stored["body_logits"]), BODY))
    return Comparison(None, None, rows)


def _worst(value, expected) -> float:
    return float(np.abs(keras.ops.convert_to_numpy(value) - expected).max())


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-logits))
