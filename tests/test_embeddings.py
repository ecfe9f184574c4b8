import csv
import sys

import numpy as np
import pytest

from music_zoo.embeddings import check_path, rows_of, write
from music_zoo.errors import MusicZooError
from music_zoo.inference import Inference


@pytest.fixture
def results():
    """Two windows of one file, one window of another."""
    rng = np.random.default_rng(0)
    return [
        Inference(
            "a, b.ogg", rng.normal(size=(2, 3)).astype(np.float32), np.array([[0, 1], [0.5, 1.5]]), 1.5, ()
        ),
        Inference("日本.ogg", rng.normal(size=(1, 3)).astype(np.float32), np.array([[0, 0.7]]), 0.7, ()),
    ]


def rows(results, windows: bool) -> list:
    return [row for result in results for row in rows_of(result, windows)]


def test_rows_are_the_mean_of_each_file(results):
    first, second = rows(results, windows=False)
    assert first[:3] == ("a, b.ogg", 0.0, 1.5)
    np.testing.assert_allclose(
        first.embedding, (results[0].outputs[0] + results[0].outputs[1]) / 2, rtol=1e-5
    )
    np.testing.assert_array_equal(second.embedding, results[1].outputs[0])


def test_npy_with_a_table_beside_it(tmp_path, results):
    path = tmp_path / "new" / "songs.npy"
    assert write(path, rows(results, windows=True)) == [tmp_path / "new" / "songs.npy.csv", path]
    vectors = np.load(path)
    assert vectors.dtype == np.float32
    np.testing.assert_array_equal(vectors, np.concatenate([result.outputs for result in results]))
    with open(f"{path}.csv", encoding="utf-8", newline="") as file:
        assert list(csv.reader(file)) == [
            ["source", "start", "end"],
            ["a, b.ogg", "0.0", "1.0"],
            ["a, b.ogg", "0.5", "1.5"],
            ["日本.ogg", "0.0", "0.7"],
        ]


def test_parquet(tmp_path, results):
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "songs.parquet"
    assert write(path, rows(results, windows=True)) == [path]
    table = parquet.read_table(path).to_pydict()
    assert table["source"] == ["a, b.ogg", "a, b.ogg", "日本.ogg"]
    assert (table["start"], table["end"]) == ([0.0, 0.5, 0.0], [1.0, 1.5, 0.7])
    expected = np.concatenate([result.outputs for result in results])
    np.testing.assert_array_equal(np.array(table["embedding"], np.float32), expected)


@pytest.mark.parametrize("name", ["songs", "songs.txt", "songs.csv", "songs.NPY"])
def test_other_names_are_refused(tmp_path, name):
    with pytest.raises(MusicZooError, match=r"ends in \.npy or \.parquet"):
        check_path(tmp_path / name)


def test_parquet_without_pyarrow_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(MusicZooError, match=r"music-zoo\[parquet\]"):
        check_path(tmp_path / "songs.parquet")


def test_a_place_that_cannot_be_written_is_refused_before_the_work(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "folder.npy").mkdir()
    for path in (tmp_path / "file" / "songs.npy", tmp_path / "folder.npy"):
        with pytest.raises(OSError):
            check_path(path)


@pytest.mark.parametrize("suffix", [".npy", ".parquet"])
def test_an_error_leaves_the_earlier_file_and_nothing_else(tmp_path, results, suffix):
    pytest.importorskip("pyarrow")
    path = tmp_path / f"songs{suffix}"
    path.write_text("earlier")
    other_width = Inference("c.ogg", np.zeros((1, 2), np.float32), np.array([[0, 1]]), 1.0, ())
    with pytest.raises(ValueError):
        write(path, rows([*results, other_width], windows=True))
    assert path.read_text() == "earlier"
    assert [found for found in tmp_path.iterdir() if ".tmp" in found.name] == []
