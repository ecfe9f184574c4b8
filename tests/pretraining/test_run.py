"""A run of pretraining from settings to a preset: what it refuses, and that it goes on where it stopped."""

import csv

import keras
import numpy as np
import pytest
from keras import ops

import music_zoo
from music_zoo.datasets import open_splits
from music_zoo.errors import DatasetError, PretrainingError
from music_zoo.golden import check_golden
from music_zoo.hub.preset_files import read_preset
from music_zoo.layers import FrontEnd
from music_zoo.pretraining import run
from music_zoo.pretraining.run import new_classifier, pretrain
from music_zoo.pretraining.settings import Settings, resolved, settings_of

pytestmark = pytest.mark.keras

SMALL = {
    "method": "moco",
    "method_options": {"queue_length": 16, "groups": 1},
    "encoder": "resnet-compact",
    "encoder_options": {"stem_width": 2, "widths": [2, 4], "blocks": [1, 1]},
    "augmentation": "multi_view",
    "epochs": 2,
    "batch_size": 8,
    "knn_every": 2,
}


@pytest.fixture(scope="module")
def log_mels(log_mel_root):
    return open_splits(log_mel_root)


@pytest.fixture(scope="module")
def audio(tmp_path_factory):
    """Six files of 0.5 s for training, three for validation, at 8 kHz; two labels."""
    import soundfile

    root = tmp_path_factory.mktemp("audio")
    rng = np.random.default_rng(0)
    for split, count in (("train", 3), ("validation", 2)):
        for label in ("noise", "tone"):
            (root / split / label).mkdir(parents=True)
            for i in range(count):
                tone = np.sin(np.arange(4000) * (0.2 + 0.1 * i))
                sound = rng.standard_normal(4000) if label == "noise" else tone
                soundfile.write(root / split / label / f"{i}.wav", 0.1 * sound, 8000)
    return open_splits(root)


def rows_of(folder):
    return list(csv.DictReader((folder / "log.csv").read_text().splitlines()))


class Interrupt(keras.callbacks.Callback):
    """Ctrl-C in the second epoch."""

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if (self.epoch, batch) == (1, 1):
            raise KeyboardInterrupt


def test_an_interrupted_run_ends_as_if_it_had_not_been(log_mels, tmp_path):
    settings, said = Settings(**SMALL), []
    whole = pretrain(settings, log_mels, tmp_path / "whole", said.append)
    assert [line.split()[:2] for line in said[:2]] == [["epoch", "1/2"], ["epoch", "2/2"]]

    with pytest.raises(KeyboardInterrupt):
        pretrain(settings, log_mels, tmp_path / "twice", said.append, (Interrupt(),))
    assert not (tmp_path / "twice" / "preset").exists()
    said.clear()
    twice = pretrain(settings, log_mels, tmp_path / "twice", said.append)
    assert said[0].endswith("after epoch 1 of 2")
    for name, tensor in whole.tensors().items():
        np.testing.assert_allclose(twice.tensors()[name], tensor, rtol=1e-5, atol=1e-6, err_msg=name)

    logs = [rows_of(tmp_path / name) for name in ("whole", "twice")]
    assert [float(row["loss"]) for row in logs[0]] == pytest.approx([float(row["loss"]) for row in logs[1]])
    assert [row["knn_accuracy"] == "nan" for row in logs[0]] == [True, False]

    said.clear()
    pretrain(settings, log_mels, tmp_path / "twice", said.append)
    assert said == [f"{tmp_path / 'twice'} holds this run already, finished; nothing is left to do"]
    with pytest.raises(PretrainingError, match="other settings .*seed: 0, now 1"):
        pretrain(Settings(**SMALL | {"seed": 1}), log_mels, tmp_path / "twice", said.append)
    assert music_zoo.load(tmp_path / "twice" / "preset", labels=["a", "b"]).window == 30.0


@pytest.mark.parametrize("in_memory", [True, False])
def test_waveforms_are_learnt_from_audio(audio, tmp_path, monkeypatch, in_memory):
    monkeypatch.setattr(run, "MEMORY", 1e9 if in_memory else 0)
    settings = Settings(
        method="simclr",
        encoder="sample-cnn-clmr",
        encoder_options={"widths": [2, 2, 2, 2, 4], "last_kernel": 1},
        augmentation="multi_view",
        sample_rate=8000,
        segment=0.1,
        clip=0.4,
        epochs=1,
        batch_size=3,
        precision="mixed_bfloat16",
    )
    classifier = pretrain(settings, audio, tmp_path / "run", lambda line: None)
    assert (classifier.sample_rate, classifier.window_samples) == (8000, 800)
    assert keras.config.dtype_policy().name == "float32"
    preset = read_preset(tmp_path / "run" / "preset")
    check_golden(music_zoo.load(tmp_path / "run" / "preset"), preset.golden)
    assert 0 <= float(rows_of(tmp_path / "run")[-1]["knn_accuracy"]) <= 1


def test_spectrograms_of_audio_are_made_while_training(audio):
    settings = resolved(
        Settings(method="simclr", encoder="swin-mini", sample_rate=8000, segment=0.2, clip=0.4), audio
    )
    classifier = new_classifier("swin-mini", audio, "x", sample_rate=8000, window=settings.segment)
    trainer = run._new_trainer(settings, classifier, audio, steps_per_epoch=1)
    first, second = trainer.two_views(np.random.default_rng(0).normal(size=(2, 3200)).astype("f"), False)
    assert classifier.front_end.sample_rate == 8000
    frames = classifier.front_end.compute_output_shape((2, 1600))
    assert tuple(first.shape) == tuple(second.shape) == frames
    # When not training, the first and the last part, and no augmentation.
    wave = np.sin(np.arange(3200) * 0.3)[None].astype("f")
    _, last = trainer.two_views(wave, False)
    config = classifier.front_end.get_config()
    expected = FrontEnd.from_config(config)(wave[:, 1600:])
    np.testing.assert_allclose(ops.convert_to_numpy(last), ops.convert_to_numpy(expected), atol=1e-5)


def test_what_is_left_open_suits_encoder_and_data(log_mels, audio):
    stored = resolved(Settings(method="moco"), log_mels)
    assert (stored.augmentation, stored.segment, stored.distance, stored.clip) == ("s3t", 10, 0, None)
    clmr = resolved(Settings(method="simclr", encoder="sample-cnn-clmr"), audio)
    assert (clmr.augmentation, clmr.sample_rate) == ("clmr", 22_050)
    assert clmr.segment == clmr.clip == -clmr.distance == pytest.approx(59_049 / 22_050)
    slower = resolved(Settings(method="simclr", encoder="sample-cnn-clmr", sample_rate=16_000), audio)
    assert slower.segment == pytest.approx(59_049 / 16_000)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"method": "moco", "epoch": 3, "rate": 1}, "no setting 'epoch', 'rate'; expected some of method"),
        ({"method": "mocco"}, "method: Input should be 'simclr', 'moco'"),
        ({}, "method: Field required"),
        ({"method": "moco", "epochs": 0, "batch_size": "x"}, "epochs: .*greater than 0; batch_size: "),
    ],
)
def test_settings_that_cannot_be(values, message):
    with pytest.raises(PretrainingError, match=message):
        settings_of(values)


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        ({"encoder": "swin"}, PretrainingError, "no configuration 'swin'; expected one of .*swin-mini"),
        ({"encoder": "sample-cnn"}, PretrainingError, "sample-cnn listens to waveforms"),
        ({"augmentation": "clmr"}, PretrainingError, "changes waveforms, of which fma-small knows nothing"),
        ({"clip": 5}, PretrainingError, "settings for audio"),
        ({"segment": 20}, DatasetError, "of 20 s, 0 s apart, do not fit into clips of 30 s"),
        ({"distance": -11}, DatasetError, "below 0, down to minus a segment"),
        ({"batch_size": 25}, PretrainingError, "expected a batch of 1 to 24 examples"),
        ({"encoder_options": {"width": 3}}, PretrainingError, "resnet-compact with .*width"),
        ({"method_options": {"que": 3}}, PretrainingError, "method_options of moco: .*'que'"),
    ],
)
def test_runs_that_cannot_be(log_mels, tmp_path, values, error, message):
    with pytest.raises(error, match=message):
        pretrain(Settings(**SMALL | values), log_mels, tmp_path / "run", lambda line: None)
    assert not (tmp_path / "run").exists()


def test_spectrograms_are_no_waveforms(audio):
    with pytest.raises(PretrainingError, match="s3t changes spectrograms, of which sample-cnn knows nothing"):
        resolved(Settings(method="simclr", encoder="sample-cnn", augmentation="s3t"), audio)
