"""A Hugging Face Hub on this machine, for tests: what the unmodified huggingface_hub client talks to.

It speaks the Hub's own endpoints, from memory: repositories (public, private, gated), uploads as regular
files and through LFS, commits, branches and tags, listings, and downloads with redirects to a second address,
as to the Hub's CDN. Any request can be made to go wrong, see `Fault`.
"""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

READER, WRITER = "hf_reader", "hf_writer"  # tokens: one may read what is private, the other may also write
LFS_SUFFIXES = (".safetensors", ".png")


class HubError(Exception):
    """An answer that is an error, with the code by which the client tells errors apart."""

    def __init__(self, status: int, code: str = "", message: str = "", **headers: str):
        super().__init__(status)
        self.status = status
        said = {"X-Error-Code": code, "X-Error-Message": message or code, **headers}
        self.headers = {name.replace("_", "-"): value for name, value in said.items() if value}


@dataclass
class Fault:
    """What goes wrong with requests that match; the first that matches is used, and used up.

    Attributes:
        on: Pattern of the request, such as `GET .*config.json`.
        kind: A status, such as `503`; `cut` (the connection, at half of the body), `flip` (a bit of the first
            byte), `short` or `long` (one byte less or more, announced so), or a function to call at half of
            the body.
        times: How often.
        retry_after: Seconds, of a status.
    """

    on: str
    kind: int | str | Callable[[], None]
    times: int = 1
    retry_after: int | None = None


@dataclass
class Repo:
    """A repository: commits, newest last, each of them all its files."""

    private: bool = False
    gated: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)

    def commit(self, files: dict[str, bytes], branch: str = "main") -> str:
        """Add a commit that holds these files, and return its 40 hexadecimal digits."""
        told = json.dumps([len(self.commits), {name: sha256(data) for name, data in files.items()}])
        commit = hashlib.sha1(told.encode()).hexdigest()
        self.commits[commit] = files
        self.refs[branch] = commit
        return commit

    def at(self, revision: str) -> tuple[str, dict[str, bytes]]:
        """Return the commit that a revision stands for, and its files."""
        commit = self.refs.get(revision, revision)
        if commit not in self.commits:
            raise HubError(404, "RevisionNotFound")
        return commit, self.commits[commit]


@dataclass
class Hub:
    """What the server knows, and what it was asked."""

    address: str = ""
    cdn: str = ""
    repos: dict[str, Repo] = field(default_factory=dict)
    stored: dict[str, bytes] = field(default_factory=dict)  # LFS, by sha256
    faults: list[Fault] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    ranges: list[str] = field(default_factory=list)
    lock: threading.RLock = field(default_factory=threading.RLock)
    servers: list[ThreadingHTTPServer] = field(default_factory=list)
    is_running: bool = True

    def stop(self) -> None:
        """Answer nobody any more, over open connections neither."""
        self.is_running = False
        while self.servers:
            server = self.servers.pop()
            server.shutdown()
            server.server_close()

    def misbehave(self, on: str, kind: int | str | Callable[[], None], **more) -> None:
        """Let requests go wrong, see `Fault`."""
        self.faults.append(Fault(on, kind, **more))

    def new_repo(self, name: str, files: dict[str, bytes], **settings: bool) -> str:
        """Make a repository of one commit, and return the commit."""
        self.repos[name] = Repo(**settings, commits={}, refs={})
        return self.repos[name].commit(files)

    def settings(self, home, **more: str) -> dict[str, str]:
        """Return the environment of a client with its cache in `home`, to be set before it is imported."""
        return {
            "HF_ENDPOINT": self.address,
            "HF_HOME": str(home),
            "HF_HUB_DISABLE_XET": "1",  # another protocol, on another server
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "NO_PROXY": "127.0.0.1",
            **more,
        }


@contextmanager
def running_hub() -> Iterator[Hub]:
    """Start a Hub and its CDN on ports that are free; both have stopped at the end."""
    hub = Hub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    hub.servers = [ThreadingHTTPServer(("127.0.0.1", 0), handler) for _ in range(2)]
    hub.address, hub.cdn = (f"http://127.0.0.1:{server.server_port}" for server in hub.servers)
    threads = [threading.Thread(target=server.serve_forever, args=(0.02,)) for server in hub.servers]
    for thread in threads:
        thread.start()
    try:
        yield hub
    finally:
        hub.stop()
        for thread in threads:
            thread.join()


def sha256(data: bytes) -> str:
    """The id of a file in LFS."""
    return hashlib.sha256(data).hexdigest()


def git_id(data: bytes) -> str:
    """The id of a regular file."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def _is_lfs(path: str) -> bool:
    return path.endswith(LFS_SUFFIXES)


_ROUTES: list[tuple[re.Pattern, Callable]] = []
_REPO = r"(?P<repo>[\w.-]+/[\w.-]+)"


def _route(pattern: str):
    def add(function: Callable) -> Callable:
        _ROUTES.append((re.compile(pattern.replace("<repo>", _REPO)), function))
        return function

    return add


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def handle(self) -> None:
        """Until the client hangs up, which it may do at any time."""
        with suppress(ConnectionError):
            super().handle()

    def do_GET(self) -> None:
        """Every method."""
        hub, self.fault, self.body = self.hub, None, self.read_body()
        if not hub.is_running:
            self.close_connection = True
            return
        self.path = unquote(self.path)
        asked = f"{self.command} {self.path.split('?')[0]}"
        with hub.lock:
            hub.requests.append(asked)
            hub.ranges += self.headers.get_all("Range", [])
            for fault in hub.faults:
                if fault.times and re.fullmatch(fault.on, asked):
                    fault.times -= 1
                    self.fault = fault.kind
                    break
        try:
            if isinstance(self.fault, int):
                wait = "" if fault.retry_after is None else str(fault.retry_after)
                code = {401: "RepoNotFound", 403: "GatedRepo", 404: "EntryNotFound"}.get(self.fault, "")
                raise HubError(self.fault, code, "told to", Retry_After=wait)
            for pattern, function in _ROUTES:
                if found := pattern.fullmatch(f"{self.command} {urlsplit(self.path).path}"):
                    with hub.lock:
                        answer = function(self, **found.groupdict())
                    break
            else:
                raise HubError(404, message=f"no such endpoint: {asked}")
            self.answer(*answer if isinstance(answer, tuple) else (200, json.dumps(answer).encode(), {}))
        except HubError as error:
            self.answer(error.status, json.dumps({"error": str(error)}).encode(), error.headers)
        except (KeyError, TypeError, ValueError) as error:  # a request that was not foreseen
            self.answer(400, json.dumps({"error": repr(error)}).encode(), {"X-Error-Message": repr(error)})

    do_HEAD = do_POST = do_PUT = do_DELETE = do_GET

    def read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        body = {
            "flip": lambda: bytes([body[0] ^ 1]) + body[1:],
            "short": lambda: body[:-1],
            "long": lambda: body + b"!",
        }.get(self.fault, lambda: body)()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        half = len(body) // 2
        self.wfile.write(body[:half])
        if self.fault == "cut":
            self.close_connection = True
            return
        if callable(self.fault):
            self.wfile.flush()
            self.fault()
        self.wfile.write(body[half:])

    def log_message(self, *_) -> None:
        pass

    @property
    def json(self) -> dict:
        return json.loads(self.body)

    def token(self) -> str:
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if token not in ("", READER, WRITER):
            raise HubError(401, message="Invalid credentials in Authorization header")
        return token

    def readable(self, repo: str) -> Repo:
        found = self.hub.repos.get(repo)
        if found is None or (found.private and not self.token()):
            raise HubError(401, "RepoNotFound")  # as the Hub, which does not tell what is private
        if found.gated and not self.token():
            raise HubError(401, "GatedRepo", "Access to this model is restricted. Please log in.")
        return found

    def writable(self, repo: str) -> Repo:
        self.may_write()
        return self.readable(repo)

    def may_write(self) -> None:
        if self.token() != WRITER:
            raise HubError(403 if self.token() else 401, message="this token may not write")

    # ---- repositories --------------------------------------------------------------------------------------

    @_route(r"GET /api/whoami-v2")
    def whoami(self):
        if not self.token():
            raise HubError(401, message="Invalid username or password.")
        return {"type": "user", "name": "tester", "orgs": [{"name": "org"}], "auth": {}}

    @_route(r"POST /api/repos/create")
    def create(self):
        self.may_write()
        name = f"{self.json['organization'] or 'tester'}/{self.json['name']}"
        answer = {"url": f"{self.hub.address}/{name}", "name": name, "id": name}
        if name in self.hub.repos:
            return 409, json.dumps(answer).encode(), {}
        private = self.json.get("private") or self.json.get("visibility") == "private"
        self.hub.new_repo(name, {".gitattributes": b"*.safetensors filter=lfs\n"}, private=private)
        return answer

    @_route(r"DELETE /api/repos/delete")
    def delete(self):
        self.may_write()
        del self.hub.repos[f"{self.json['organization']}/{self.json['name']}"]
        return {}

    @_route(r"GET /api/models/<repo>(/revision/(?P<revision>.+))?")
    def info(self, repo, revision):
        commit, files = self.readable(repo).at(revision or "main")
        siblings = [{"rfilename": name, "size": len(data)} for name, data in files.items()]
        return {"id": repo, "sha": commit, "siblings": siblings, "private": self.hub.repos[repo].private}

    @_route(r"GET /api/models/<repo>/refs")
    def list_refs(self, repo):
        refs = self.readable(repo).refs.items()
        listed = [{"name": name, "ref": f"refs/{name}", "targetCommit": commit} for name, commit in refs]
        return {
            "branches": [ref for ref in listed if ref["name"] == "main"],
            "tags": [ref for ref in listed if ref["name"] != "main"],
            "converts": [],
        }

    @_route(r"POST /api/models/<repo>/tag/(?P<revision>.+)")
    def tag(self, repo, revision):
        found = self.writable(repo)
        found.refs[self.json["tag"]] = found.at(revision)[0]
        return {}

    @_route(r"GET /api/models/<repo>/tree/(?P<revision>[^/]+)")
    def tree(self, repo, revision):
        _, files = self.readable(repo).at(revision)
        return [_listed(name, data) for name, data in files.items()]

    @_route(r"POST /api/models/<repo>/paths-info/(?P<revision>[^/]+)")
    def paths_info(self, repo, revision):
        _, files = self.readable(repo).at(revision)
        paths = parse_qs(self.body.decode())["paths"]  # the one body that is a form
        return [_listed(name, files[name]) for name in paths if name in files]

    # ---- uploads -------------------------------------------------------------------------------------------

    @_route(r"POST /api/validate-yaml")
    def validate(self):
        """Refuse metadata that is no mapping, or lacks what the Hub wants of evaluation results."""
        _, front, _ = self.json["content"].split("---\n", 2)
        data = yaml.safe_load(front)
        problems = [] if isinstance(data, dict) else ["metadata must be a mapping"]
        for model in data.get("model-index", ()):
            for result in model["results"]:
                for part, key in (("task", "type"), ("dataset", "type"), ("dataset", "name")):
                    if not result[part].get(key):
                        problems.append(f"model-index: {part}.{key} is required")
        told = {"errors": [{"message": problem} for problem in problems], "warnings": []}
        return (400 if problems else 200), json.dumps(told).encode(), {}

    @_route(r"POST /api/models/<repo>/preupload/(?P<revision>.+)")
    def preupload(self, repo, revision):
        _, files = self.writable(repo).at(revision)
        return {
            "files": [
                {
                    "path": file["path"],
                    "uploadMode": "lfs" if _is_lfs(file["path"]) else "regular",
                    "shouldIgnore": False,
                    "oid": _oid(file["path"], files[file["path"]]) if file["path"] in files else None,
                }
                for file in self.json["files"]
            ]
        }

    @_route(r"POST /<repo>.git/info/lfs/objects/batch")
    def batch(self, repo):
        self.writable(repo)
        objects = [{"oid": it["oid"], "size": it["size"]} for it in self.json["objects"]]
        for it in objects:
            if it["oid"] not in self.hub.stored:
                it["actions"] = {
                    "upload": {"href": f"{self.hub.cdn}/lfs/{it['oid']}?signature=yes"},
                    "verify": {"href": f"{self.hub.address}/{repo}.git/info/lfs/verify"},
                }
        return {"transfer": "basic", "objects": objects}

    @_route(r"PUT /lfs/(?P<oid>[0-9a-f]{64})")
    def upload(self, oid):
        if sha256(self.body) != oid:
            raise HubError(400, message="not these bytes")
        self.hub.stored[oid] = self.body
        return {}

    @_route(r"POST /<repo>.git/info/lfs/verify")
    def verify(self, repo):
        if len(self.hub.stored.get(self.json["oid"], b"")) != self.json["size"]:
            raise HubError(404, message="no such object")
        return {}

    @_route(r"POST /api/models/<repo>/commit/(?P<branch>.+)")
    def commit(self, repo, branch):
        found = self.writable(repo)
        head, files = found.at(branch)
        files = dict(files)
        for line in map(json.loads, self.body.splitlines()):
            match line["key"], line["value"]:
                case "header", value:
                    if value.get("parentCommit", head) != head:
                        raise HubError(412, message="the branch has moved")
                case "file", {"path": path, "content": content}:
                    files[path] = base64.b64decode(content)
                case "lfsFile", {"path": path, "oid": oid}:
                    files[path] = self.hub.stored[oid]
                case "deletedFile", {"path": path}:
                    del files[path]
                case "deletedFolder", {"path": path}:
                    files = {name: data for name, data in files.items() if not name.startswith(path)}
        commit = found.commit(files, branch)
        return {"commitUrl": f"{self.hub.address}/{repo}/commit/{commit}", "commitOid": commit}

    # ---- downloads -----------------------------------------------------------------------------------------

    @_route(r"(GET|HEAD) /<repo>/resolve/(?P<revision>[^/]+)/(?P<path>.+)")
    def resolve(self, repo, revision, path):
        commit, files = self.readable(repo).at(revision)
        if path not in files:
            raise HubError(404, "EntryNotFound", X_Repo_Commit=commit)
        data = files[path]
        headers = {"X-Repo-Commit": commit, "ETag": f'"{_oid(path, data)}"'}
        if not _is_lfs(path):
            return self.ranged(data, headers)
        self.hub.stored[sha256(data)] = data
        linked = {"X-Linked-ETag": headers["ETag"], "X-Linked-Size": str(len(data))}
        return 302, b"", {**headers, **linked, "Location": f"{self.hub.cdn}/lfs/{sha256(data)}?signature=yes"}

    @_route(r"(GET|HEAD) /lfs/(?P<oid>[0-9a-f]{64})")
    def download(self, oid):
        if "Authorization" in self.headers:
            raise HubError(400, message="a token must not leave the Hub")
        return self.ranged(self.hub.stored[oid], {"ETag": f'"{oid}"'})

    def ranged(self, data: bytes, headers: dict[str, str]) -> tuple[int, bytes, dict[str, str]]:
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        headers = {**headers, "Accept-Ranges": "bytes"}
        if not asked:
            return 200, data, headers
        if int(asked[1]) >= len(data):
            raise HubError(416, Content_Range=f"bytes */{len(data)}")
        first, last = int(asked[1]), min(int(asked[2] or len(data)), len(data) - 1)
        return 206, data[first : last + 1], {**headers, "Content-Range": f"bytes {first}-{last}/{len(data)}"}


def _oid(path: str, data: bytes) -> str:
    return sha256(data) if _is_lfs(path) else git_id(data)


def _listed(path: str, data: bytes) -> dict:
    lfs = {"lfs": {"oid": sha256(data), "size": len(data), "pointerSize": 130}} if _is_lfs(path) else {}
    return {"type": "file", "path": path, "size": len(data), "oid": git_id(data), **lfs}
