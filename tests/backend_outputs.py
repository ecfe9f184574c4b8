"""What small networks of fixed weights make of fixed data, on the backend of KERAS_BACKEND.

python tests/backend_outputs.py OUTPUT.npz
"""

import sys

import numpy as np
from calibration.calibration_cases import single_label_case
from layers.layer_checks import signals
from pretraining.small_trainers import losses_of_steps
from small import SAMPLE_RATE, small_classifier, song

from music_zoo.calibration import CALIBRATORS
from music_zoo.ensemble import CALIBRATE_ON, Ensemble
from music_zoo.layers import STFT, Decibels, FrontEnd, MelFilterBank


def outputs() -> dict[str, np.ndarray]:
    """Probabilities, embeddings, features and losses by name."""
    classifier = small_classifier()
    prediction = classifier.classify(song(2.5, 11_025), 11_025)
    odd = np.random.default_rng(0).uniform(size=(2, 16, 25)).astype(np.float32)  # 25 frames, then 13, then 7
    result = {
        "probabilities": prediction.taggram,
        "probabilities of features": classifier.features_model.predict_on_batch(odd),
        "embeddings": classifier.embed(song(2.5), SAMPLE_RATE),
    }
    members = [small_classifier(seed=seed) for seed in (0, 1)]
    for place in CALIBRATE_ON:
        ensemble = Ensemble(members, calibrate_on=place)
        ensemble.calibrator.temperature.assign(2.5)
        result[f"probabilities calibrated on {place}"] = ensemble.classify(song(2.5), SAMPLE_RATE).taggram
    waveforms = np.stack(list(signals(SAMPLE_RATE, 1.0).values()))
    for method in ("fft", "conv"):
        layers = [STFT(512, 128, method=method), MelFilterBank(SAMPLE_RATE, 512, 32), Decibels(top_db=70.0)]
        result[f"decibels by {method}"] = np.asarray(FrontEnd(layers, SAMPLE_RATE)(waveforms))
    for method in ("simclr", "moco"):  # groups are drawn, and each backend draws other numbers
        options = {"groups": 1} if method == "moco" else {}
        result[f"losses of {method}"] = losses_of_steps(method, **options)
    for kind in CALIBRATORS:  # of one seed, so that all backends fit the same
        classifier.calibrate_logits(*single_label_case(200, 3, seed=0), kind)
        result[f"probabilities calibrated by {kind}"] = classifier.features_model.predict_on_batch(odd)
    return result


if __name__ == "__main__":
    np.savez(sys.argv[1], **outputs())
