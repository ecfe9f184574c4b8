"""The list of presets, `weights_manifest.json`: what each is, where its files come from, what it scores.

The dataclasses below are the schema, and the only one (`hub/schema.py` says how they are read).
`music_zoo.list_models()` imports this module, so it needs nothing but the standard library.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import urlsplit

from music_zoo.errors import ManifestError
from music_zoo.hub.files import PRESET_FILES, parse_json, write_atomically
from music_zoo.hub.schema import Rule, SchemaError, read, to_json

MANIFEST_NAME = "weights_manifest.json"


def _matches(pattern: str, expected: str) -> Rule:
    return Rule(expected, lambda text: re.fullmatch(pattern, text, re.ASCII) is not None)


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


_POSITIVE = Rule("a number above zero", lambda number: number > 0)

Count = Annotated[int, _POSITIVE]
Text = Annotated[str, Rule("a text that is not empty", lambda text: bool(text.strip()))]
PresetName = Annotated[str, _matches("[a-z0-9]+(-[a-z0-9]+)*", "a preset name such as 'resnet-fma'")]
FileName = Annotated[
    str,
    _matches("[a-z0-9_]+([.-][a-z0-9_]+)*", "a plain lower-case file name such as 'config.json', no path"),
]
Sha256 = Annotated[str, _matches("[0-9a-f]{64}", "a sha256 of 64 lower-case hexadecimal digits")]
Revision = Annotated[str, _matches("[0-9a-f]{40}", "a commit of 40 lower-case hexadecimal digits")]
RepoId = Annotated[
    str, _matches(r"[a-zA-Z0-9][\w.-]{0,95}/[a-zA-Z0-9][\w.-]{0,95}", "a Hub repository such as 'org/name'")
]
Url = Annotated[str, Rule("an https address", is_safe_url)]
Labels = Annotated[
    tuple[Text, ...], Rule("labels, none of them twice", lambda labels: 0 < len(labels) == len(set(labels)))
]
Metrics = Mapping[Text, float]


@dataclass(frozen=True)
class FileRecord:
    """The size in bytes and the sha256 that a file must have."""

    size: Count
    sha256: Sha256

    @classmethod
    def of(cls, path: Path) -> "FileRecord":
        """Measures a file.

        Raises:
            OSError: the file cannot be read.
        """
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            return cls(size=file.tell(), sha256=digest)


@dataclass(frozen=True)
class BundledSource:
    """The files lie in the package, under `music_zoo/presets/<name>`."""

    kind: ClassVar[str] = "bundled"

    def __str__(self) -> str:
        """Says where, for messages."""
        return "bundled in the package"


@dataclass(frozen=True)
class HubSource:
    """The files lie in a repository of the Hugging Face Hub, at one commit."""

    kind: ClassVar[str] = "hub"
    repo: RepoId
    revision: Revision

    def __str__(self) -> str:
        """The reference that gives these very files again."""
        return f"hf://{self.repo}@{self.revision}"


@dataclass(frozen=True)
class UrlSource:
    """The files lie at `<base>/<file name>`."""

    kind: ClassVar[str] = "url"
    base: Url

    def __str__(self) -> str:
        """The address, for messages."""
        return self.base


Source = BundledSource | HubSource | UrlSource


@dataclass(frozen=True)
class Result:
    """What a preset scores on one split of one data set, and the command that reproduces it.

    `uncalibrated` holds the same metrics computed before calibration, where they differ.
    """

    dataset: Text
    split: Text
    examples: Count
    metrics: Metrics
    command: Text
    uncalibrated: Metrics = field(default_factory=dict)
    note: Text = ""


@dataclass(frozen=True)
class PresetEntry:
    """All that the manifest says of one preset; `sample_rate` is in Hz."""

    description: Text
    architecture: Text
    task: Literal["single_label", "multi_label"]
    labels: Labels
    sample_rate: Count
    window_seconds: Annotated[float, _POSITIVE]
    parameters: Count
    license: Text
    training_data: Text
    limits: Text
    sources: Annotated[tuple[Source, ...], Rule("at least one source", bool)]
    files: Annotated[
        Mapping[FileName, FileRecord],
        Rule(f"the files {', '.join(PRESET_FILES)}", lambda files: files.keys() >= set(PRESET_FILES)),
    ]
    results: tuple[Result, ...]
    citation: Text = ""
    training_command: Text = ""


@dataclass(frozen=True)
class Manifest(Mapping[str, PresetEntry]):
    """The presets by name; a read-only mapping."""

    schema_version: Annotated[int, Rule("1, the version that this music_zoo reads", lambda it: it == 1)]
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
        """Writes the manifest in one step, checked as if it were read, presets in the order of their names.

        Raises:
            ManifestError: an entry is not valid; nothing is written.
            OSError: the file cannot be written.
        """
        data = to_json(self)
        _parse(data)
        ordered = {"schema_version": data["schema_version"], "presets": dict(sorted(data["presets"].items()))}
        write_atomically(path, (json.dumps(ordered, indent=2, ensure_ascii=False) + "\n").encode())


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
        return _parse(parse_json(path.read_bytes()))
    except OSError as error:
        raise ManifestError(f"cannot read the manifest {path}: {error.strerror}") from error
    except ValueError as error:
        raise ManifestError(f"{path} is not valid JSON: {error}") from error
    except ManifestError as error:
        raise ManifestError(f"{path}: {error}") from None


def update_manifest(name: str, entry: PresetEntry, path: str | Path | None = None) -> Manifest:
    """Sets one preset in the manifest's file and returns the whole; a manifest that does not exist is begun.

    Change single fields with `dataclasses.replace(manifest[name], results=...)`.

    Raises:
        ManifestError: the file or the entry is not valid; nothing is written.
    """
    path = manifest_path() if path is None else Path(path)
    presets = read_manifest(path).presets if path.exists() else {}
    manifest = Manifest(schema_version=1, presets={**presets, name: entry})
    manifest.write(path)
    return manifest


def _parse(data: Any) -> Manifest:
    try:
        return read(Manifest, data)
    except SchemaError as error:
        where, path = "", error.path
        if len(path) > 1 and path[0] == "presets":
            where, path = f"preset {path[1]!r}, ", path[2:]
        where += f"field '{'/'.join(path)}'" if path else "the whole"
        raise ManifestError(f"{where}: {error.problem}") from None
