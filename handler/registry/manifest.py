"""The manifest of a version: what the model is, where it comes from, and every byte of it by its SHA-256.

A manifest comes from a bucket, so it is read as anything from outside is: each field's presence, type and bounds are
checked before it is believed, and a version is only itself when it is the digest of the files listed, the hash of every
chunk included: whoever may replace a manifest cannot let other bytes in under the same version.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, NoReturn

from handler.errors import CorruptModelError
from handler.registry.names import is_file, is_name, is_version

SCHEMA = 1

_MAX_CHUNK_SIZE = 64 * 1024 * 1024
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class ManifestFile:
    """One file: its name, size in bytes, SHA-256, and the SHA-256 of each of its chunks, all as hex digits."""

    path: str
    size: int
    sha256: str
    chunks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Architecture:
    """The model's kind and sizes: what a reader needs to judge whether and where it can be served."""

    model_type: str
    layers: int
    heads: int
    width: int
    context_length: int
    vocabulary_size: int
    parameters: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """One immutable version of a model.

    Attributes:
        name: the model it is a version of.
        version: `version_of(files)`.
        created: when it was first published, ISO 8601 in UTC.
        source: where the weights come from, such as `openai-community/gpt2@<commit>`.
        license: the licence of the weights, or None where it is not known.
        derived_from: the version this one was made from, or None.
        architecture: kind and sizes.
        dtype: the weights' type as safetensors names it, such as `F32`.
        layout: the packed layout of the weights, or None for plain tensors.
        chunk_size: bytes of each chunk but a file's last.
        files: every file, ordered by path.
        evaluation: figures by name, such as `{"perplexity": 31.2}`.
        training: how the weights were trained, where that is known.
        data: the texts they were trained on, by name and SHA-256, where that is known.
        code: the version of this project that made the weights, where that is known.
    """

    name: str
    version: str
    created: str
    source: str
    license: str | None
    derived_from: str | None
    architecture: Architecture
    dtype: str
    layout: str | None
    chunk_size: int
    files: tuple[ManifestFile, ...]
    evaluation: Mapping[str, Any]
    training: Mapping[str, Any]
    data: Mapping[str, Any] = field(default_factory=dict)
    code: str | None = None

    def to_json(self) -> bytes:
        """The manifest as it is stored."""
        return json.dumps({"schema": SCHEMA, **asdict(self)}, indent=1, ensure_ascii=False).encode()

    @classmethod
    def from_json(cls, data: bytes) -> "Manifest":
        """Read a manifest from outside.

        Raises:
            CorruptModelError: something about it is wrong; the message names what.
        """
        fields = _Fields(_parse(data), "")
        schema = fields.number("schema", 1)
        if schema != SCHEMA:
            raise CorruptModelError(f"manifest: schema is {schema}, and only {SCHEMA} is known here")
        chunk_size = fields.number("chunk_size", 1, _MAX_CHUNK_SIZE)
        entries = fields.take("files", list)
        files = tuple(_file(_Fields(entry, f"files[{i}]."), chunk_size) for i, entry in enumerate(entries))
        paths = [file.path for file in files]
        if not files or paths != sorted(set(paths)):
            _fail("files", "must be one or more, ordered by path, each path once", paths)
        name, version = fields.text("name"), fields.text("version")
        if not is_name(name):
            _fail("name", "must be the name of a model", name)
        if not is_version(version) or version != version_of(files):
            _fail("version", f"must be the digest of the files, {version_of(files)}", version)
        manifest = cls(
            name=name,
            version=version,
            created=_utc(fields.text("created")),
            source=fields.text("source"),
            license=fields.text_or_none("license"),
            derived_from=fields.text_or_none("derived_from"),
            architecture=_architecture(_Fields(fields.take("architecture", dict), "architecture.")),
            dtype=fields.text("dtype"),
            layout=fields.text_or_none("layout"),
            chunk_size=chunk_size,
            files=files,
            evaluation=fields.take("evaluation", dict),
            training=fields.take("training", dict),
            # Manifests from before these were noted are as good as any.
            data=fields.take_or("data", {}, dict),
            code=fields.take_or("code", None, str, type(None)),
        )
        fields.nothing_left()
        return manifest


def version_of(files: Iterable[ManifestFile]) -> str:
    """The version that these files are: `v` and 16 hex digits of the SHA-256 over their paths, sizes and hashes.

    The digest is taken over canonical JSON (ordered by path, no spaces), so equal content always is the same version.
    The chunks' hashes are part of it, because they are all that a loader, which reads each byte once, holds bytes
    against.
    """
    listed = sorted([file.path, file.size, file.sha256, file.chunks] for file in files)
    return "v" + hashlib.sha256(json.dumps(listed, separators=(",", ":")).encode()).hexdigest()[:16]


class _Fields:
    """A JSON object whose fields are taken out one by one, each checked; `where` leads to it in messages."""

    def __init__(self, value: Any, where: str) -> None:
        if not isinstance(value, dict):
            _fail(where.rstrip(".") or "the whole", "must be an object", value)
        self._left = dict(value)
        self._where = where

    def take(self, name: str, *types: type) -> Any:
        if name not in self._left:
            raise CorruptModelError(f"manifest: {self._where}{name} is missing")
        value = self._left.pop(name)
        if type(value) not in types:  # exactly: in Python True is an int, in a manifest it is not
            _fail(self._where + name, "must be of type " + " or ".join(t.__name__ for t in types), value)
        return value

    def take_or(self, name: str, default: Any, *types: type) -> Any:
        return self.take(name, *types) if name in self._left else default

    def text(self, name: str) -> str:
        value: str = self.take(name, str)
        return value

    def text_or_none(self, name: str) -> str | None:
        value: str | None = self.take(name, str, type(None))
        return value

    def number(self, name: str, low: int, high: int = 2**63) -> int:
        value: int = self.take(name, int)
        if not low <= value <= high:
            _fail(self._where + name, f"must be between {low} and {high}", value)
        return value

    def nothing_left(self) -> None:
        if self._left:
            raise CorruptModelError(f"manifest: unknown fields {sorted(self._where + name for name in self._left)}")


def _file(fields: _Fields, chunk_size: int) -> ManifestFile:
    path, size = fields.text("path"), fields.number("size", 1)
    if not is_file(path):
        _fail("path of a file", "must be a plain file name", path)
    sha256, chunks = fields.text("sha256"), fields.take("chunks", list)
    for digest in (sha256, *chunks):
        if not isinstance(digest, str) or not _SHA256.fullmatch(digest):
            _fail(f"hashes of {path}", "must be 64 hex digits each", digest)
    if len(chunks) != -(-size // chunk_size):
        _fail(f"chunks of {path}", f"must be {-(-size // chunk_size)} for {size} bytes", len(chunks))
    if len(chunks) == 1 and chunks[0] != sha256:
        _fail(f"the one chunk of {path}", f"must have the file's hash {sha256}", chunks[0])
    fields.nothing_left()
    return ManifestFile(path, size, sha256, tuple(chunks))


def _architecture(fields: _Fields) -> Architecture:
    model_type = fields.text("model_type")
    sizes = ("layers", "heads", "width", "context_length", "vocabulary_size", "parameters")
    architecture = Architecture(model_type, **{name: fields.number(name, 1) for name in sizes})
    fields.nothing_left()
    return architecture


def _utc(text: str) -> str:
    try:
        offset = datetime.fromisoformat(text).utcoffset()
    except ValueError:
        offset = None
    if offset is None or offset.total_seconds() != 0:
        _fail("created", "must be a time in UTC, ISO 8601", text)
    return text


def _parse(data: bytes) -> Any:
    try:
        return json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise CorruptModelError(f"manifest: not JSON: {error}") from error


def _fail(field: str, rule: str, value: object) -> NoReturn:
    raise CorruptModelError(f"manifest: {field} {rule}, not {value!r:.200}")
