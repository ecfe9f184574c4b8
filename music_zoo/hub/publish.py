"""From a preset's folder to a repository of the Hugging Face Hub, and the commit back into the manifest."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from music_zoo.errors import PresetError
from music_zoo.hub import card
from music_zoo.hub.files import PRESET_FILES, parse_json
from music_zoo.hub.manifest import PresetEntry
from music_zoo.hub.schema import BundledSource, FileRecord, HubSource
from music_zoo.hub.sources import verify

LABELS_FILE, CARD_FILE = "labels.txt", "README.md"

_NOT_YET = "0" * 40


@dataclass(frozen=True)
class Publication:
    """What a repository is to hold.

    Attributes:
        name: of the preset.
        entry: what the manifest says of it, or is to say.
        repo: `organisation/repository`.
        files: content, or the file that holds it, by name in the repository.
    """

    name: str
    entry: PresetEntry
    repo: str
    files: Mapping[str, bytes | Path]

    @property
    def sizes(self) -> dict[str, int]:
        """Bytes of each file."""
        return {
            name: len(it) if isinstance(it, bytes) else it.stat().st_size for name, it in self.files.items()
        }


def prepare(
    name: str, entry: PresetEntry, folder: Path, repo: str, reliability: Path | None = None
) -> Publication:
    """Lays out what is to be published; sends nothing.

    Args:
        name: of the preset.
        entry: what the manifest says of it.
        folder: of its files, which must be those of the entry.
        repo: `organisation/repository`.
        reliability: a reliability diagram (`music-zoo evaluate --reliability`) to show on its page.

    Raises:
        PresetError: files are missing or are not those of the entry.
    """
    if not entry.files:
        raise PresetError(
            f"{name} is its authors' checkpoint, converted on each user's machine: its address is theirs. To "
            "publish it, save it as a preset of its own, and give --card."
        )
    verify(folder, entry.files)
    picture = "" if reliability is None else f"reliability{reliability.suffix.lower()}"
    files: dict[str, bytes | Path] = {file: folder / file for file in entry.files}
    files[LABELS_FILE] = "".join(f"{label}\n" for label in entry.labels).encode()
    files[CARD_FILE] = card.model_card(name, entry, repo, picture).encode()
    if results := card.eval_results(entry):
        import yaml

        files[card.EVAL_RESULTS_FILE] = yaml.safe_dump(results, sort_keys=False).encode()
    if reliability is not None:
        files[picture] = reliability.read_bytes()
    return Publication(name, entry, repo, files)


def push(publication: Publication, *, private: bool = False) -> PresetEntry:
    """Sends the files in one commit, into a new repository or an existing one.

    Files of the repository that are the same already are not sent again; if all are, there is no commit.

    Args:
        publication: from `prepare`.
        private: makes a new repository a private one.

    Returns:
        The entry with the commit as a source, behind the package itself and before all others.

    Raises:
        PresetError: the Hub refuses, or cannot be reached; no commit was made.
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    repo = publication.repo
    operations = [
        CommitOperationAdd(file, content if isinstance(content, bytes) else str(content))
        for file, content in publication.files.items()
    ]
    try:
        api = HfApi(library_name="music_zoo")
        api.create_repo(repo, private=private or None, exist_ok=True)
        commit = api.create_commit(repo, operations, commit_message=f"{publication.name} by music_zoo")
    except Exception as error:  # the client's own, httpx's or requests', by its version
        status = getattr(getattr(error, "response", None), "status_code", None)
        advice = (
            "; log in (`hf auth login`, or HF_TOKEN) with a token that may write there"
            if status in (401, 403)
            else ""
        )
        raise PresetError(
            f"hf://{repo} was not published: {str(error).strip() or type(error).__name__}{advice}"
        ) from error
    return with_hub_source(publication.entry, HubSource(repo=repo, revision=commit.oid))


def with_hub_source(entry: PresetEntry, source: HubSource) -> PresetEntry:
    """Returns the entry with this source in the place of others on the Hub."""
    others = [it for it in entry.sources if not isinstance(it, HubSource)]
    bundled = [it for it in others if isinstance(it, BundledSource)]
    rest = [it for it in others if it not in bundled]
    return entry.model_copy(update={"sources": (*bundled, source, *rest)})


def new_entry(folder: Path, texts: Path, repo: str) -> tuple[str, PresetEntry]:
    """Describes a preset that no manifest lists: from its folder, and a file of what no program can know.

    Args:
        folder: of the preset; imports Keras to read it.
        texts: a JSON file of description, license, training_data, limits and, where there are any, citation,
            training_command and results.
        repo: where it is to go.

    Returns:
        Its name and its entry, whose commit is not known yet (zeros).

    Raises:
        PresetError: the folder is no preset, or texts are missing or not of the schema.
    """
    from music_zoo.zoo import load

    classifier = load(folder)
    try:
        known = parse_json(texts.read_bytes())
        facts = {
            "architecture": classifier.architecture,
            "task": classifier.task,
            "labels": classifier.labels,
            "sample_rate": classifier.sample_rate,
            "window_seconds": classifier.window,
            "parameters": classifier.count_params(),
            "sources": [{"kind": "hub", "repo": repo, "revision": _NOT_YET}],
            "files": {file: FileRecord.of(folder / file).model_dump() for file in PRESET_FILES},
        }
        return classifier.name, PresetEntry.model_validate_json(json.dumps({"results": [], **known, **facts}))
    except (OSError, TypeError, ValueError) as error:
        first = error.errors()[0] if isinstance(error, ValidationError) else None
        problem = f"{'/'.join(map(str, first['loc']))}: {first['msg']}" if first else error
        raise PresetError(f"{texts}: expected the texts of a manifest's entry as JSON: {problem}") from error
