"""The layouts in which data sets are distributed, written here in small."""

import json
import pickle
import re
from pathlib import Path

import numpy as np
import pytest

from music_zoo.datasets import (
    Fma,
    GtzanAudio,
    MagnaTagATune,
    Msd,
    MtgJamendo,
    NSynth,
    open_dataset,
)
from music_zoo.datasets.magnatagatune import TAGS
from music_zoo.datasets.msd import read_id_list
from music_zoo.errors import DatasetError


def touch(*paths):
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def names(root, split):
    return [str(path.relative_to(root)) for path in split.paths]


# ---- FMA -------------------------------------------------------------------------------------------------

FMA_TABLE = """,artist,artist,set,set,track,track
,bio,id,split,subset,genre_top,title
track_id,,,,,,
2,"two
lines",1,training,medium,Hip-Hop,Food
99134,,6,training,small,Rock,None
10,,6,validation,small,Rock,Way
1234567,,9,test,large,,Tag
20,,4,test,small,Folk,Less
"""


@pytest.fixture
def fma(tmp_path):
    touch(tmp_path / "fma_metadata" / "tracks.csv")
    (tmp_path / "fma_metadata" / "tracks.csv").write_text(FMA_TABLE)
    touch(*(tmp_path / f"fma_small/{number[:3]}/{number}.mp3" for number in ("000010", "000020", "099134")))
    return tmp_path


def test_fma_small(fma):
    dataset = open_dataset(fma)
    assert dataset.name == "fma-small" and dataset.task == "single_label"
    assert dataset.labels == ("Folk", "Rock")
    assert dataset.splits == ("train", "validation", "test")
    assert dataset.split("train").ids == ("99134",)
    test = dataset.split("test")
    assert names(fma, test) == ["fma_small/000/000020.mp3"]
    assert test.targets.tolist() == [0] and test.targets.dtype == np.int64
    assert dataset.known_broken == ("99134",)
    assert (dataset.groups_of("test").tolist(), dataset.grouped_by) == (["4"], "artists")


def test_larger_subsets_of_fma_hold_the_smaller_ones(fma):
    folder = fma / "fma_large"
    touch(
        *(folder / path for path in ("000/000002.mp3", "000/000010.mp3", "000/000020.mp3", "123/1234567.mp3"))
    )
    dataset = Fma(fma, "large")  # 99134 is known to be broken, and may lack
    assert dataset.labels == ("Folk", "Hip-Hop", "Rock")
    assert dataset.split("train").ids == ("2",)
    assert [path.name for path in dataset.missing] == ["099134.mp3"]
    unlabelled = dataset.split("unlabelled-test")
    assert unlabelled.targets is None and unlabelled.ids == ("1234567",)


def test_fma_tells_what_is_missing(fma):
    (fma / "fma_small/000/000010.mp3").unlink()
    with pytest.raises(
        DatasetError, match=r"1 of 3 audio files are missing, such as fma_small/000/000010.mp3"
    ):
        Fma(fma)
    with pytest.raises(DatasetError, match=re.escape("Fetch fma_small.zip")):
        Fma(fma)
    dataset = Fma(fma, allow_missing=True)
    assert dataset.split("validation").ids == () and dataset.split("validation").targets.shape == (0,)
    assert [path.name for path in dataset.missing] == ["000010.mp3"]
    with pytest.raises(DatasetError, match="missing: fma_full"):
        Fma(fma, "full")
    with pytest.raises(ValueError, match="expected a subset of small, medium"):
        Fma(fma, "tiny")
    with pytest.raises(DatasetError, match="splits train, validation, test; got 'dev'"):
        dataset.split("dev")


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (FMA_TABLE.replace("genre_top", "genre"), "missing: track.genre_top"),
        ("", "missing: set.split"),
        (FMA_TABLE.replace("20,,", "20,"), "expected a track number and 7 columns, got '20' and 6"),
        (FMA_TABLE.replace("4,test", "4,dev"), "got also ['dev']"),
    ],
)
def test_a_damaged_table_of_fma_is_told(fma, table, message):
    (fma / "fma_metadata" / "tracks.csv").write_text(table)
    with pytest.raises(DatasetError, match=re.escape(message)):
        Fma(fma)


# ---- MagnaTagATune ---------------------------------------------------------------------------------------

CLIPS = {
    "2": ("f/a-0-29.mp3", ("guitar", "no vocals")),
    "6": ("c/b-0-29.mp3", ()),
    "10": ("0/c-29-58.mp3", ("choral",)),
    "35644": ("6/d.mp3", ("slow",)),
    "11": ("d/e.mp3", ("bongos",)),
}


@pytest.fixture
def magna(tmp_path):
    columns = ["bongos", *reversed(TAGS)]
    lines = ["\t".join(f'"{name}"' for name in ["clip_id", *columns, "mp3_path"])]
    for id_, (path, tags) in CLIPS.items():
        lines.append("\t".join(f'"{value}"' for value in [id_, *(int(tag in tags) for tag in columns), path]))
        touch(tmp_path / path)
    (tmp_path / "annotations_final.csv").write_text("\n".join(lines) + "\n")
    return tmp_path


def test_both_splits_of_magnatagatune(magna):
    clean, full = open_dataset(magna), MagnaTagATune(magna, "full")
    assert clean.labels == full.labels and len(clean.labels) == 50 and clean.labels[0] == "guitar"
    assert clean.task == "multi_label" and clean.known_broken == ("35644",)
    test = clean.split("test")
    assert names(magna, test) == ["f/a-0-29.mp3"]
    assert [clean.labels[column] for column in np.flatnonzero(test.targets[0])] == ["guitar", "no vocals"]
    assert test.targets.shape == (1, 50) and test.targets.dtype == np.int64
    assert clean.split("train").ids == ("10", "35644")
    assert clean.split("validation").targets.shape == (0, 50)
    assert full.split("validation").ids == ("6",) and full.split("validation").targets.sum() == 0
    assert full.split("test").ids == ("2", "11")


def test_magnatagatune_in_a_folder_mp3_and_without_an_empty_file(magna):
    for folder in "f c 0 d".split():
        (magna / "mp3").mkdir(exist_ok=True)
        (magna / folder).rename(magna / "mp3" / folder)
    assert MagnaTagATune(magna).split("train").ids == ("10",)


def test_mistakes_in_magnatagatune_are_told(magna):
    with pytest.raises(ValueError, match="'clean' or 'full', got 'train'"):
        MagnaTagATune(magna, "train")
    (magna / "0" / "c-29-58.mp3").unlink()
    with pytest.raises(DatasetError, match="1 of 3 .*such as 0/c-29-58.mp3. Fetch mp3.zip.001"):
        MagnaTagATune(magna)
    table = magna / "annotations_final.csv"
    text = table.read_text()
    table.write_text(text.replace('"0/c-29', '"x/c-29'))
    with pytest.raises(DatasetError, match="folders 0 to f; got also .'x'"):
        MagnaTagATune(magna)
    table.write_text(text.replace("\t", ","))
    with pytest.raises(DatasetError, match="missing: clip_id"):
        MagnaTagATune(magna)


# ---- MTG-Jamendo -----------------------------------------------------------------------------------------


def jamendo_list(*tracks):
    lines = ["TRACK_ID\tARTIST_ID\tALBUM_ID\tPATH\tDURATION\tTAGS"]
    lines += [
        f"track_{n:07d}\tartist_1\talbum_1\t{n % 100:02d}/{n}.mp3\t100.0\t" + "\t".join(t) for n, t in tracks
    ]
    return "\n".join(lines) + "\n"


@pytest.fixture
def jamendo(tmp_path):
    folder = tmp_path / "data" / "splits" / "split-0"
    folder.mkdir(parents=True)
    tracks = {
        "train": [(1009600, ["genre---rock", "genre---pop"]), (34, ["genre---pop"])],
        "validation": [(135, ["genre---rock"])],
        "test": [(236, ["genre---rock", "genre---ambient"])],
    }
    for name, rows in tracks.items():
        (folder / f"autotagging_top50tags-{name}.tsv").write_text(jamendo_list(*rows))
    touch(*(tmp_path / path for path in ("00/1009600.mp3", "34/34.mp3", "35/135.mp3", "36/236.mp3")))
    return tmp_path


def test_jamendo(jamendo):
    dataset = open_dataset(jamendo)
    assert dataset.labels == ("genre---ambient", "genre---pop", "genre---rock")
    train = dataset.split("train")
    assert train.ids == ("track_1009600", "track_0000034")
    assert names(jamendo, train) == ["00/1009600.mp3", "34/34.mp3"]
    assert train.targets.tolist() == [[0, 1, 1], [0, 1, 0]]
    assert dataset.task == "multi_label" and train.targets.dtype == np.int64
    assert (dataset.groups_of("train").tolist(), dataset.grouped_by) == (["artist_1", "artist_1"], "artists")


def test_jamendo_in_low_quality_elsewhere(jamendo, tmp_path):
    for path in list(jamendo.glob("3?/*.mp3")):
        touch(tmp_path / "audio-low" / path.parent.name / path.with_suffix(".low.mp3").name)
    with pytest.raises(DatasetError, match="audio-low/00/1009600.mp3. Fetch raw_30s_audio-NN.tar"):
        MtgJamendo(jamendo)
    dataset = MtgJamendo(jamendo, allow_missing=True)
    assert names(jamendo, dataset.split("train")) == ["audio-low/34/34.low.mp3"]
    assert dataset.split("train").targets.tolist() == [[0, 1, 0]]
    assert len(MtgJamendo(jamendo, audio=jamendo).split("train").ids) == 2


def test_mistakes_in_jamendo_are_told(jamendo):
    with pytest.raises(ValueError, match="expected a subset of all, top50"):
        MtgJamendo(jamendo, "mood")
    with pytest.raises(DatasetError, match="missing: data/splits/split-0/autotagging_genre-train.tsv"):
        MtgJamendo(jamendo, "genre")
    list_ = jamendo / "data/splits/split-0/autotagging_top50tags-test.tsv"
    list_.write_text(list_.read_text().rpartition("\tgenre---rock")[0] + "\n")
    with pytest.raises(DatasetError, match="line 2: expected at least one tag"):
        MtgJamendo(jamendo)
    list_.write_text("id\tpath\n")
    with pytest.raises(DatasetError, match="expected the columns TRACK_ID"):
        MtgJamendo(jamendo)


# ---- GTZAN -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("folder", "suffix"), [("genres", ".au"), ("genres_original", ".wav"), ("", ".mp3")])
def test_gtzan(tmp_path, folder, suffix):
    clips = {
        "train": ["blues/blues.00029", "rock/rock.00000"],
        "valid": ["jazz/jazz.00001"],
        "test": ["pop/pop.00002"],
    }
    for split, of in clips.items():
        (tmp_path / f"{split}_filtered.txt").write_text("".join(f"{clip}.wav\n" for clip in of))
        touch(*(tmp_path / folder / f"{clip}{suffix}" for clip in of))
    dataset = open_dataset(tmp_path)
    assert len(dataset.labels) == 10 and dataset.task == "single_label"
    train = dataset.split("train")
    assert train.ids == ("blues.00029", "rock.00000") and train.targets.tolist() == [0, 9]
    assert train.paths[0] == tmp_path / folder / f"blues/blues.00029{suffix}"
    train.paths[0].unlink()
    with pytest.raises(DatasetError, match="1 of 4 audio files are missing, such as .*Fetch genres.tar.gz"):
        GtzanAudio(tmp_path)
    (tmp_path / "valid_filtered.txt").write_text("polka/polka.00001.wav\n")
    with pytest.raises(DatasetError, match="valid_filtered.txt: expected lines such as .* got polka"):
        GtzanAudio(tmp_path)
    (tmp_path / "test_filtered.txt").unlink()
    with pytest.raises(DatasetError, match="missing: test_filtered.txt"):
        GtzanAudio(tmp_path)


# ---- NSynth ----------------------------------------------------------------------------------------------


@pytest.fixture
def nsynth(tmp_path):
    examples = {
        "nsynth-train": {"synth_lead_synthetic_001-030-100": ("synth_lead", ["bright", "tempo-synced"])},
        "nsynth-test": {
            "reed_acoustic_037-068-127": ("reed", ["reverb"]),
            "bass_synthetic_068-049-025": ("bass", []),
        },
    }
    for folder, notes in examples.items():
        touch(*(tmp_path / folder / "audio" / f"{note}.wav" for note in notes))
        fields = {n: {"instrument_family_str": f, "qualities_str": q} for n, (f, q) in notes.items()}
        (tmp_path / folder / "examples.json").write_text(json.dumps(fields))
    return tmp_path


def test_nsynth(nsynth):
    dataset = open_dataset(nsynth)
    assert isinstance(dataset, NSynth) and dataset.splits == ("train", "test")
    test = dataset.split("test")
    assert test.ids == ("bass_synthetic_068-049-025", "reed_acoustic_037-068-127")
    assert [dataset.labels[target] for target in test.targets] == ["bass", "reed"]
    assert names(nsynth, test)[0] == "nsynth-test/audio/bass_synthetic_068-049-025.wav"
    qualities = NSynth(nsynth, "qualities")
    assert qualities.task == "multi_label"
    assert qualities.split("test").targets.tolist() == [[0] * 10, [0] * 8 + [1, 0]]
    assert qualities.split("train").targets.tolist() == [[1] + [0] * 8 + [1]]


def test_mistakes_in_nsynth_are_told(nsynth):
    with pytest.raises(DatasetError, match="splits train, test; got 'validation'"):
        NSynth(nsynth).split("validation")
    with pytest.raises(ValueError, match="'family' or 'qualities'"):
        NSynth(nsynth, "pitch")
    next((nsynth / "nsynth-test" / "audio").iterdir()).unlink()
    with pytest.raises(DatasetError, match="1 of 3 .*Fetch nsynth-train.jsonwav.tar.gz and nsynth-test.json"):
        NSynth(nsynth)
    (nsynth / "nsynth-test" / "examples.json").write_text('{"a": {"instrument_family_str": "horn"}}')
    with pytest.raises(DatasetError, match="a value of instrument_family_str"):
        NSynth(nsynth)
    with pytest.raises(DatasetError, match="at least one of the folders nsynth-train"):
        NSynth(nsynth / "nsynth-test")


# ---- Million Song Dataset --------------------------------------------------------------------------------

IDS = {"train": ["TRAAABC128F1", "TRBBBCD128F2"], "valid": ["TRCCCDE128F3"], "test": ["TRDDDEF128F4"]}


def test_cals(tmp_path):
    (tmp_path / "splits").mkdir()
    for split, ids in IDS.items():
        np.save(tmp_path / "splits" / f"{split}_ids.npy", np.array(ids))
        np.save(tmp_path / "splits" / f"{split}_binaries.npy", np.eye(50)[: len(ids)])
        touch(*(tmp_path / "audio" / id_[2] / id_[3] / id_[4] / f"{id_}.mp3" for id_ in ids))
    np.save(tmp_path / "splits" / "student_ids.npy", np.array(["TREEEFG128F5"]))
    touch(tmp_path / "audio/E/E/E/TREEEFG128F5.wav")
    dataset = open_dataset(tmp_path)
    assert dataset.splits == ("train", "validation", "test", "student")
    assert dataset.labels[:3] == ("rock", "pop", "indie")
    train = dataset.split("train")
    assert names(tmp_path, train) == ["audio/A/A/A/TRAAABC128F1.mp3", "audio/B/B/B/TRBBBCD128F2.mp3"]
    np.testing.assert_array_equal(train.targets, np.eye(50)[:2])
    assert dataset.split("student").targets is None
    np.save(tmp_path / "splits" / "test_binaries.npy", np.eye(49)[:1])
    with pytest.raises(
        DatasetError, match="test_binaries.npy: expected 0 or 1 for each of 1 tracks and 50 tags"
    ):
        Msd(tmp_path)


def test_lees_lists_with_7digitals_names(tmp_path):
    splits = tmp_path / "splits"
    splits.mkdir()
    as_bytes = [id_.encode() for id_ in IDS["train"]]  # as Python 3 reads what Python 2 wrote
    tags = {
        id_.encode(): np.eye(2)[number % 2][None] for number, id_ in enumerate(IDS["train"] + IDS["test"])
    }
    tables = {
        "filtered_list_train.cP": as_bytes,
        "filtered_list_test.cP": [id_.encode() for id_ in IDS["test"]],
        "msd_id_to_tag_vector.cP": tags,
        "MSD_id_to_7D_id.pkl": {id_: str(number) for number, id_ in enumerate(IDS["train"] + IDS["test"])},
        "7D_id_to_path.pkl": {str(number): f"8/{number}/{number}.clip.mp3" for number in range(3)},
    }
    for name, table in tables.items():
        (splits / name).write_bytes(pickle.dumps(table, protocol=2))
    (splits / "50tagList.txt").write_text("rock\npop\n")
    touch(*(tmp_path / f"audio/8/{number}/{number}.clip.mp3" for number in range(3)))
    assert read_id_list(splits / "filtered_list_train.cP") == tuple(IDS["train"])
    dataset = open_dataset(tmp_path)
    assert dataset.labels == ("rock", "pop") and dataset.name == "msd-lee"
    assert dataset.split("train").targets.tolist() == [[1, 0], [0, 1]]
    assert dataset.split("validation").ids == ()  # the first 201,680 are for training
    assert names(tmp_path, dataset.split("test")) == ["audio/8/2/2.clip.mp3"]
    with pytest.raises(ValueError, match="'cals' or 'lee'"):
        Msd(tmp_path, "own")


class _Harmful:
    def __reduce__(self):
        return Path.touch, (Path("harm"),)


def test_a_pickle_that_would_run_code_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "list.cP").write_bytes(pickle.dumps(["TRA", _Harmful()]))
    with pytest.raises(DatasetError, match="which no list of tracks needs"):
        read_id_list(tmp_path / "list.cP")
    assert not (tmp_path / "harm").exists()


def test_damaged_lists_are_told(tmp_path):
    for name in ("list.cP", "list.npy"):
        (tmp_path / name).write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
        with pytest.raises(DatasetError, match="fetch it again"):
            read_id_list(tmp_path / name)
    np.save(tmp_path / "numbers.npy", np.arange(3))
    with pytest.raises(DatasetError, match="expected a list of ids"):
        read_id_list(tmp_path / "numbers.npy")
