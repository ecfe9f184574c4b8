"""From a preset's name to a folder of its files: from the package, the Hub, an address, or its authors.

The files that `fetch` returns have the sizes and the sha256 of the manifest, however they came, or are
converted from a file that has. A download gets its final name only after it was checked, so processes may
fetch the same preset at the same time.
"""

import errno
import hashlib
import http.client
import os
import re
import shutil
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

from music_zoo.errors import PresetError
from music_zoo.files import temporary_beside
from music_zoo.hub.files import CONFIG_FILE, GOLDEN_FILE, WEIGHTS_FILE
from music_zoo.hub.manifest import PresetEntry
from music_zoo.hub.schema import (
    REPO_PATTERN,
    BundledSource,
    FileRecord,
    HubSource,
    OriginalSource,
    UrlSource,
    is_safe_url,
)

BUNDLED_PRESETS = Path(__file__).parents[1] / "presets"

Progress = Callable[[str, int, int], None]  # file name, bytes done, bytes in all (0: not known)

MAX_BYTES = 1 << 30  # of a file whose size is not known

_CHUNK = 1 << 20
_DISK_ERRORS = {
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOSPC,
    errno.EDQUOT,
    errno.ENOTDIR,
    errno.EEXIST,
    errno.EFBIG,
}
_BUSY = {429, 500, 502, 503, 504}
_PATIENCE = 30.0  # seconds that a busy Hub may ask us to wait
_REFERENCE = re.compile(rf"hf://(?P<repo>{REPO_PATTERN})(@(?P<revision>[\w./-]+))?", re.ASCII)


@dataclass(frozen=True)
class HubSnapshot:
    """The files of a Hub repository at one commit; `str(source)` is the reference that pins it."""

    folder: Path
    source: HubSource


def fetch(
    name: str,
    entry: PresetEntry,
    cache_dir: str | Path | None = None,
    *,
    timeout: float = 30.0,
    progress: Progress | None = None,
) -> Path:
    """Gets the files of a preset from the first of its sources that has them intact.

    Originals are converted once; what came of it is kept, they are not. With `MUSIC_ZOO_ORIGINALS`, a folder
    or an https address, they are taken from there instead of from their authors: each at its `path`.

    Args:
        name: the preset's name in the manifest.
        entry: what the manifest says of it.
        cache_dir: where downloads are kept; by default those from the Hub in Hugging Face's own cache
            (`HF_HOME`), others in `MUSIC_ZOO_CACHE` or the user's cache folder.
        timeout: seconds that an address may be silent.
        progress: called with file name, bytes done and bytes in all (0: not known) while an address is read.

    Returns:
        The folder that holds all of `entry.files`, each with its recorded size and sha256, or the files made
        of an original.

    Raises:
        PresetError: no source has them; says of each what was wrong.
    """
    failures = []
    for source in entry.sources:
        try:
            match source:
                case BundledSource():
                    folder = BUNDLED_PRESETS / name
                    verify(folder, entry.files)
                    return folder
                case HubSource():
                    return _fetch_hub(source, entry.files, cache_dir)
                case UrlSource():
                    return _fetch_url(name, source, entry.files, cache_dir, timeout, progress)
                case OriginalSource():
                    return _fetch_original(name, source, entry.labels, cache_dir, timeout, progress)
        except PresetError as error:
            failures.append(f"\n  {source}: {error}")
    raise PresetError(f"no source of the preset {name!r} gave its files intact; tried:{''.join(failures)}")


def fetch_hub_reference(reference: str, cache_dir: str | Path | None = None) -> HubSnapshot:
    """Gets a preset that no manifest lists, from "hf://org/name" or "hf://org/name@revision".

    The revision is a commit, a tag or a branch (default: main). All files are of one commit, even if the
    branch moves meanwhile. They must have the hashes that the Hub says they have; no manifest says more.

    Returns:
        The folder, and the source with the commit: write `str(source)` down to get the very same files again.

    Raises:
        PresetError: the reference is malformed, or the Hub has no such preset.
    """
    match = _REFERENCE.fullmatch(reference)
    if match is None:
        raise PresetError(f"expected 'hf://org/name' or 'hf://org/name@revision', got {reference!r}")
    repo, revision = match["repo"], match["revision"] or "main"
    config = _download_whole(repo, revision, CONFIG_FILE, cache_dir)
    source = HubSource(
        repo=repo, revision=config.parent.name
    )  # the client's layout: snapshots/<commit>/<file>
    _download_whole(repo, source.revision, WEIGHTS_FILE, cache_dir)
    if not _is_known_absent(source, GOLDEN_FILE, cache_dir):  # a commit that lacks it will not get it
        try:
            _download_whole(repo, source.revision, GOLDEN_FILE, cache_dir)
        except PresetError:
            if not _is_known_absent(source, GOLDEN_FILE, cache_dir):
                raise
    return HubSnapshot(config.parent, source)


def verify(folder: Path, files: Mapping[str, FileRecord]) -> None:
    """Checks that a folder holds each file with its recorded size and sha256.

    Raises:
        PresetError: names the first file that is missing or differs, and how.
    """
    for file, record in files.items():
        path = folder / file
        try:
            found = path.stat().st_size if path.is_file() else None
            if found is None:
                raise PresetError(f"{path} is missing")
            if found != record.size:
                raise PresetError(
                    f"{path} is incomplete or altered: expected {record.size} bytes, found {found}"
                )
            if (measured := FileRecord.of(path)) != record:
                raise PresetError(
                    f"{path} is altered: expected sha256 {record.sha256}, found {measured.sha256}"
                )
        except OSError as error:
            raise PresetError(f"{path} cannot be read: {error.strerror}") from error


def cache_folder() -> Path:
    """The folder of downloaded presets: `MUSIC_ZOO_CACHE`, else music_zoo in the user's cache folder.

    Raises:
        PresetError: this user has no home folder.
    """
    if chosen := os.environ.get("MUSIC_ZOO_CACHE"):
        return Path(chosen).expanduser()
    try:
        if sys.platform == "win32":
            base = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
        elif sys.platform == "darwin":
            base = Path.home() / "Library" / "Caches"
        else:
            base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    except RuntimeError as error:
        raise PresetError("no home folder for the cache; set MUSIC_ZOO_CACHE to a folder") from error
    return Path(base) / "music_zoo"


def _fetch_hub(source: HubSource, files: Mapping[str, FileRecord], cache_dir: str | Path | None) -> Path:
    for file, record in files.items():
        path = _download_from_hub(source.repo, source.revision, file, cache_dir)
        try:
            verify(path.parent, {file: record})
        except PresetError as problem:  # the cached copy may have gone bad: get it once more
            try:
                _download_from_hub(source.repo, source.revision, file, cache_dir, force=True)
                verify(path.parent, {file: record})
            except PresetError as error:
                raise PresetError(f"{problem}; getting it once more did not help: {error}") from error
    return path.parent


def _download_whole(repo: str, revision: str, file: str, cache_dir: str | Path | None) -> Path:
    """Gets one file that is what the Hub says it is, from the Hub once more if the cached copy is not."""
    path = _download_from_hub(repo, revision, file, cache_dir)
    if not _is_as_named(path):
        path = _download_from_hub(repo, path.parent.name, file, cache_dir, force=True)
        if not _is_as_named(path):
            raise PresetError(f"{file} of hf://{repo}@{revision} is altered: its hash is not the Hub's")
    return path


def _is_as_named(path: Path) -> bool:
    """Tells whether a file of Hugging Face's cache has the hash that the client stores it under.

    The client names files by what the Hub says of them: the sha256 in LFS, else the git blob id. Where it
    cannot make symbolic links, names are plain ones, and nothing is known.
    """
    name = path.resolve().name
    if len(name) == 64:
        return FileRecord.of(path).sha256 == name
    data = path.read_bytes() if len(name) == 40 else b""
    return len(name) != 40 or hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest() == name


def _download_from_hub(
    repo: str, revision: str, file: str, cache_dir: str | Path | None, *, force: bool = False
) -> Path:
    """Gets one file with Hugging Face's client, which caches it and honours the user's HF_* settings."""
    for attempt in range(3):
        try:
            from huggingface_hub import hf_hub_download

            where = _hub_cache(cache_dir)
            return Path(hf_hub_download(repo, file, revision=revision, cache_dir=where, force_download=force))
        except Exception as error:  # the client's own, httpx's or requests', by its version
            # What the client itself does not try again.
            if attempt < 2 and (wait := _wait_before_retry(error, 2.0**attempt)) is not None:
                force = force or wait == 0  # not to go on from what is wrong
                time.sleep(wait)
                continue
            if _is_disk_error(error):
                problem = (
                    f"Hugging Face's cache cannot be written: {error}; set HF_HOME to a writable folder "
                    "that has room"
                )
            else:
                problem = f"{file} of hf://{repo}@{revision}: {str(error).strip() or type(error).__name__}"
            raise PresetError(problem) from error
    raise AssertionError("the last attempt returns or raises")


def _wait_before_retry(error: Exception, default: float) -> float | None:
    """Returns the seconds to wait where another attempt may help, 0 if from the start; else None."""
    response = getattr(error, "response", None)
    if type(error) is OSError and error.errno is None:  # so the client says that the size is wrong
        return 0.0
    if response is None:  # an open connection that broke, or nothing of the network
        return None if isinstance(error, OSError | ValueError) else default
    if response.status_code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:  # more was there than should be
        return 0.0
    if response.status_code not in _BUSY:
        return None
    asked = response.headers.get("Retry-After", "")
    wait = max(float(asked), 0.1) if asked.isdecimal() else default
    return wait if wait <= _PATIENCE else None


def _is_known_absent(source: HubSource, file: str, cache_dir: str | Path | None) -> bool:
    """Tells "the commit has no such file" from "not reachable": the client raises the same class for both."""
    from huggingface_hub import _CACHED_NO_EXIST, try_to_load_from_cache

    found = try_to_load_from_cache(source.repo, file, _hub_cache(cache_dir), source.revision)
    return found is _CACHED_NO_EXIST


def _hub_cache(cache_dir: str | Path | None) -> Path | None:
    return None if cache_dir is None else Path(cache_dir) / "hub"


def _fetch_url(
    name: str,
    source: UrlSource,
    files: Mapping[str, FileRecord],
    cache_dir: str | Path | None,
    timeout: float,
    progress: Progress | None,
) -> Path:
    # Named by its contents: another version of the preset gets another folder.
    folder = _cached_preset(name, "".join(sorted(record.sha256 for record in files.values())), cache_dir)
    for file, record in files.items():
        try:
            verify(folder, {file: record})
        except PresetError:  # not there yet, or gone bad
            _download(f"{source.base.rstrip('/')}/{file}", folder / file, record, timeout, progress)
    return folder


def _cached_preset(name: str, contents: str, cache_dir: str | Path | None) -> Path:
    """The cache's folder for a preset of these contents: another version of it gets another folder."""
    root = cache_folder() if cache_dir is None else Path(cache_dir)
    return root / "presets" / name / hashlib.sha256(contents.encode()).hexdigest()[:16]


def _fetch_original(
    name: str,
    source: OriginalSource,
    labels: tuple[str, ...],
    cache_dir: str | Path | None,
    timeout: float,
    progress: Progress | None,
) -> Path:
    from music_zoo import __version__  # another version may convert in another way
    from music_zoo.hub import originals

    folder = _cached_preset(name, f"{source.model_dump_json()} {labels} {__version__}", cache_dir)
    if originals.is_intact(folder):
        return folder
    work = temporary_beside(folder)
    with _disk_errors(folder.parent):
        try:
            work.mkdir(parents=True)
            files = []
            for number, original in enumerate(source.originals):
                file = work / f"{number}-{original.path.rpartition('/')[2]}"
                url = originals.address(original)
                with _network_errors(url):
                    _save(url, file, None if file.suffix == ".zip" else original.size, timeout, progress)
                files.append(originals.pinned(original, file, url))
            originals.convert_to_preset(name, source, labels, files, work / "preset")
            originals.put_in_place(work / "preset", folder)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    return folder


def _download(url: str, path: Path, record: FileRecord, timeout: float, progress: Progress | None) -> None:
    with _disk_errors(path.parent), _network_errors(url):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = temporary_beside(path)
        try:
            _save(url, temporary, record.size, timeout, progress, path.name)
            if (measured := FileRecord.of(temporary)) != record:
                raise PresetError(f"{url} is not the file expected: got {measured}, expected {record}")
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def _save(
    url: str, path: Path, size: int | None, timeout: float, progress: Progress | None, name: str = ""
) -> None:
    with path.open("xb") as file:
        for chunk in _chunks(url, size, timeout):
            file.write(chunk)
            if progress is not None:
                progress(name or path.name, file.tell(), size or 0)


def _chunks(url: str, size: int | None, timeout: float) -> Iterator[bytes]:
    """Reads an address, which must give exactly `size` bytes if that is known; never takes more."""
    with urllib.request.build_opener(_SafeRedirects).open(url, timeout=timeout) as response:
        announced = response.headers.get("Content-Length", "")
        if size is not None and announced not in ("", str(size)):
            raise PresetError(f"{url} is not the file expected: {announced} bytes long instead of {size}")
        least = size or (int(announced) if announced.isdecimal() else 0)
        most = size or MAX_BYTES
        done = 0
        while chunk := response.read(min(_CHUNK, most + 1 - done)):
            done += len(chunk)
            if done > most:
                raise PresetError(f"{url} is not the file expected: longer than {most} bytes")
            yield chunk
    if done < least:
        raise PresetError(f"{url} broke off: expected {least} bytes, {done} came; try again")


@contextmanager
def _disk_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if not _is_disk_error(error):
            raise
        raise PresetError(
            f"the cache {folder} cannot be written: {error.strerror}; "
            "set MUSIC_ZOO_CACHE to a folder that you may write to and that has room"
        ) from error


@contextmanager
def _network_errors(url: str) -> Iterator[None]:
    try:
        yield
    except (OSError, http.client.HTTPException) as error:
        if _is_disk_error(error):
            raise
        raise PresetError(f"{url}: {error or type(error).__name__}") from error


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    """Refuses to be led from https to an address that the manifest could not name."""

    def redirect_request(self, req, fp, code, msg, headers, newurl):
        """Follows if the new address is safe."""
        if not is_safe_url(newurl):
            raise urllib.error.HTTPError(
                newurl, code, "redirected to an address that is not https", headers, fp
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _is_disk_error(error: BaseException) -> bool:
    return isinstance(error, OSError) and error.errno in _DISK_ERRORS
