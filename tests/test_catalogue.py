import os
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

parquet = pytest.importorskip("pyarrow.parquet")

import pyarrow  # noqa: E402

from music_zoo import cli  # noqa: E402
from music_zoo.catalogue import read_sources, stages  # noqa: E402
from music_zoo.catalogue.store import Store, Track  # noqa: E402
from music_zoo.errors import MusicZooError  # noqa: E402
from music_zoo.inference import Cut  # noqa: E402

ROOT = Path(__file__).parents[1]
NEEDS_RAY = pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed: music-zoo[ray]")
SETTINGS = {"model": "m", "preset": "p", "hop": None}

#: Arguments: preset, sources, folder, and after how many files to kill itself, 0: never.
SCRIPT = """
import os, signal, sys
from pathlib import Path
from music_zoo.catalogue import read_sources, write_catalogue

preset, sources, folder, kill = sys.argv[1:]

def progress(done, total):
    if done == int(kill):
        os.kill(os.getpid(), signal.SIGKILL)

written = write_catalogue(
    read_sources([Path(sources)]), folder, model=preset, hop=0.5, progress=progress, part_rows=7
)
assert "keras" not in sys.modules, "only actors may import Keras"
print(written.tracks, written.failures, written.earlier)
"""


@pytest.fixture(scope="module")
def preset(small_classifier, tmp_path_factory):
    folder = tmp_path_factory.mktemp("presets") / "small"
    small_classifier.save_preset(folder)
    return folder


def write_songs(folder: Path, count: int, broken: int) -> list[str]:
    """Write songs of 0.5 to 3 s, of which some are no audio; return their paths."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    paths = [folder / f"{number:03d} 日本.wav" for number in range(count)]
    for number, path in enumerate(paths):
        if number % (count // broken) == 1:
            path.write_text("no audio")
        else:
            t = np.arange(rng.integers(4000, 24_000)) / 8000
            noise = 0.1 * rng.standard_normal(len(t))
            soundfile.write(path, 0.5 * np.sin(2 * np.pi * (100 + 5 * number) * t) + noise, 8000)
    return list(map(str, paths))


def rows(folder: Path, table: str) -> list[dict]:
    return [
        row
        for part in sorted((folder / table).glob("*.parquet"))
        for row in parquet.read_table(part).to_pylist()
    ]


def check_like_classify(row: dict, classifier, hop: float) -> None:
    expected = classifier.classify(row["source"], hop=hop)
    assert (row["duration"], row["label"]) == (pytest.approx(expected.duration), expected.label)
    assert list(row["probabilities"]) == list(classifier.labels)
    np.testing.assert_allclose(list(row["probabilities"].values()), expected.probabilities, atol=1e-5)
    np.testing.assert_allclose(
        row["embedding"], classifier.embed(row["source"], hop=hop).mean(axis=0), rtol=1e-4, atol=1e-5
    )


# ---- the whole on Ray ------------------------------------------------------------------------------------


@NEEDS_RAY
@pytest.mark.parametrize(
    "count, broken", [(20, 2), pytest.param(500, 5, marks=pytest.mark.slow, id="500 files, 1 % broken")]
)
def test_every_file_is_there_once_also_after_a_kill(tmp_path, preset, small_classifier, count, broken):
    songs, folder = write_songs(tmp_path / "songs", count, broken), tmp_path / "catalogue"

    def run(kill: int) -> subprocess.CompletedProcess:
        command = [sys.executable, "-c", SCRIPT, preset, tmp_path / "songs", folder, str(kill)]
        environment = os.environ | {"PYTHONPATH": str(ROOT), "RAY_worker_niceness": "0"}
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    killed = run(count // 2)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    earlier = len(rows(folder, "tracks")) + len(rows(folder, "failures"))
    assert 0 < earlier <= count // 2

    restarted = run(0)
    assert restarted.stdout.split() == [str(count - broken), str(broken), str(earlier)], restarted.stderr
    tracks, failures = rows(folder, "tracks"), rows(folder, "failures")
    assert sorted(row["source"] for row in tracks + failures) == songs
    assert [row["source"] for row in sorted(failures, key=str)] == [
        song for song in songs if Path(song).read_bytes() == b"no audio"
    ]
    assert all("no audio" in row["error"] and row["source"] in row["error"] for row in failures)
    for row in tracks[:: count // 10]:
        check_like_classify(row, small_classifier, 0.5)


# ---- what runs on the workers ----------------------------------------------------------------------------


def files(sources: list[str]) -> pyarrow.Table:
    paths = [os.fsencode(source) for source in sources]
    return pyarrow.table({"source": sources, "path": paths}, schema=stages.FILES)


@pytest.mark.parametrize("apart", [False, True])
def test_stages_do_as_classify_does_however_files_are_cut_up(
    tmp_path, preset, small_classifier, monkeypatch, apart
):
    songs = write_songs(tmp_path / "songs", 6, 2)
    whole = Path(songs[0]).read_bytes()
    (tmp_path / "cut.wav").write_bytes(whole[: len(whole) // 2])
    uri = Path(songs[2]).as_uri()
    sources = [*songs, "missing.wav", uri, "s4://bucket/song.wav", str(tmp_path / "cut.wav")]
    monkeypatch.setattr(stages, "BLOCK_BYTES", 3 * 4 * 8000)  # windows; some files have more
    cut = Cut(sample_rate=8000, window=8000, hop=4000)
    kind = stages.WindowTagger if apart else stages.Tagger
    tagger = kind(str(preset), cut, False, str(tmp_path), None, None)
    blocks = list(stages.decode(files(sources), cut, False, str(tmp_path))) if apart else [files(sources)]
    assert len(blocks) > 3 or not apart
    sums = stages.Sums(3, 8000)
    results = [result for block in reversed(blocks) for result in sums.add(tagger(block))]  # in any order
    tracks = {result.source: result for result in results if isinstance(result, Track)}
    errors = dict(result for result in results if not isinstance(result, Track))
    assert sorted([*tracks, *errors]) == sorted(sources)
    cut_off = sources[-1]
    assert set(errors) == {songs[1], songs[4], "missing.wav", "s4://bucket/song.wav", cut_off}
    assert "no file missing.wav" in errors["missing.wav"]
    assert "s4" in errors["s4://bucket/song.wav"]
    assert "truncated" in errors[cut_off]
    for source in (songs[0], songs[3]):
        expected = small_classifier.classify(source, hop=0.5)
        np.testing.assert_allclose(tracks[source].probabilities, expected.probabilities, atol=1e-5)
        assert tracks[source].duration == pytest.approx(expected.duration)
    np.testing.assert_array_equal(tracks[uri].embedding, tracks[songs[2]].embedding)


# ---- the store -------------------------------------------------------------------------------------------


def track(source: str) -> Track:
    return Track(source, 1.5, np.float32([0.25, 0.75]), np.float32([1, 2, 3]), ["quiet"])


def test_rows_are_written_when_there_are_enough_and_at_the_end(tmp_path):
    with Store(tmp_path / "new", ["Rock", "Folk"], SETTINGS, part_rows=2) as store:
        store.add(track("a"))
        assert rows(tmp_path / "new", "tracks") == []
        store.fail("b", "broken")
        assert [len(rows(tmp_path / "new", table)) for table in ("tracks", "failures")] == [1, 1]
        store.add(track("c"))
    assert sorted(row["source"] for row in rows(tmp_path / "new", "tracks")) == ["a", "c"]
    assert rows(tmp_path / "new", "tracks")[0] | {"source": "a"} == {
        "source": "a",
        "duration": 1.5,
        "label": "Folk",
        "probabilities": {"Rock": 0.25, "Folk": 0.75},
        "embedding": [1.0, 2.0, 3.0],
        "notes": ["quiet"],
    }
    assert rows(tmp_path / "new", "failures") == [{"source": "b", "error": "broken"}]


def test_what_a_killed_run_left_half_written_is_removed(tmp_path):
    (tmp_path / "tracks").mkdir()
    with Store(tmp_path / "new", ["Rock"], SETTINGS):
        left = tmp_path / "new" / "tracks" / ".part-1.parquet.0a.tmp"
        left.write_text("half")
    with Store(tmp_path / "new", ["Rock"], SETTINGS) as store:
        assert (store.done, left.exists()) == (set(), False)


def test_a_folder_of_other_files_is_refused(tmp_path):
    (tmp_path / "mine.txt").touch()
    with pytest.raises(MusicZooError, match="other files"), Store(tmp_path, ["Rock"], SETTINGS):
        pass


@pytest.mark.parametrize(
    "labels, own, message",
    [
        (["Folk"], {}, r"labels \['Rock'\], now \['Folk'\]"),
        (["Rock"], {"hop": 0.5}, "hop None, now 0.5"),
        (["Rock"], {"preset": "q"}, "preset 'p', now 'q'"),
    ],
)
def test_other_settings_are_refused(tmp_path, labels, own, message):
    with Store(tmp_path / "new", ["Rock"], SETTINGS):
        pass
    with pytest.raises(MusicZooError, match=message), Store(tmp_path / "new", labels, SETTINGS | own):
        pass


# ---- sources and options ---------------------------------------------------------------------------------


def test_sources_of_folders_and_lists_each_once(tmp_path):
    songs = write_songs(tmp_path / "songs", 4, 1)
    (tmp_path / "list.txt").write_text(f"s3://bucket/a b.mp3\n\n  {songs[2]}  \nother.wav\n", "utf-8")
    found = read_sources([tmp_path / "songs", tmp_path / "list.txt"])
    assert found == [*songs, "s3://bucket/a b.mp3", "other.wav"]


@pytest.mark.parametrize(
    "options, message",
    [
        (["--ray"], "--output"),
        (["--ray", "--output", "new", "--csv", "--windows"], "goes without --csv, --windows"),
        (["--actors", "2"], "belong to --ray"),
    ],
)
def test_options_that_do_not_go_together(tmp_path, options, message):
    result = CliRunner().invoke(cli.app, ["tag", str(tmp_path), *options])
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.replace("│", " ").split())


def test_without_ray_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray.data", None)
    write_songs(tmp_path / "songs", 2, 1)
    with pytest.raises(MusicZooError, match=r"music-zoo\[ray\]"):
        cli.app(
            ["tag", str(tmp_path / "songs"), "--ray", "--output", str(tmp_path / "new")],
            standalone_mode=False,
        )
