"""What all tests share: where the real data lies, and which backend runs."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

import music_zoo  # noqa: F401  (sets KERAS_BACKEND, which must be before a test imports Keras)

DATA_ROOT = Path(os.environ.get("MUSIC_ZOO_TEST_DATA", Path(__file__).parents[2] / "shared"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the other backends, which take minutes each: whoever came to them last would end alone."""
    items.sort(key=lambda item: item.path.name != "test_backends.py")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data and songs, which the repository does not hold."""
    if not DATA_ROOT.is_dir():
        pytest.skip(f"no real data at {DATA_ROOT} (set MUSIC_ZOO_TEST_DATA)")
    return DATA_ROOT


@pytest.fixture
def only_on_torch():
    """For what trains many networks for a moment: other backends trace or compile for longer than that."""
    if os.environ["KERAS_BACKEND"] != "torch":
        pytest.skip("on PyTorch alone: networks and methods have tests of their own on each backend")


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


@pytest.fixture(scope="session")
def log_mel_folder(tmp_path_factory) -> Path:
    """A folder laid out like FMA-small's, with VGGish embeddings: bright and dark images."""
    folder = tmp_path_factory.mktemp("bright") / "fma-small-logmel"
    folder.mkdir()
    rng = np.random.default_rng(0)
    splits = ["train"] * 40 + ["validation"] * 12 + ["test"] * 12
    genres = ["Dark", "Bright"] * 32
    rows = [
        f"{i},{split},{genre},{genre}|Loud"
        for i, (split, genre) in enumerate(zip(splits, genres, strict=True))
    ]
    (folder / "tracks.csv").write_text("\n".join(["track_id,split,genre,genres", *rows]) + "\n")
    level = np.where(np.array(genres) == "Bright", 150, 50)[:, None, None]
    images = np.clip(level + 40 * rng.standard_normal((64, 128, 128)), 0, 255).astype(np.uint8)
    np.savez(folder / "part-0.npz", logmel=images, track_id=np.arange(64, dtype=np.int32))
    embedding = rng.standard_normal((64, 8)).astype(np.float16)
    np.savez(folder / "vggish.npz", embedding=embedding, track_id=np.arange(64, dtype=np.int32))
    return folder


@pytest.fixture(scope="session")
def gtzan_folder(tmp_path_factory) -> Path:
    """A folder laid out like GTZAN's: bright and dark images."""
    folder = tmp_path_factory.mktemp("gtzan") / "gtzan-logmel"
    folder.mkdir()
    clips = [f"{genre}.{i:05}" for i in range(16) for genre in ("blues", "disco")]
    splits = ["train"] * 12 + ["validation"] * 12 + ["test"] * 8
    rows = [f"{clip},{clip[:5]},{split}" for clip, split in zip(clips, splits, strict=True)]
    (folder / "clips.csv").write_text("\n".join(["clip,genre,fault_filtered_split", *rows]) + "\n")
    images = np.random.default_rng(0).integers(100, size=(32, 128, 387), dtype=np.uint8)
    images[::2] += 80
    np.savez(folder / "logmel.npz", logmel=images, clip=clips)
    return folder


@pytest.fixture(scope="session")
def notes_folder(tmp_path_factory) -> Path:
    """A folder laid out like NSynth's test set: noisy flutes and organs of pure tones."""
    folder = tmp_path_factory.mktemp("notes") / "nsynth-test"
    (folder / "audio").mkdir(parents=True)
    rng = np.random.default_rng(0)
    t = np.arange(4000) / 16_000
    table, examples = ["instrument,family,notes,split"], {}
    for split, notes in (("train", 10), ("validation", 6), ("test", 6)):
        for family in ("flute", "organ"):
            instrument = f"{family}_{split}"
            table.append(f"{instrument},{family},{notes},{split}")
            for i in range(notes):
                qualities = ["bright" if family == "flute" else "dark"] + ["percussive"] * (i % 2)
                sound = (
                    rng.standard_normal(4000) if family == "flute" else np.sin(2 * np.pi * 110 * (i + 2) * t)
                )
                path = folder / "audio" / f"{instrument}-{i}.opus"
                soundfile.write(path, 0.1 * sound, 16_000, format="OGG", subtype="OPUS")
                examples[path.stem] = {"instrument_str": instrument, "qualities_str": qualities}
    (folder / "instrument-split.csv").write_text("\n".join(table) + "\n")
    (folder / "examples.json").write_text(json.dumps(examples))
    return folder
