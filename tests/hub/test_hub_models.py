"""Models over the Hub and back: what was calibrated here gives the same probabilities there."""

import keras
import numpy as np
import pytest
from hub_server import WRITER
from small import SAMPLE_RATE, small_classifier, song

import music_zoo
from music_zoo.ensemble import Ensemble

pytestmark = pytest.mark.keras


def _calibrated(model, method: str):
    """The model with a calibrator fitted to what it does not say."""
    rng = np.random.default_rng(1)
    targets = rng.integers(3, size=120)
    shape = model.view("waveform", "logits").output_shape[1:]
    truth = np.eye(3)[targets].reshape(120, *(1,) * (len(shape) - 1), 3)
    model.calibrate_logits(
        (3 * truth + 3 * rng.normal(size=(120, *shape))).astype(np.float32), targets, method
    )
    return model


def _models() -> dict:
    models = {
        method: _calibrated(small_classifier(name=method), method)
        for method in ("temperature", "vector", "isotonic")
    }
    members = [small_classifier(seed=seed) for seed in (1, 2)]
    return models | {"ensemble": _calibrated(Ensemble(members, name="ensemble"), "temperature")}


def _outputs(model) -> np.ndarray:
    """What a model makes of two windows of sound; called, it need not be compiled."""
    return keras.ops.convert_to_numpy(model(song(2.0).reshape(2, SAMPLE_RATE)))


def test_calibrated_models_come_back_as_they_were(hub_client, tmp_path, monkeypatch):
    from huggingface_hub import HfApi

    expected, references = {}, {}
    monkeypatch.setenv("HF_TOKEN", WRITER)
    for name, model in _models().items():
        model.save_preset(tmp_path / name, golden={"unused": np.ones(1)})
        (tmp_path / name / "golden.safetensors").unlink()  # else it would be checked
        api = HfApi()
        api.create_repo(f"org/{name}")
        revision = api.upload_folder(repo_id=f"org/{name}", folder_path=tmp_path / name).oid
        references[name] = f"hf://org/{name}@{revision}"
        expected[name] = _outputs(model)
        logits = _outputs(model.view("waveform", "logits"))
        uncalibrated = model.probabilities_of(logits, calibrated=False)
        assert np.abs(expected[name] - uncalibrated).max() > 0.02, "else this would show nothing"
    monkeypatch.delenv("HF_TOKEN")
    for _ in ("from the Hub", "from the cache alone"):
        for name, reference in references.items():
            given = _outputs(music_zoo.load(reference))
            np.testing.assert_allclose(given, expected[name], rtol=0, atol=1e-6)
        hub_client.stop()
        # Who asks again, for what a commit is known to lack, waits for a server that is gone.
        monkeypatch.setattr("time.sleep", lambda seconds: pytest.fail(f"waited {seconds} s"))
