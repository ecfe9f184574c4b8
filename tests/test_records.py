import csv
import errno
import io
import json
import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from music_zoo.errors import MusicZooError
from music_zoo.prediction import Prediction
from music_zoo.records import Format, RecordWriter

LABELS = ("calm", 'a "loud", one')
SOURCES = ["b.ogg", "日本.ogg", "a, b.ogg", "no text \udce9.ogg"]
SETTINGS = {"model": "small", "hop": None}


def prediction(source: str) -> Prediction:
    share = 0.25 + SOURCES.index(source) / 10
    row = np.array([share, 1 - share], np.float32)
    return Prediction(
        source=source,
        model="small",
        task="single_label",
        labels=LABELS,
        probabilities=row,
        taggram=row[None],
        times=np.array([[0.0, 1.5]]),
        duration=1.5,
        notes=("quiet",),
    )


def writer(path: Path | None, kind: str = "json", windows: bool = False, **changes) -> RecordWriter:
    return RecordWriter(path, SOURCES, LABELS, Format(kind, 2, windows), SETTINGS | changes)


def write_all(path: Path, kind: str) -> bytes:
    with writer(path, kind) as records:
        for source in SOURCES:
            if source not in records.done:
                records.write(prediction(source))
    return path.read_bytes()


def interrupt(path: Path, kind: str, after: int) -> Path:
    """Write a few predictions, then stop; returns the journal."""
    with pytest.raises(KeyboardInterrupt), writer(path, kind) as records:
        for source in SOURCES[:after]:
            records.write(prediction(source))
        raise KeyboardInterrupt
    return path.with_name(f"{path.name}.part")


def test_json_is_an_object_a_line_with_every_probability(tmp_path):
    lines = write_all(tmp_path / "out.json", "json").decode().splitlines()
    read = [json.loads(line) for line in lines]
    assert [entry["source"] for entry in read] == SOURCES
    assert read[0]["probabilities"] == {"calm": 0.25, 'a "loud", one': 0.75}
    assert "windows" not in read[0]


def test_json_with_windows(capsys):
    with writer(None, windows=True) as records:
        records.write(prediction("b.ogg"))
    window = {"start": 0.0, "end": 1.5, "probabilities": {"calm": 0.25, 'a "loud", one': 0.75}}
    assert json.loads(capsys.readouterr().out)["windows"] == [window]


def test_csv_is_read_back_by_the_csv_module(tmp_path):
    text = write_all(tmp_path / "out.csv", "csv").decode()
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["source"] for row in rows] == [*SOURCES[:3], r"no text \udce9.ogg"]
    assert rows[0] == {
        "source": "b.ogg",
        "duration": "1.500",
        "label": 'a "loud", one',
        "calm": "0.250000",
        'a "loud", one': "0.750000",
    }


def test_csv_says_who_abstains_if_somebody_may(tmp_path):
    records = RecordWriter(tmp_path / "out.csv", SOURCES, LABELS, Format("csv", min_confidence=0.6), SETTINGS)
    with records:
        for source in SOURCES[:3]:
            records.write(replace(prediction(source), min_confidence=0.6))
    rows = list(csv.DictReader(io.StringIO((tmp_path / "out.csv").read_text())))
    assert list(rows[0]) == ["source", "duration", "label", "abstains", *LABELS]
    # The most probable label has 0.75, 0.65 and 0.55.
    assert [row["abstains"] for row in rows] == ["false", "false", "true"]
    assert {row["label"] for row in rows} == {LABELS[1]}


def test_screen_gets_each_record_as_it_comes(capsys):
    with writer(None, "csv") as records:
        assert capsys.readouterr().out.startswith("source,duration,label,calm,")
        records.write(prediction("b.ogg"))
        assert capsys.readouterr().out.startswith("b.ogg,1.500,")
        assert not records.done


@pytest.mark.parametrize("kind", ["text", "json", "csv"])
def test_no_prediction_at_all_gives_a_file(tmp_path, kind):
    with writer(tmp_path / "out", kind):
        pass
    assert (tmp_path / "out").read_text() == Format(kind).header(LABELS)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(kind=st.sampled_from(["text", "json", "csv"]), done=st.integers(0, 4), cut=st.floats(0, 1))
def test_killed_anywhere_and_taken_up_gives_the_file_of_an_uninterrupted_run(
    tmp_path_factory, kind, done, cut
):
    folder = tmp_path_factory.mktemp("run")
    expected = write_all(folder / "whole", kind)
    journal = interrupt(folder / "out", kind, after=done)
    left = journal.read_bytes()
    journal.write_bytes(left[: round(cut * len(left))])
    assert write_all(folder / "out", kind) == expected
    assert sorted(path.name for path in folder.iterdir()) == ["out", "whole"]


def test_done_holds_what_the_interrupted_run_finished(tmp_path):
    interrupt(tmp_path / "out", "text", after=3)
    with pytest.raises(KeyboardInterrupt), writer(tmp_path / "out", "text") as records:
        assert list(records.done) == SOURCES[:3]
        raise KeyboardInterrupt


def test_file_keeps_the_order_of_the_sources_whatever_was_done_first(tmp_path):
    with writer(tmp_path / "out", "text") as records:
        for source in reversed(SOURCES):
            records.write(prediction(source))
    with writer(tmp_path / "in-order", "text") as records:
        for source in SOURCES:
            records.write(prediction(source))
    assert (tmp_path / "out").read_bytes() == (tmp_path / "in-order").read_bytes()


def test_what_this_run_was_not_asked_for_stays_out(tmp_path):
    interrupt(tmp_path / "out", "json", after=3)
    with RecordWriter(tmp_path / "out", SOURCES[1:2], LABELS, Format("json", 2), SETTINGS):
        pass
    (line,) = (tmp_path / "out").read_text().splitlines()
    assert json.loads(line)["source"] == SOURCES[1]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"kind": "csv"}, "kind 'json', now 'csv'"),
        ({"model": "large"}, "model 'small', now 'large'"),
        ({"hop": 0.5}, "hop None, now 0.5"),
        ({"windows": True}, "windows False, now True"),
    ],
)
def test_other_settings_are_refused_and_the_journal_is_kept(tmp_path, change, says):
    journal = interrupt(tmp_path / "out", "json", after=2)
    left = journal.read_bytes()
    with pytest.raises(MusicZooError, match=says), writer(tmp_path / "out", **change):
        pass
    assert journal.read_bytes() == left


@pytest.mark.parametrize("content", [b"half a download", b"RIFF\x00\xff\n", b'["json"]\n', b"{}\n", b"\n"])
def test_a_strangers_file_is_not_overwritten(tmp_path, content):
    (tmp_path / "out.part").write_bytes(content)
    with pytest.raises(MusicZooError, match="out.part was"), writer(tmp_path / "out"):
        pass
    assert (tmp_path / "out.part").read_bytes() == content


def test_an_earlier_file_stays_until_all_is_done(tmp_path):
    (tmp_path / "out").write_text("earlier")
    interrupt(tmp_path / "out", "text", after=3)
    assert (tmp_path / "out").read_text() == "earlier"


def test_a_folder_or_device_is_no_output(tmp_path):
    for path in (tmp_path, Path("/dev/null")):
        with pytest.raises(OSError, match="found a folder or a device"), writer(path):
            pass


def test_a_full_disk_is_named(tmp_path, monkeypatch):
    def refuse(line):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(OSError) as caught, writer(tmp_path / "out") as records:
        journal = SimpleNamespace(seek=lambda *_: 0, write=refuse)
        with monkeypatch.context() as patch:
            patch.setattr(records, "_journal", journal)
            records.write(prediction("b.ogg"))
    assert caught.value.filename == str(tmp_path / "out.part")
