"""The list of presets, `weights_manifest.json`: what each is, where its files come from, what it scores.

The pydantic models here and in `music_zoo.hub.schema` are the schema, and the only one; other tools find it
as JSON Schema in `weights_manifest.schema.json`. Building one from wrong values raises
`pydantic.ValidationError`; reading and writing a manifest raise `ManifestError`. Change single fields with
`entry.model_copy(update={"results": ...})`: it checks nothing, but what the copy is put into does, at the
latest `update_manifest` and `Manifest.write`.

`music_zoo.list_models()` imports this module, so it needs nothing but pydantic and the standard library.
"""

import os
import reprlib
import textwrap
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticSerializationError

from music_zoo.errors import ManifestError
from music_zoo.hub.files import PRESET_FILES, parse_json, write_atomically
from music_zoo.hub.schema import (
    Count,
    FileName,
    FileRecord,
    Labels,
    Metrics,
    OriginalSource,
    Part,
    PresetName,
    Source,
    Text,
    expected,
    rule,
)

MANIFEST_NAME = "weights_manifest.json"

_TEXT_WIDTH = 100
_NO_OTHER_NAMES = {"additionalProperties": False}  # of a mapping in the JSON Schema


class Result(Part):
    """What a preset scores on one split of one data set, and who says so.

    Either we measured it, on a known number of examples, and `command` reproduces it; or its authors
    published it, and `source` says where.
    `uncalibrated` holds the same metrics computed before calibration, where they differ; `intervals` the 95 %
    intervals of the calibrated ones, from resampled examples or, if `resampled` says so, from all examples
    of resampled instruments, say.
    """

    dataset: Text
    split: Text
    examples: Count | None = None
    metrics: Metrics
    command: str = ""
    source: str = ""
    uncalibrated: Metrics = Field(default_factory=dict)
    intervals: Mapping[Text, tuple[float, float]] = Field(default_factory=dict)
    resampled: str = ""
    note: str = ""

    @model_validator(mode="after")
    def _says_where_it_comes_from(self) -> "Result":
        if bool(self.command.strip()) == bool(self.source.strip()):
            raise expected("a result with either the command that reproduces it or the source of it")
        if self.command and self.examples is None:
            raise expected("a measured result with its number of examples")
        return self

    @property
    def headline(self) -> str:
        """The main metric in words, "fma-small test: 53.1 % accuracy"; all metrics if none is known."""
        match self.metrics:
            case {"accuracy": value}:
                score = f"{100 * value:.1f} % accuracy"
            case {"roc_auc": value, "average_precision": precision}:
                score = f"ROC-AUC {value:.3f}, PR-AUC {precision:.3f}"
            case {"roc_auc": value}:
                score = f"ROC-AUC {value:.3f}"
            case others:
                score = ", ".join(f"{name} {value:.3f}" for name, value in others.items()) or "no metric"
        return f"{self.dataset} {self.split}: {score}" + (" (authors)" if self.source else "")

    def to_text(self) -> str:
        """Returns a table, and below it the command, on a line of its own, or who published the figures."""
        width = max(map(len, self.metrics), default=0)
        examples = "" if self.examples is None else f", {self.examples} examples"
        rows = [f"{self.dataset} {self.split}{examples}"]
        if self.metrics and self.command:
            between = "  95 % interval" if self.intervals else ""
            between += f" over {self.resampled}" if self.intervals and self.resampled else ""
            rows.append(f"  {'':{width}}  calibrated  uncalibrated{between}")
        for name, value in self.metrics.items():
            before = f"{self.uncalibrated.get(name, value):14.4f}" if self.command else ""
            if name in self.intervals:
                before += "  {:.3f} to {:.3f}".format(*self.intervals[name])
            rows.append(f"  {name:{width}}{value:12.4f}{before}")
        if self.note:
            rows.append(textwrap.fill(self.note, _TEXT_WIDTH, initial_indent="  ", subsequent_indent="  "))
        return "\n".join([*rows, f"  $ {self.command}" if self.command else f"  published: {self.source}"])


class PresetEntry(Part):
    """All that the manifest says of one preset; `sample_rate` is in Hz.

    `published` says what others report of the same kind of network, and on what data; `speed` how fast a CPU
    runs the preset.

    `files` pins what the sources give, byte by byte. Of an original it cannot: the files are made on the
    user's machine, and not the same ones by every version of music_zoo. There the pins of the original hold.
    """

    description: Text
    architecture: Text
    task: Literal["single_label", "multi_label"]
    labels: Labels
    sample_rate: Count
    window_seconds: Annotated[float, Field(gt=0)]
    parameters: Count
    license: Text
    training_data: Text
    limits: Text
    sources: Annotated[tuple[Source, ...], rule("at least one source", bool)]
    files: Mapping[FileName, FileRecord] = Field(
        default_factory=dict, validate_default=True, json_schema_extra=_NO_OTHER_NAMES
    )
    results: tuple[Result, ...]
    citation: str = ""
    training_command: str = ""
    training_cost: str = ""
    published: str = ""
    speed: str = ""

    @field_validator("files")
    @classmethod
    def _pins_what_sources_give(cls, files: Mapping, info: ValidationInfo) -> Mapping:
        sources = info.data.get("sources", ())  # none if they are not valid themselves
        if sources and all(isinstance(source, OriginalSource) for source in sources):
            if files:
                raise expected("no files beside an original, which is converted on the user's machine")
        elif not files.keys() >= set(PRESET_FILES):
            raise expected(f"the files {', '.join(PRESET_FILES)}")
        return files

    def to_text(self, name: str) -> str:
        """Describes the preset for a terminal: plain text, wrapped; commands stay in one piece."""
        facts = {
            "task": f"{self.task.replace('_', '-')}, {len(self.labels)} labels",
            "labels": ", ".join(self.labels),
            "architecture": f"{self.architecture}, {self.parameters:,} parameters",
            "input": f"windows of {self.window_seconds:g} s at {self.sample_rate} Hz",
            "trained on": self.training_data,
            "limits": self.limits,
            "licence": self.license,
            "citation": self.citation,
            "published": self.published,
            "speed": self.speed,
            "original": "; ".join(str(it) for it in self.sources if isinstance(it, OriginalSource)),
        }
        width = max(map(len, facts)) + 2
        lines = [
            textwrap.fill(
                text,
                _TEXT_WIDTH,
                initial_indent=f"{fact:{width}}",
                subsequent_indent=" " * width,
                break_long_words=False,  # addresses
                break_on_hyphens=False,
            )
            for fact, text in facts.items()
            if text
        ]
        blocks = [textwrap.fill(f"{name}: {self.description}", _TEXT_WIDTH), "\n".join(lines)]
        blocks += [result.to_text() for result in self.results]
        if self.training_command:
            cost = f", {self.training_cost}" if self.training_cost else ""
            blocks.append(f"trained with{cost}\n  $ {self.training_command}")
        return "\n\n".join(blocks)


class Manifest(Part, Mapping[str, PresetEntry]):
    """The presets by name; a read-only mapping."""

    schema_version: Annotated[int, rule("1, the version that this music_zoo reads", lambda it: it == 1)]
    presets: Annotated[Mapping[PresetName, PresetEntry], Field(json_schema_extra=_NO_OTHER_NAMES)]

    def __getitem__(self, name: str) -> PresetEntry:
        """The entry of a preset; KeyError if there is none of that name."""
        return self.presets[name]

    def __iter__(self) -> Iterator[str]:
        """The names."""
        return iter(self.presets)

    def __len__(self) -> int:
        """The number of presets."""
        return len(self.presets)

    def write(self, path: Path) -> None:
        """Writes the manifest in one step, checked once more, presets in the order of their names.

        Raises:
            ManifestError: an entry is not valid; nothing is written.
            OSError: the file cannot be written.
        """
        with _manifest_errors():
            ordered = Manifest(schema_version=self.schema_version, presets=dict(sorted(self.presets.items())))
            text = ordered.model_dump_json(indent=2)
        write_atomically(path, f"{text}\n".encode())


def manifest_path() -> Path:
    """Finds the manifest: inside the package (a wheel), else beside it (a checkout or an editable install).

    `MUSIC_ZOO_MANIFEST` names another to use instead, such as one of presets of your own.

    Raises:
        ManifestError: it is in neither place.
    """
    if chosen := os.environ.get("MUSIC_ZOO_MANIFEST"):
        return Path(chosen).expanduser()
    package = Path(__file__).parents[1]
    for folder in (package, package.parent):
        if (folder / MANIFEST_NAME).is_file():
            return folder / MANIFEST_NAME
    raise ManifestError(
        f"expected {MANIFEST_NAME} in {package} or beside it, found neither; install music_zoo again"
    )


def read_manifest(path: str | Path | None = None) -> Manifest:
    """Reads and checks a manifest; by default the one that music_zoo came with.

    Raises:
        ManifestError: it is missing or not valid; names the preset, the field and what was expected.
    """
    path = manifest_path() if path is None else Path(path)
    try:
        return _parse(path.read_bytes())
    except OSError as error:
        raise ManifestError(f"cannot read the manifest {path}: {error.strerror}") from error
    except ManifestError as error:
        raise ManifestError(f"{path}: {error}") from None


def update_manifest(name: str, entry: PresetEntry, path: str | Path | None = None) -> Manifest:
    """Sets one preset in the manifest's file and returns the whole; a manifest that does not exist is begun.

    Change single fields with `manifest[name].model_copy(update={"results": ...})`.

    Raises:
        ManifestError: the file or the entry is not valid; nothing is written.
    """
    path = manifest_path() if path is None else Path(path)
    manifest = read_manifest(path) if path.exists() else Manifest(schema_version=1, presets={})
    manifest = manifest.model_copy(update={"presets": {**manifest, name: entry}})
    manifest.write(path)
    return manifest


def _parse(data: bytes) -> Manifest:
    try:
        parse_json(data)  # pydantic lets repeated keys pass
    except ValueError as error:
        raise ManifestError(f"not valid JSON: {error}") from error
    with _manifest_errors():
        return Manifest.model_validate_json(data)


@contextmanager
def _manifest_errors() -> Iterator[None]:
    try:
        yield
    except ValidationError as error:
        raise ManifestError(_explain(error)) from None
    except PydanticSerializationError as error:  # half of a surrogate pair, which is no character
        raise ManifestError(str(error)) from None


def _explain(error: ValidationError) -> str:
    """Says of the first problem: which preset, which field, what was expected, what came."""
    first, *others = error.errors(include_url=False)
    where, path = "", [str(key) for key in first["loc"]]
    if path[-1:] == ["[key]"]:  # pydantic's sign for "the name itself": the mapping is at fault
        path = path[:-2]
    if len(path) > 1 and path[0] == "presets":
        where, path = f"preset {path[1]!r}, ", path[2:]
    where += f"field '{'/'.join(path)}'" if path else "the whole"
    problem = first["msg"].replace("Input should be", "expected")
    came = "" if first["type"] == "missing" else f", got {reprlib.repr(first['input'])}"
    return f"{where}: {problem}{came}" + (f" (and {len(others)} more)" if others else "")
