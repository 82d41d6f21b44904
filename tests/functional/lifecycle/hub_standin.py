"""A stand-in for the Hugging Face hub: one repository, answered for in the hub's own manner.

What it reproduces, as seen from huggingface_hub: a repository that was renamed answers to its old name with redirects,
for the API and for files; small files are served by the hub itself, large ones by redirecting to another host with
the headers `X-Linked-Etag` and `X-Linked-Size`; every answer about a file names the commit; what does not exist is a
401 with `X-Error-Code: RepoNotFound` to whoever is not logged in.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import urlsplit

COMMIT = "607a30d783dfa663caf39e06633721c8d4cfcd7e"

# What lies beside the safetensors in openai-community/gpt2, with sizes of the same order; nobody may ask for it.
OTHER_FORMATS = {
    "64-8bits.tflite": 125_000_000,
    "64.tflite": 495_000_000,
    "flax_model.msgpack": 498_000_000,
    "onnx/decoder_model.onnx": 654_000_000,
    "onnx/model.safetensors": 600_000_000,
    "pytorch_model.bin": 548_000_000,
    "rust_model.ot": 703_000_000,
    "tf_model.h5": 498_000_000,
}


class HubStandin(ThreadingHTTPServer):
    """The server.

    Attributes:
        requests: method and path of everything that was asked for, redirects included.
        refusal: status and `X-Error-Code` of the answer to whoever asks for a file, or None to answer properly.
    """

    def __init__(self, repository: str, old_name: str, files: Mapping[str, bytes], license_: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repository, self.old_name, self.files, self.license = repository, old_name, files, license_
        self.refusal: tuple[int, str] | None = None
        self.requests: list[tuple[str, str]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def asked_for_models(self) -> list[str]:
        """The models whose description was asked for, in order, under the names they were asked for by."""
        return [path.removeprefix("/api/models/") for _, path in self.requests if path.startswith("/api/models/")]

    def downloaded(self) -> list[str]:
        """The files whose content was asked for, in order."""
        pattern = re.compile(r"/(?:cdn|[^/]+/[^/]+/resolve/[^/]+)/(.+)")
        found = (pattern.fullmatch(path) for method, path in self.requests if method == "GET")
        return [match[1] for match in found if match]


@contextmanager
def hub_standin(
    files: Mapping[str, bytes],
    *,
    repository: str = "openai-community/gpt2",
    old_name: str = "gpt2",
    license_: str = "mit",
) -> Iterator[HubStandin]:
    """Serve a repository with these files, and the other formats beside them, until the end of the block."""
    server = HubStandin(repository, old_name, files, license_)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: HubStandin

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        self.server.requests.append((self.command, path))
        new, old = self.server.repository, self.server.old_name
        if path == f"/api/models/{old}":
            self._answer(307, Location=f"/api/models/{new}")
        elif path == f"/api/models/{new}":
            self._answer(200, json.dumps(self._model()).encode(), Content_Type="application/json")
        elif path.startswith(f"/{old}/resolve/"):
            self._answer(307, Location=f"/{new}{path.removeprefix('/' + old)}")
        elif self.server.refusal and path.startswith(f"/{new}/resolve/"):
            status, code = self.server.refusal
            self._answer(status, b"", X_Error_Code=code)
        elif match := re.fullmatch(f"/{new}/resolve/(?:main|{COMMIT})/(.+)", path):
            self._file(match[1])
        elif path.startswith("/cdn/"):
            self._answer(200, self.server.files[path.removeprefix("/cdn/")])
        else:
            self._answer(401, b'{"error": "Invalid username or password."}', X_Error_Code="RepoNotFound")

    do_HEAD = do_GET  # noqa: N815

    def _model(self) -> dict[str, object]:
        siblings = [{"rfilename": name} for name in sorted([*self.server.files, *OTHER_FORMATS])]
        return {
            "id": self.server.repository,
            "modelId": self.server.repository,
            "sha": COMMIT,
            "private": False,
            "gated": False,
            "tags": ["transformers", f"license:{self.server.license}"],
            "cardData": {"language": "en", "license": self.server.license},
            "siblings": siblings,
        }

    def _file(self, name: str) -> None:
        content = self.server.files.get(name)
        size = len(content) if content is not None else OTHER_FORMATS.get(name)
        if size is None:
            self._answer(404, b"Entry not found", X_Error_Code="EntryNotFound", X_Repo_Commit=COMMIT)
        elif content is not None and not name.endswith(".safetensors"):
            self._answer(200, content, ETag=f'"{hashlib.sha1(content).hexdigest()}"', X_Repo_Commit=COMMIT)
        else:
            etag = f'"{hashlib.sha256(content or name.encode()).hexdigest()}"'
            host = f"http://localhost:{self.server.server_address[1]}"
            self._answer(
                302,
                Location=f"{host}/cdn/{name}",
                X_Linked_Etag=etag,
                X_Linked_Size=str(size),
                X_Repo_Commit=COMMIT,
            )

    def _answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""
