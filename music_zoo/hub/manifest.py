"""The list of presets, `weights_manifest.json`: what each is, where its files come from, what it scores.

The pydantic models below are the schema, and the only one; `Manifest.model_json_schema()` gives it to other
tools. Building one from wrong values raises `pydantic.ValidationError`; reading and writing a manifest raise
`ManifestError`. Change single fields with `entry.model_copy(update={"results": ...})`: it checks nothing, but
what the copy is put into does, at the latest `update_manifest` and `Manifest.write`.

`music_zoo.list_models()` imports this module, so it needs nothing but pydantic and the standard library.
"""

import hashlib
import re
import reprlib
import textwrap
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_serializer
from pydantic_core import PydanticCustomError, PydanticSerializationError

from music_zoo.errors import ManifestError
from music_zoo.hub.files import PRESET_FILES, parse_json, write_atomically

MANIFEST_NAME = "weights_manifest.json"

#: `organisation/repository` of the Hugging Face Hub.
REPO_PATTERN = r"[a-zA-Z0-9][\w.-]{0,95}/[a-zA-Z0-9][\w.-]{0,95}"

_TEXT_WIDTH = 100


def is_safe_url(url: str) -> bool:
    """Tells whether files may be fetched from `url`: https, or http on this very machine."""
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises ValueError if it is no number
    except ValueError:
        return False
    if not parts.hostname or parts.username is not None or re.search(r"[^!-~]", url):
        return False
    return parts.scheme == "https" or (
        parts.scheme == "http" and parts.hostname in ("127.0.0.1", "::1", "localhost")
    )


def _rule(expected: str, holds: Callable[[Any], object]) -> AfterValidator:
    """Refuses values for which `holds` is not true; `expected` completes pydantic's usual sentence."""

    def check(value: Any) -> Any:
        if not holds(value):
            raise PydanticCustomError("rule", "Input should be {expected}", {"expected": expected})
        return value

    return AfterValidator(check)


def _matches(pattern: str, expected: str) -> AfterValidator:
    return _rule(expected, re.compile(pattern, re.ASCII).fullmatch)


Count = Annotated[int, Field(gt=0)]
Text = Annotated[str, _rule("a text that is not empty", str.strip)]
PresetName = Annotated[str, _matches("[a-z0-9]+(-[a-z0-9]+)*", "a preset name such as 'resnet-fma'")]
FileName = Annotated[
    str,
    _matches("[a-z0-9_]+([.-][a-z0-9_]+)*", "a plain lower-case file name such as 'config.json', no path"),
]
Sha256 = Annotated[str, _matches("[0-9a-f]{64}", "a sha256 of 64 lower-case hexadecimal digits")]
Revision = Annotated[str, _matches("[0-9a-f]{40}", "a commit of 40 lower-case hexadecimal digits")]
RepoId = Annotated[str, _matches(REPO_PATTERN, "a Hub repository such as 'org/name'")]
Url = Annotated[str, _rule("an https address", is_safe_url)]
Labels = Annotated[
    tuple[Text, ...], _rule("labels, none of them twice", lambda labels: 0 < len(labels) == len(set(labels)))
]
Metrics = Mapping[Text, float]


class _Model(BaseModel):
    """What all parts of the schema share: nothing is converted, nothing unknown is let through."""

    model_config = ConfigDict(
        frozen=True,
        strict=True,
        extra="forbid",
        allow_inf_nan=False,
        revalidate_instances="always",  # `model_copy` checks nothing, so what holds a copy does
    )

    @model_serializer(mode="wrap")
    def _leave_out_empty_options(self, serialize: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        fields = type(self).model_fields
        return {name: value for name, value in serialize(self).items() if value or fields[name].is_required()}


class FileRecord(_Model):
    """The size in bytes and the sha256 that a file must have."""

    size: Count
    sha256: Sha256

    @classmethod
    def of(cls, path: Path) -> "FileRecord":
        """Measures a file; also an empty one, which no manifest may list.

        Raises:
            OSError: the file cannot be read.
        """
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            return cls.model_construct(size=file.tell(), sha256=digest)


class BundledSource(_Model):
    """The files lie in the package, under `music_zoo/presets/<name>`."""

    kind: Literal["bundled"] = "bundled"

    def __str__(self) -> str:
        """Says where, for messages."""
        return "bundled in the package"


class HubSource(_Model):
    """The files lie in a repository of the Hugging Face Hub, at one commit."""

    kind: Literal["hub"] = "hub"
    repo: RepoId
    revision: Revision

    def __str__(self) -> str:
        """The reference that gives these very files again."""
        return f"hf://{self.repo}@{self.revision}"


class UrlSource(_Model):
    """The files lie at `<base>/<file name>`."""

    kind: Literal["url"] = "url"
    base: Url

    def __str__(self) -> str:
        """The address, for messages."""
        return self.base


Source = Annotated[BundledSource | HubSource | UrlSource, Field(discriminator="kind")]


class Result(_Model):
    """What a preset scores on one split of one data set, and the command that reproduces it.

    `uncalibrated` holds the same metrics computed before calibration, where they differ.
    """

    dataset: Text
    split: Text
    examples: Count
    metrics: Metrics
    command: Text
    uncalibrated: Metrics = Field(default_factory=dict)
    note: str = ""

    @property
    def headline(self) -> str:
        """The main metric in words, "fma-small test: 53.1 % accuracy"; all metrics if none is known."""
        match self.metrics:
            case {"accuracy": value}:
                score = f"{100 * value:.1f} % accuracy"
            case {"roc_auc": value}:
                score = f"ROC-AUC {value:.3f}"
            case others:
                score = ", ".join(f"{name} {value:.3f}" for name, value in others.items()) or "no metric"
        return f"{self.dataset} {self.split}: {score}"

    def to_text(self) -> str:
        """Returns a table, calibrated beside uncalibrated, and below it the command on a line of its own."""
        width = max(map(len, self.metrics), default=0)
        rows = [f"{self.dataset} {self.split}, {self.examples} examples"]
        if self.metrics:
            rows.append(f"  {'':{width}}  calibrated  uncalibrated")
        for name, value in self.metrics.items():
            rows.append(f"  {name:{width}}{value:12.4f}{self.uncalibrated.get(name, value):14.4f}")
        if self.note:
            rows.append(textwrap.fill(self.note, _TEXT_WIDTH, initial_indent="  ", subsequent_indent="  "))
        return "\n".join([*rows, f"  $ {self.command}"])


class PresetEntry(_Model):
    """All that the manifest says of one preset; `sample_rate` is in Hz."""

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
    sources: Annotated[tuple[Source, ...], _rule("at least one source", bool)]
    files: Annotated[
        Mapping[FileName, FileRecord],
        _rule(f"the files {', '.join(PRESET_FILES)}", lambda files: files.keys() >= set(PRESET_FILES)),
    ]
    results: tuple[Result, ...]
    citation: str = ""
    training_command: str = ""

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
            blocks.append(f"trained with\n  $ {self.training_command}")
        return "\n\n".join(blocks)


class Manifest(_Model, Mapping[str, PresetEntry]):
    """The presets by name; a read-only mapping."""

    schema_version: Annotated[int, _rule("1, the version that this music_zoo reads", lambda it: it == 1)]
    presets: Mapping[PresetName, PresetEntry]

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

    Raises:
        ManifestError: it is in neither place.
    """
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
