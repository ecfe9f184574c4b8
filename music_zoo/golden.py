"""Golden tensors: an input and what a preset makes of it, to check backends, exports, downloads against."""

import hashlib
from collections.abc import Mapping
from contextlib import suppress
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from music_zoo.errors import PresetError

if TYPE_CHECKING:
    from music_zoo.audio_model import AudioModel
    from music_zoo.classifier import Classifier
    from music_zoo.hub.preset_files import PresetFiles

SECONDS = 2.0
#: Of the first check of a download: far less than other weights make, more than a GPU's rounding.
LOOSE = 0.02


def golden_waveform(sample_rate: int) -> np.ndarray:
    """Return two seconds of test sound as 16-bit samples: a rising and a falling sweep, clicks, noise.

    Args:
        sample_rate: In Hz.
    """
    t = np.arange(round(SECONDS * sample_rate)) / sample_rate
    octaves = np.log2(0.4 * sample_rate / 50.0)
    phase = 50.0 * SECONDS / (octaves * np.log(2)) * 2 ** (octaves * t / SECONDS)
    sweep = np.sin(2 * np.pi * phase)
    clicks = np.zeros_like(t)
    clicks[:: sample_rate // 4] = 1.0
    noise = np.random.default_rng(0).standard_normal(len(t))
    sound = 0.3 * sweep * (1 - t / SECONDS) + 0.3 * sweep[::-1] * t / SECONDS + 0.3 * clicks + 0.02 * noise
    return np.round(32767 * np.clip(sound, -1, 1)).astype(np.int16)


def make_golden(classifier: "Classifier") -> dict[str, np.ndarray]:
    """Return a waveform and what the classifier makes of it.

    Returns:
        `waveform` `(samples,)` int16, `embedding` `(1, embedding_dim)`, `probabilities` `(1, num_classes)`.
    """
    waveform = golden_waveform(classifier.sample_rate)
    return {"waveform": waveform, **_outputs(classifier, waveform)}


def check_golden(classifier: "Classifier", golden: Mapping[str, np.ndarray], tolerance: float = 1e-4) -> None:
    """Check that a classifier still makes of the golden input what it once made.

    Args:
        classifier: On any backend.
        golden: As from `make_golden`.
        tolerance: Largest absolute difference of a probability, and of an embedding relative to its largest
            value.

    Raises:
        PresetError: It does not; the message says by how much.
    """
    missing = {"waveform", "embedding", "probabilities"} - set(golden)
    if missing:
        raise PresetError(f"{classifier.name}: the golden tensors lack {', '.join(sorted(missing))}.")
    for name, got in _outputs(classifier, golden["waveform"]).items():
        expected = golden[name]
        scale = 1.0 if name == "probabilities" else float(np.abs(expected).max())
        difference = float(np.abs(got - expected).max()) if got.shape == expected.shape else np.inf
        if not difference <= tolerance * scale:
            raise PresetError(
                f"{classifier.name}: the {name} of the golden input differs by {difference:.2g} from the "
                f"stored one (expected at most {tolerance * scale:.2g}). The weights or the front end are "
                "not those of this preset."
            )


def check_once(model: "AudioModel", files: "PresetFiles", cache_dir: str | PathLike | None = None) -> None:
    """Check a downloaded model against its golden tensors, unless that was done before on this machine.

    Models of reduced precision are not checked: they are expected to differ.

    Args:
        model: As built from `files`.
        files: Of the preset; without golden tensors nothing is checked.
        cache_dir: Where it is written down that the check was passed; the cache folder if None.

    Raises:
        PresetError: The outputs are not those recorded.
    """
    import keras

    from music_zoo.hub.sources import cache_folder

    if files.golden is None or keras.config.dtype_policy().compute_dtype != "float32":
        return
    digest = hashlib.sha256(f"{keras.backend.backend()} {files.config}".encode())
    for tensors in (files.tensors, files.golden):
        for name, tensor in sorted(tensors.items()):
            digest.update(name.encode() + tensor.tobytes())
    root = cache_folder() if cache_dir is None else Path(cache_dir)
    passed = root / "checked" / digest.hexdigest()
    if passed.exists():
        return
    check_golden(model, files.golden, LOOSE)
    with suppress(OSError):  # it is done again next time
        passed.parent.mkdir(parents=True, exist_ok=True)
        passed.touch()


def _outputs(classifier: "Classifier", waveform: np.ndarray) -> dict[str, np.ndarray]:
    samples = waveform.astype(np.float32) / 32768
    window = np.resize(
        samples, (1, classifier.window_samples)
    )  # repeats, as `classify` does with short audio
    both = classifier.view("waveform", ("embedding", "probabilities")).predict(window, verbose=0)
    embedding, probabilities = np.split(both, [-len(classifier.labels)], axis=1)
    return {"embedding": embedding, "probabilities": probabilities}
