import csv
import re

import numpy as np
import pytest

from music_zoo.datasets import (
    compute_log_mels,
    dequantize,
    open_dataset,
    open_splits,
    read_fma_small,
    read_gtzan,
)
from music_zoo.errors import DatasetError

GENRES = ("Rock", "Folk", "Rock", "Pop", "Folk")
IDS = (2, 5, 10, 140, 141)
FEATURES = np.random.default_rng(0).integers(256, size=(5, 4, 6), dtype=np.uint8)


def write_table(path, header, rows):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header.split(","), *rows])


@pytest.fixture
def fma(tmp_path):
    splits = ("train", "train", "validation", "test", "train")
    rows = [(i, s, g, f"{g}|Lo-Fi") for i, s, g in zip(IDS, splits, GENRES, strict=True)]
    write_table(
        tmp_path / "tracks.csv", "track_id,split,genre,genres", rows[::-1]
    )  # another order than the parts
    np.savez(tmp_path / "part-0.npz", logmel=FEATURES[:3], track_id=np.array(IDS[:3], np.int32))
    np.savez(tmp_path / "part-1.npz", logmel=FEATURES[3:], track_id=np.array(IDS[3:], np.int32))
    return tmp_path


@pytest.fixture
def gtzan(tmp_path):
    clips = [f"{genre.lower()}.{index:05d}" for index, genre in enumerate(GENRES)]
    splits = ("train", "", "validation", "test", "train")
    rows = [(c, g, s) for c, g, s in zip(clips, GENRES, splits, strict=True)]
    write_table(tmp_path / "clips.csv", "clip,genre,fault_filtered_split", rows)
    np.savez(tmp_path / "logmel.npz", logmel=FEATURES, clip=np.array(clips))
    return tmp_path


def test_features_stay_with_their_labels(fma):
    dataset = open_dataset(fma)
    assert (dataset.name, dataset.labels) == ("fma-small", ("Folk", "Pop", "Rock"))
    features, targets, ids = dataset.split("train")
    np.testing.assert_array_equal(features, FEATURES[[0, 1, 4]])
    assert [dataset.labels[t] for t in targets] == ["Rock", "Folk", "Folk"]
    assert ids.tolist() == ["2", "5", "141"]
    assert dataset.tags[3] == ("Pop", "Lo-Fi")
    assert targets.dtype == np.int64


def test_clips_that_the_split_leaves_out_are_in_no_split(gtzan):
    dataset = open_dataset(gtzan)
    assert dataset.name == "gtzan"
    assert [len(dataset.split(name).ids) for name in ("train", "validation", "test")] == [2, 1, 1]
    assert dataset.ids[dataset.splits == ""].tolist() == ["folk.00001"]
    assert dataset.tags[0] == ("Rock",)


@pytest.mark.parametrize("name", ["", "valid", "Train"])
def test_an_unknown_split_is_told(gtzan, name):
    with pytest.raises(DatasetError, match=f"splits train, validation, test; got {name!r}"):
        open_dataset(gtzan).split(name)


def test_features_come_back_in_the_front_ends_range():
    unit = dequantize(np.array([[[0, 51, 255]]], np.uint8))
    assert unit.dtype == np.float32
    np.testing.assert_allclose(unit, [[[0, 0.2, 1]]], rtol=1e-6)
    with pytest.raises(TypeError, match="uint8"):
        dequantize(unit)


def remove(name):
    return lambda root: (root / name).unlink()


def write(name, content):
    return lambda root: (root / name).write_bytes(content)


def cut(name):
    return lambda root: (root / name).write_bytes((root / name).read_bytes()[:-100])


def damage(name):
    def apply(root):
        content = bytearray((root / name).read_bytes())
        content[60:70] = b"0123456789"  # inside the first array
        (root / name).write_bytes(content)

    return apply


def arrays(name, **content):
    return lambda root: np.savez(root / name, **content)


def replace(name, old, new):
    return lambda root: (root / name).write_text((root / name).read_text().replace(old, new, 1))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (remove("tracks.csv"), "missing: tracks.csv"),
        (
            remove("part-1.npz"),
            "2 of the recordings are missing from part-0.npz, such as 140, 141",
        ),
        (cut("part-1.npz"), "part-1.npz cannot be read as an .npz archive"),
        (write("part-1.npz", b""), "part-1.npz cannot be read"),
        (write("part-1.npz", b"version https://git-lfs.github.com/spec/v1\n"), "part-1.npz cannot be read"),
        (damage("part-1.npz"), "part-1.npz cannot be read"),
        (arrays("part-1.npz", logmel=FEATURES[3:]), "part-1.npz: expected the arrays track_id, logmel"),
        (arrays("part-1.npz", logmel=FEATURES[3:], track_id=[1]), "one id for each"),
        (arrays("part-1.npz", logmel=FEATURES[3:] / 255, track_id=IDS[3:]), "as uint8"),
        (arrays("part-1.npz", logmel=FEATURES[3:, :2], track_id=IDS[3:]), "different shapes"),
        (arrays("part-1.npz", logmel=FEATURES[:2], track_id=[2, 5]), "expected each id once"),
        (arrays("part-2.npz", logmel=FEATURES[:1], track_id=[7]), "missing from tracks.csv, such as 7"),
        (arrays("part-1.npz", logmel=FEATURES[3:], track_id=np.array([{}, {}])), "cannot be read"),
        (
            replace("tracks.csv", "genre,", "style,"),
            "tracks.csv: expected the columns track_id, split, genre",
        ),
        (replace("tracks.csv", "validation", "dev"), "got also ['dev']"),
        (replace("tracks.csv", "141,train,Folk,Folk|Lo-Fi", "141,train"), "tracks.csv, line 2"),
        (write("tracks.csv", b"track_id,split,genre,genres\n"), "a header and no rows"),
        (write("tracks.csv", b"\xff\xfe\x00"), "tracks.csv cannot be read as a CSV file"),
    ],
)
def test_what_is_missing_or_damaged_in_fma_is_named(fma, spoil, message):
    spoil(fma)
    with pytest.raises(DatasetError, match=re.escape(message)):
        read_fma_small(fma)


@pytest.mark.parametrize("name", ["clips.csv", "logmel.npz"])
def test_what_is_missing_in_gtzan_is_named(gtzan, name):
    (gtzan / name).unlink()
    with pytest.raises(DatasetError, match=re.escape(f"missing: {name}")):
        read_gtzan(gtzan)


def test_no_part_at_all_is_told(fma):
    for part in fma.glob("part-*"):
        part.unlink()
    with pytest.raises(DatasetError, match="found no part"):
        open_dataset(fma)


# ---- the real data -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real_fma(shared_data):
    return open_dataset(shared_data / "data" / "fma-small-logmel")


@pytest.mark.parametrize(
    ("split", "tracks", "fewest", "most"),
    [("train", 6394, 797, 800), ("validation", 800, 100, 100), ("test", 800, 100, 100)],
)
def test_fma_small_is_whole_and_balanced(real_fma, split, tracks, fewest, most):
    features, targets, ids = real_fma.split(split)
    assert features.shape == (tracks, 128, 128) and features.dtype == np.uint8
    assert len(set(ids.tolist())) == tracks
    counts = np.bincount(targets)
    assert (len(counts), counts.min(), counts.max()) == (8, fewest, most)


def test_fma_small_names_every_genre_of_a_track(real_fma):
    assert real_fma.labels == (
        *("Electronic", "Experimental", "Folk", "Hip-Hop"),
        *("Instrumental", "International", "Pop", "Rock"),
    )
    assert len({tag for tags in real_fma.tags for tag in tags}) == 114
    assert all(
        real_fma.labels[target] in tags for target, tags in zip(real_fma.targets, real_fma.tags, strict=True)
    )


def test_each_recording_spans_the_whole_range(real_fma):
    # Features are scaled recording by recording, before frames are picked: the ends are missed by little.
    assert np.median(real_fma.features.max(axis=(1, 2))) > 240
    assert np.median(real_fma.features.min(axis=(1, 2))) < 15


def test_gtzan_is_whole(shared_data):
    dataset = open_dataset(shared_data / "data" / "gtzan-logmel")
    assert dataset.features.shape == (999, 128, 387)
    assert len(dataset.labels) == 10
    sizes = {name: len(dataset.split(name).ids) for name in ("train", "validation", "test")}
    assert sizes == {"train": 442, "validation": 197, "test": 290}
    for name in sizes:
        _, targets, ids = dataset.split(name)
        assert [dataset.labels[target] for target in targets] == [clip.split(".")[0] for clip in ids]


def beginning(audio):
    """A front end of one band: the magnitude of the samples."""
    return np.abs(audio)[:, None]


beginning.sample_rate, beginning.get_config = 8000, lambda: {"layers": ["magnitude"]}


@pytest.fixture
def notes(tmp_path, write_wav):
    """Three recordings of constant samples, of which one is short."""
    for name, level, samples in (
        ("train/low/a", 0.2, 30),
        ("train/high/b", 0.4, 20),
        ("test/low/c", 0.6, 10),
    ):
        (tmp_path / "notes" / name).parent.mkdir(parents=True)
        write_wav(f"notes/{name}.wav", np.full(samples, level, np.float32))
    return tmp_path / "notes"


def test_features_of_audio_are_computed_once(notes, tmp_path):
    dataset = compute_log_mels(open_splits(notes), beginning, 20 / 8000, tmp_path / "kept")
    assert (dataset.labels, dataset.seconds, dataset.front_end) == (
        ("high", "low"),
        20 / 8000,
        {"layers": ["magnitude"]},
    )
    images, targets, ids = dataset.split("train")
    assert images.shape == (2, 1, 20) and [dataset.labels[t] for t in targets] == ["high", "low"]
    levels = dict(zip(ids, dequantize(images)[:, 0, 10], strict=True))
    assert levels == pytest.approx({"train/high/b.wav": 0.4, "train/low/a.wav": 0.2}, abs=1 / 510)
    np.testing.assert_allclose(dequantize(dataset.split("test").features), 0.6, atol=1 / 510)
    assert dataset.tag_targets("test", ["low", "high"]).tolist() == [[1, 0]]

    for file in notes.rglob("*.wav"):
        file.write_bytes(b"no audio")
    again = compute_log_mels(open_splits(notes), beginning, 20 / 8000, tmp_path / "kept")
    np.testing.assert_array_equal(again.features, dataset.features)
    with pytest.raises(DatasetError, match="of another length"):
        compute_log_mels(open_splits(notes), beginning, 10 / 8000, tmp_path / "kept")


def test_features_of_audio_need_one_label_each(notes, tmp_path):
    with pytest.raises(ValueError, match="low: expected one label for each recording"):
        compute_log_mels(open_splits(notes / "train" / "low"), beginning, 1.0, tmp_path / "kept")
