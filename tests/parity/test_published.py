"""Published checkpoints, read, converted and run, against what their originals give."""

import keras
import numpy as np
import pytest
from published import CHECKPOINTS, compare_published, load_published

from music_zoo.hub.checkpoints import read_pytorch

pytestmark = pytest.mark.keras


def noise(length: int) -> np.ndarray:
    return (0.1 * np.random.RandomState(0).standard_normal((1, length))).astype("float32")


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_won(name, shared_data):
    assert not compare_published(name, shared_data).failures


# The first five probabilities of the TensorFlow 1 original and their mean, for a patch of uniform noise as
# features and for noise as audio; the first values of the MSD model's embedding of the latter.
PONS = {
    "mtat": (
        ([0.000126, 0.000795, 0.000093, 0.295727, 0.005550], 0.026508),
        ([0.005238, 0.046106, 0.006116, 0.208170, 0.008635], 0.026363),
        None,
    ),
    "msd": (
        ([0.028755, 0.015041, 0.018225, 0.000321, 0.055357], 0.009854),
        ([0.053520, 0.020438, 0.013964, 0.010927, 0.344737], 0.026818),
        [-0.177176, 0.741408, -0.284826, -0.275121, -0.353151],
    ),
}


@pytest.mark.parametrize("data", PONS)
def test_pons(data, shared_data):
    classifier = load_published(f"musicnn-pons-{data}", shared_data)
    patch = np.random.RandomState(0).uniform(0, 4, (1, 187, 96)).astype("float32").swapaxes(1, 2)
    # The original computes its features of the whole clip: the last frames have no zeros behind them.
    audio = keras.ops.convert_to_numpy(classifier.front_end(noise(48_000)))[:, :, :187]
    by_hand = {(0, 0): 2.312098, (10, 20): 3.010796, (100, 95): 2.769494}
    for (frame, band), value in by_hand.items():
        assert audio[0, band, frame] == pytest.approx(value, abs=1e-4)
    *expected, embedding = PONS[data]
    for features, (first, mean) in zip((patch, audio), expected, strict=True):
        probabilities = classifier.view("features", "probabilities").predict_on_batch(features)[0]
        np.testing.assert_allclose(probabilities[:5], first, rtol=0, atol=1e-5)
        assert probabilities.mean() == pytest.approx(mean, abs=1e-6)
    if embedding:
        actual = classifier.view("features", "embedding").predict_on_batch(audio)[0, :5]
        np.testing.assert_allclose(actual, embedding, rtol=0, atol=5e-4)  # the original casts mels to float16


def test_jamendo_baseline(shared_data):
    """No outputs of the original are on record: PyTorch computes the layers that its code lists."""
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    path = shared_data / "originals" / "jamendo" / "moodtheme-fcn" / "best_model.pth"
    state = read_pytorch(path)
    classifier = load_published("fcn-jamendo-moodtheme", shared_data)
    features = 20 * noise(96 * 1366).reshape(1, 96, 1366) - 20
    weights = {name: torch.tensor(value) for name, value in state.items()}

    def norm(x, name):
        names = [f"{name}.{part}" for part in ("running_mean", "running_var", "weight", "bias")]
        return functional.batch_norm(x, *(weights[part] for part in names))

    x = norm(torch.tensor(features)[:, None], "bn_init")
    for number, pool in enumerate([(2, 4), (2, 4), (2, 4), (3, 5), (4, 4)], start=1):
        x = functional.conv2d(x, weights[f"conv_{number}.weight"], weights[f"conv_{number}.bias"], padding=1)
        x = functional.max_pool2d(functional.elu(norm(x, f"bn_{number}")), pool)
    logits = functional.linear(x.flatten(1), weights["dense.weight"], weights["dense.bias"])
    actual = classifier.view("features", "logits").predict_on_batch(features)
    np.testing.assert_allclose(actual, logits.numpy(), rtol=0, atol=1e-4)
    assert classifier.view("waveform", "features").output_shape == (None, 96, 1366)
