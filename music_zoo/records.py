"""Predictions written one line at a time, so that a long run can be interrupted and taken up again."""

import csv
import io
import json
import os
import sys
from pathlib import Path
from typing import TextIO

from music_zoo.prediction import Prediction

#: How a prediction is written: for people, as JSON (an object a line), as a table.
FORMATS = ("text", "json", "csv")


class RecordWriter:
    """Writes predictions to a file or to standard output; a context manager.

    A file grows under the name `<path>.part` and is renamed when all is done. If that name exists already, an earlier
    run was interrupted: `done` then holds the sources that it finished, and new lines are appended.

    Args:
        path: Where to write; standard output if None.
        format: One of `FORMATS`.
        top: How many labels the text format shows.
        windows: Whether JSON holds the probabilities of every window.

    Attributes:
        done: Sources that need not be classified again.
    """

    def __init__(self, path: Path | None, format: str, *, top: int = 5, windows: bool = False):
        self.path = path
        self.format = format
        self.top = top
        self.windows = windows
        self.done: set[str] = set()
        self._part = path and path.with_name(path.name + ".part")
        self._stream: TextIO = sys.stdout
        self._header_is_due = format == "csv"

    def __enter__(self) -> "RecordWriter":
        if self._part is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if self._part.exists():
                self._take_up()
            self._stream = self._part.open("a", encoding="utf-8", newline="")
        return self

    def __exit__(self, exception_type, *_) -> None:
        if self._part is None:
            return
        self._stream.close()
        if exception_type is None:
            os.replace(self._part, self.path)

    def write(self, prediction: Prediction) -> None:
        """Append one prediction and hand it to the operating system."""
        self._stream.write(self._lines(prediction))
        self._stream.flush()

    def _lines(self, prediction: Prediction) -> str:
        if self.format == "text":
            return prediction.to_text(self.top) + "\n"
        if self.format == "json":
            return json.dumps(prediction.to_dict(taggram=self.windows), ensure_ascii=False) + "\n"
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        if self._header_is_due:
            writer.writerow(["source", "duration", "label", *prediction.labels])
            self._header_is_due = False
        probabilities = [f"{value:.6f}" for value in prediction.probabilities]
        writer.writerow([prediction.source, f"{prediction.duration:.3f}", prediction.label, *probabilities])
        return text.getvalue()

    def _take_up(self) -> None:
        """Learn what the interrupted run has done, without the line in which it was interrupted."""
        text = self._part.read_text(encoding="utf-8")
        if not text.endswith("\n"):
            text = text[: text.rfind("\n") + 1]
            self._part.write_text(text, encoding="utf-8", newline="")
        if self.format == "json":
            self.done = {json.loads(line)["source"] for line in text.splitlines()}
        elif self.format == "csv":
            self.done = {row["source"] for row in csv.DictReader(io.StringIO(text))}
            self._header_is_due = not text
        else:  # the text format is for reading, not for reading back
            self._part.write_text("")
