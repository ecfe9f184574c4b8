import json
import os
import shutil

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

pytest.importorskip("pyarrow")
pytest.importorskip("usearch")

from music_zoo import cli  # noqa: E402
from music_zoo.catalogue.store import Store, Track  # noqa: E402
from music_zoo.embeddings import Row, origin, write  # noqa: E402
from music_zoo.errors import MusicZooError  # noqa: E402
from music_zoo.similarity import Index, Stored, search  # noqa: E402

ORIGIN = {"model": "m", "preset": "p" * 64, "hop": None, "allow_truncated": False}
VECTORS = (
    np.random.default_rng(0).normal(size=(3000, 24)).astype(np.float32) * np.linspace(0.1, 9, 3000)[:, None]
)
QUERIES = np.random.default_rng(1).normal(size=(20, 24))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Embeddings in one Parquet file, as a catalogue, and as an index."""
    folder = tmp_path_factory.mktemp("embeddings")
    rows = [Row(f"{number}.wav", 1.0, 2.5, vector) for number, vector in enumerate(VECTORS)]
    write(folder / "all.parquet", rows, ORIGIN)
    with Store(folder / "catalogue", ["Rock"], ORIGIN, part_rows=1300) as store:
        for row in rows:
            store.add(Track(row.source, 2.5, np.float32([1]), row.embedding, []))
    assert Index.write(Stored(folder / "all.parquet"), folder / "index") == 3000
    return folder


def by_brute_force(query: np.ndarray, n: int) -> tuple[list[str], np.ndarray]:
    cosines = VECTORS @ query / np.linalg.norm(VECTORS, axis=1) / np.linalg.norm(query)
    order = np.argsort(-cosines)[:n]
    return [f"{number}.wav" for number in order], cosines[order]


@pytest.mark.parametrize("name, start", [("all.parquet", 1.0), ("catalogue", 0.0)])
def test_search_finds_what_brute_force_finds(folder, name, start):
    for query in QUERIES:
        sources, cosines = by_brute_force(query, 7)
        found = search(Stored(folder / name), query, 7)
        assert [neighbour.source for neighbour in found] == sources
        np.testing.assert_allclose([neighbour.similarity for neighbour in found], cosines, atol=1e-5)
        assert {neighbour[1:3] for neighbour in found} == {(start, 2.5)}


def test_an_index_finds_nearly_all_that_brute_force_finds(folder):
    index, hits = Index(folder / "index"), 0
    assert len(index) == 3000
    for query in QUERIES:
        sources, cosines = by_brute_force(query, 10)
        found = index.search(query, 10)
        likeness = np.array([neighbour.similarity for neighbour in found])
        assert (np.diff(likeness) <= 0).all()
        expected = dict(zip(*by_brute_force(query, 3000), strict=True))
        np.testing.assert_allclose(likeness, [expected[neighbour.source] for neighbour in found], atol=3e-3)
        hits += len({neighbour.source for neighbour in found} & set(sources))
        assert found[0][1:3] == (1.0, 2.5)
    assert hits >= 0.95 * 10 * len(QUERIES)


def test_fewer_rows_than_asked_for(tmp_path):
    write(tmp_path / "one.parquet", [Row("a", 0, 1, np.float32([1, 0]))], ORIGIN)
    Index.write(Stored(tmp_path / "one.parquet"), tmp_path / "index")
    for found in (
        search(Stored(tmp_path / "one.parquet"), np.array([1.0, 1.0]), 5),
        Index(tmp_path / "index").search(np.array([1.0, 1.0]), 5),
    ):
        ((source, _, _, similarity),) = found
        assert (source, similarity) == ("a", pytest.approx(np.sqrt(0.5), abs=1e-3))


def test_embeddings_of_two_presets_are_not_mixed(tmp_path):
    for name in "pq":
        row = Row("a", 0, 1, np.float32([1, 0]))
        write(tmp_path / f"{name}.parquet", [row], ORIGIN | {"preset": name * 64})
    with pytest.raises(
        MusicZooError, match="q.parquet: expected embeddings of m .weights pppp.* same preset"
    ):
        Stored(tmp_path)


def test_what_holds_no_embeddings_is_refused(tmp_path, folder):
    with pytest.raises(MusicZooError, match="found none"):
        Stored(tmp_path)
    with pytest.raises(MusicZooError, match="found none"):
        Stored(tmp_path / "missing.parquet")
    (tmp_path / "text.parquet").write_text("text")
    with pytest.raises(MusicZooError, match="expected a Parquet file"):
        Stored(tmp_path / "text.parquet")
    write(tmp_path / "unknown.parquet", [Row("a", 0, 1, np.float32([1, 0]))])
    with pytest.raises(MusicZooError, match="which preset made them"):
        Stored(tmp_path / "unknown.parquet")
    with pytest.raises(MusicZooError, match="expected an index"):
        Index(tmp_path)


@pytest.mark.parametrize("name", ["index.json", "rows.arrow", "vectors.usearch"])
@pytest.mark.parametrize("kept", [0, 0.5])
def test_a_damaged_index_is_refused(tmp_path, folder, name, kept):
    damaged = tmp_path / "index"
    shutil.copytree(folder / "index", damaged)
    whole = (damaged / name).read_bytes()
    (damaged / name).write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(MusicZooError, match="index: expected an index, but its files are damaged"):
        Index(damaged)


def test_an_index_takes_the_place_of_nothing(tmp_path, folder):
    (tmp_path / "index").mkdir()
    with pytest.raises(MusicZooError, match="expected a new folder"):
        Index.write(Stored(folder / "all.parquet"), tmp_path / "index")
    assert os.listdir(tmp_path) == ["index"]


@pytest.mark.keras
def test_from_songs_to_similar_songs_on_the_command_line(tmp_path, monkeypatch, small_classifier):
    monkeypatch.chdir(tmp_path)
    small_classifier.save_preset("small")
    os.mkdir("songs")
    for number in range(5):
        t = np.arange(12_000) / 8000
        soundfile.write(f"songs/{number}.wav", 0.5 * np.sin(2 * np.pi * 150 * (number + 1) ** 2 * t), 8000)

    def invoke(*arguments: str):
        return CliRunner().invoke(cli.app, list(arguments))

    embed = invoke("embed", "songs", "--model", "small", "--output", "songs.parquet", "--hop", "0.5")
    assert embed.exit_code == 0, embed.stderr
    assert invoke("index", "songs.parquet", "--output", "index").exit_code == 0
    embeddings = {n: small_classifier.embed(f"songs/{n}.wav", hop=0.5).mean(axis=0) for n in range(5)}
    units = {n: vector / np.linalg.norm(vector) for n, vector in embeddings.items()}
    expected = sorted(range(5), key=lambda n: -(units[n] @ units[2]))
    for index in ("songs.parquet", "index"):
        result = invoke("similar", "songs/2.wav", "--index", index, "--json", "-n", "3")
        assert result.exit_code == 0, result.stderr
        found = [json.loads(line) for line in result.stdout.splitlines()]
        assert [entry["source"] for entry in found] == [f"songs/{n}.wav" for n in expected[:3]]
        np.testing.assert_allclose(
            [entry["similarity"] for entry in found], [units[n] @ units[2] for n in expected[:3]], atol=2e-3
        )
    (line,) = invoke("similar", "songs/2.wav", "--index", "index", "-n", "1").stdout.splitlines()
    assert line.split() == ["1.000", "songs/2.wav", "(0.0", "to", "1.5", "s)"]

    # Head and calibrator do not touch embeddings; other weights make others.
    other = type(small_classifier).from_config(small_classifier.get_config())
    tensors = small_classifier.tensors()
    other.set_tensors(tensors | {"head.bias": tensors["head.bias"] + 1})
    other.save_preset("head")
    assert origin("head", None)["preset"] == origin("small", None)["preset"]
    name = next(name for name in tensors if name.startswith("backbone."))
    other.set_tensors(tensors | {name: tensors[name] + 1})
    other.save_preset("backbone")
    wrong = invoke("similar", "songs/2.wav", "--index", "index", "--model", "backbone")
    assert isinstance(wrong.exception, MusicZooError)
    assert "cannot be compared" in str(wrong.exception)
