"""What the manifest is made of: checked values, files and their pins, and the kinds of sources.

Needs nothing but pydantic and the standard library, as `music_zoo.hub.manifest` does.
"""

import hashlib
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_serializer, model_validator
from pydantic_core import PydanticCustomError

#: `organisation/repository` of the Hugging Face Hub.
REPO_PATTERN = r"[a-zA-Z0-9][\w.-]{0,95}/[a-zA-Z0-9][\w.-]{0,95}"


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


def expected(what: str) -> PydanticCustomError:
    """An error whose text completes pydantic's usual sentence."""
    return PydanticCustomError("rule", "Input should be {expected}", {"expected": what})


def rule(what: str, holds: Callable[[Any], object]) -> AfterValidator:
    """Refuses values for which `holds` is not true; `what` says what was expected."""

    def check(value: Any) -> Any:
        if not holds(value):
            raise expected(what)
        return value

    return AfterValidator(check)


def text(pattern: str, what: str) -> Any:
    """A type of texts that are of the pattern, in the JSON Schema, too."""
    extra = {"pattern": f"^({pattern})$"}
    return Annotated[str, rule(what, re.compile(pattern, re.ASCII).fullmatch), Field(json_schema_extra=extra)]


Count = Annotated[int, Field(gt=0)]
Text = Annotated[str, rule("a text that is not empty", str.strip)]
PresetName = text("[a-z0-9]+(-[a-z0-9]+)*", "a preset name such as 'resnet-fma'")
FileName = text("[a-z0-9_]+([.-][a-z0-9_]+)*", "a plain lower-case file name such as 'config.json', no path")
Sha256 = text("[0-9a-f]{64}", "a sha256 of 64 lower-case hexadecimal digits")
Revision = text("[0-9a-f]{40}", "a commit of 40 lower-case hexadecimal digits")
GitBlob = text("[0-9a-f]{40}", "a git blob id of 40 lower-case hexadecimal digits")
MirrorPath = text(r"\w[\w.-]*(/\w[\w.-]*)*", "a relative path such as 'mtat/fcn/best_model.pth'")
RepoId = text(REPO_PATTERN, "a Hub repository such as 'org/name'")
Url = Annotated[str, rule("an https address", is_safe_url)]
Labels = Annotated[
    tuple[Text, ...], rule("labels, none of them twice", lambda labels: 0 < len(labels) == len(set(labels)))
]
Metrics = Mapping[Text, float]


class Part(BaseModel):
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


class FileRecord(Part):
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


class BundledSource(Part):
    """The files lie in the package, under `music_zoo/presets/<name>`."""

    kind: Literal["bundled"] = "bundled"

    def __str__(self) -> str:
        """Says where, for messages."""
        return "bundled in the package"


class HubSource(Part):
    """The files lie in a repository of the Hugging Face Hub, at one commit."""

    kind: Literal["hub"] = "hub"
    repo: RepoId
    revision: Revision

    def __str__(self) -> str:
        """The reference that gives these very files again."""
        return f"hf://{self.repo}@{self.revision}"


class UrlSource(Part):
    """The files lie at `<base>/<file name>`."""

    kind: Literal["url"] = "url"
    base: Url

    def __str__(self) -> str:
        """The address, for messages."""
        return self.base


class OriginalFile(Part):
    """A file that the authors of a network published, pinned by its sha256, its git blob id, or both.

    A git blob id (what `git hash-object` prints) is known of a file in a repository without having it; it
    covers the length, so `size` may be unknown. Of an archive (`.zip`), all pins are of the one file in it
    that is wanted.

    Attributes:
        url: where the authors keep it, at one commit.
        path: where it lies in a copy of all originals, see `music_zoo.hub.sources.fetch`.
    """

    url: Url
    path: MirrorPath
    size: Count | None = None
    sha256: Sha256 | None = None
    git_blob: GitBlob | None = None

    @model_validator(mode="after")
    def _is_pinned(self) -> "OriginalFile":
        if not (self.sha256 or self.git_blob):
            raise expected("a file with its sha256 or its git_blob")
        return self

    @property
    def pins(self) -> str:
        """What is known of the file, for messages."""
        known = {"size": self.size, "sha256": self.sha256, "git blob": self.git_blob}
        return " ".join(f"{name}={value!r}" for name, value in known.items() if value)

    def is_pinned_as(self, data: bytes) -> bool:
        """Tells whether these bytes are the file."""
        blob = hashlib.sha1(b"blob %d\0" % len(data), usedforsecurity=False)
        blob.update(data)
        return (
            self.size in (None, len(data))
            and self.sha256 in (None, hashlib.sha256(data).hexdigest())
            and self.git_blob in (None, blob.hexdigest())
        )


class OriginalSource(Part):
    """The authors' own checkpoint, converted on the user's machine.

    Attributes:
        originals: its files; most have one, some a second with the head.
        conversion: whose tensor names they have: a key of `music_zoo.hub.convert.TABLES`.
        config: the network: a name in `music_zoo.models.named_configs()`.
    """

    kind: Literal["original"] = "original"
    originals: Annotated[tuple[OriginalFile, ...], rule("at least one file", bool)]
    conversion: Text
    config: Text

    def __str__(self) -> str:
        """The addresses, for messages."""
        return ", ".join(original.url for original in self.originals)


Source = Annotated[BundledSource | HubSource | UrlSource | OriginalSource, Field(discriminator="kind")]
