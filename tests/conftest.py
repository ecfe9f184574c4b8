"""What all tests share: where the real data lies, and which backend runs."""

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

import music_zoo  # noqa: F401  (sets KERAS_BACKEND, which must be before a test imports Keras)

DATA_ROOT = Path(os.environ.get("MUSIC_ZOO_TEST_DATA", Path(__file__).parents[2] / "shared"))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data and songs, which the repository does not hold."""
    if not DATA_ROOT.is_dir():
        pytest.skip(f"no real data at {DATA_ROOT} (set MUSIC_ZOO_TEST_DATA)")
    return DATA_ROOT


@pytest.fixture(scope="session")
def small_classifier():
    """A classifier of three labels and windows of 1 s at 8 kHz; shared, so tests leave its weights alone."""
    from small import small_classifier  # here, so that tests without Keras do not import it

    return small_classifier()


@pytest.fixture
def write_wav(tmp_path):
    """Write `(samples,)` or `(channels, samples)` to a WAV file of floats; returns its path."""

    def write(name: str, audio: np.ndarray, sample_rate: int = 8000) -> Path:
        path = tmp_path / name
        soundfile.write(path, audio.T, sample_rate, subtype="FLOAT", format="WAV")
        return path

    return write


@pytest.fixture(scope="session")
def log_mel_root(tmp_path_factory) -> Path:
    """A folder laid out like FMA-small's: 24, 12 and 12 tracks in the three splits, two genres."""
    root = tmp_path_factory.mktemp("data") / "fma-small-logmel"
    root.mkdir()
    splits = ["train"] * 24 + ["validation"] * 12 + ["test"] * 12
    genres = ["Folk", "Rock"] * 24
    rows = [
        f"{i},{split},{genre},{genre}" for i, (split, genre) in enumerate(zip(splits, genres, strict=True))
    ]
    (root / "tracks.csv").write_text("\n".join(["track_id,split,genre,genres", *rows]) + "\n")
    images = np.random.default_rng(0).integers(200, size=(48, 128, 128), dtype=np.uint8)
    images[1::2, 64:] += 10  # Rock is a little brighter
    np.savez(root / "part-0.npz", track_id=np.arange(48), logmel=images)
    return root
