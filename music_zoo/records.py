"""Predictions as text, on the screen or in a file; a long run into a file can be taken up again."""

import csv
import io
import json
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO, Literal

from music_zoo.errors import MusicZooError
from music_zoo.files import check_replaceable, replacing
from music_zoo.prediction import Prediction


@dataclass(frozen=True)
class Format:
    """How predictions are written.

    Attributes:
        kind: `"text"` for people; `"json"`, one object a line; `"csv"`, a table with a row per file.
        top: How many labels the text shows; JSON and CSV hold all.
        windows: Whether JSON holds the probabilities of every window.
        min_confidence: That of the predictions; if there is one, CSV has a column that says who abstains.
    """

    kind: Literal["text", "json", "csv"] = "text"
    top: int = 5
    windows: bool = False
    min_confidence: float | None = None

    def header(self, labels: Sequence[str]) -> str:
        """Return what stands before the first prediction."""
        if self.kind != "csv":
            return ""
        abstains = [] if self.min_confidence is None else ["abstains"]
        return _csv_row("source", "duration", "label", *abstains, *labels)

    def record(self, prediction: Prediction, with_model: bool = False) -> str:
        """Return one prediction, ending in a line break; the text names the model if that is wanted."""
        if self.kind == "text":
            return prediction.to_text(self.top, with_model) + "\n"
        if self.kind == "json":
            return json.dumps(prediction.to_dict(taggram=self.windows), ensure_ascii=False) + "\n"
        abstains = [] if self.min_confidence is None else [str(prediction.abstains).lower()]
        probabilities = [f"{value:.6f}" for value in prediction.probabilities]
        duration = f"{prediction.duration:.3f}"
        return _csv_row(prediction.source, duration, prediction.label, *abstains, *probabilities)


class RecordWriter:
    """Writes predictions to a file, or to standard output as they come; a context manager.

    For a file they are first collected in a journal, `<path>.part`, in lines of JSON: the settings of the
    run, then source and record of each prediction. At the end the records become the file, in the order of
    `sources`. A journal that is there already was left by an interrupted run, which is taken up: the file
    will be that of a run without interruption.

    Args:
        path: Where to write; standard output if None.
        sources: All that is to be in the file, but for those that turn out to be unusable.
        labels: Of the classifier, or of all.
        format: How to write.
        settings: What else must be equal for predictions to belong into one file: plain values, by name.

    Raises:
        MusicZooError: On entering, if the interrupted run had other settings, or what it left is no journal.
        OSError: The file cannot be written; what is in the journal stays.
    """

    def __init__(
        self,
        path: Path | None,
        sources: Sequence[str],
        labels: Sequence[str],
        format: Format,
        settings: Mapping[str, object],
    ):
        self._path = path
        self._sources = sources
        self._header = format.header(labels)
        self._format = format
        self._settings = {"labels": list(labels), **asdict(format), **settings}
        self._part = path and path.with_name(f"{path.name}.part")
        self._journal: BinaryIO | None = None
        self._places: dict[str, int] = {}  # of each source's line in the journal

    @property
    def done(self) -> Collection[str]:
        """Sources that need not be classified again."""
        return self._places.keys()

    def __enter__(self) -> "RecordWriter":
        if self._path is None:
            _print(self._header)
        else:
            check_replaceable(self._path)
            self._journal = self._part.open("a+b")
            try:
                self._take_up()
            except BaseException:
                self._journal.close()
                raise
        return self

    def __exit__(self, exception_type, *_) -> None:
        if self._journal is None:
            return
        with self._journal:
            if exception_type is None:
                self._finish()
        if exception_type is None:
            self._part.unlink()

    def write(self, *predictions: Prediction) -> None:
        """Write what one model or several say of a source: at once to the screen, or into the journal."""
        several = len(predictions) > 1
        record = "".join(self._format.record(prediction, several) for prediction in predictions)
        if self._journal is None:
            _print(record)
        else:
            source = predictions[0].source
            self._places[source] = self._append(_journal_line([source, record]))

    def _append(self, line: bytes) -> int:
        """Add a line to the journal and return its place."""
        place = self._journal.seek(0, io.SEEK_END)
        try:
            self._journal.write(line)
            self._journal.flush()
        except OSError as error:  # which does not say of itself where the disk is full
            raise OSError(error.errno, error.strerror, str(self._part)) from error
        return place

    def _take_up(self) -> None:
        """Read the journal, cut off what was written only in part, and begin it if it is empty."""
        first = _journal_line(self._settings)
        self._journal.seek(0)
        found = self._journal.readline()
        if not first.startswith(found):
            raise MusicZooError(self._refusal(found))
        place = len(first) if found == first else 0
        for line in self._journal:
            if not line.endswith(b"\n"):
                break
            source, _ = json.loads(line)
            self._places[source] = place
            place += len(line)
        self._journal.truncate(place)
        if place == 0:
            self._append(first)

    def _refusal(self, found: bytes) -> str:
        """Say why the journal cannot be taken up, and what to do."""
        try:
            theirs = dict(json.loads(found))
        except (ValueError, TypeError):
            return f"{self._part} was not left by music-zoo: move it away, or write to another name."
        other = "; ".join(
            f"{name} {theirs.get(name)!r}, now {ours!r}"
            for name, ours in self._settings.items()
            if theirs.get(name) != ours
        )
        return (
            f"{self._part} was left by an interrupted run with other settings ({other}). Finish that run "
            "with its own settings, delete what it left, or write to another name."
        )

    def _finish(self) -> None:
        with replacing(self._path) as temporary, temporary.open("wb") as file:
            file.write(self._header.encode())
            for source in self._sources:
                if source in self._places:
                    self._journal.seek(self._places[source])
                    _, record = json.loads(self._journal.readline())
                    file.write(record.encode(errors="backslashreplace"))


def _print(text: str) -> None:
    # `sys.stdout` is looked up each time: a progress bar on the same terminal replaces it for a while.
    sys.stdout.write(text)
    sys.stdout.flush()


def _journal_line(entry: list | dict) -> bytes:
    return json.dumps(entry).encode() + b"\n"


def _csv_row(*cells: str) -> str:
    row = io.StringIO()
    csv.writer(row, lineterminator="\n").writerow(cells)
    return row.getvalue()
