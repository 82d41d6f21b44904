"""What things are called in the models bucket: names, versions, aliases, files, and the keys they lie under."""

import os.path
import re

from handler.errors import InvalidRequestError

MANIFEST = "manifest.json"
SIGNATURE = "manifest.sig.json"

# A chunk is the unit of reading, checking and trying again: large enough that a request's latency does not show,
# small enough that several are under way at once and that reading one again costs little.
CHUNK_SIZE = 8 * 1024 * 1024

MODELS_PREFIX = "models/"

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_VERSION = re.compile(r"v[0-9a-f]{16}")
# A file of a version is a plain name: no folder, no `..`, nothing absolute, nothing a shell or a URL would change.
_FILE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")


def is_name(text: str) -> bool:
    """Whether this can name a model or an alias."""
    return _NAME.fullmatch(text) is not None


def is_version(text: str) -> bool:
    """Whether this can be a version: `v` and the first 16 hex digits of the content digest."""
    return _VERSION.fullmatch(text) is not None


def is_file(path: str) -> bool:
    """Whether this can be a file of a version, other than the manifest itself and its signature."""
    return _FILE.fullmatch(path) is not None and path not in (MANIFEST, SIGNATURE)


def model_name(source: str) -> str:
    """The model's name for a hub name or a folder: its last component, lower-cased.

    Raises:
        InvalidRequestError: that component cannot name a model.
    """
    return _checked("name", os.path.basename(os.path.abspath(source)).lower())  # noqa: PTH100, PTH119 (a hub name is no path)


def versions_prefix(name: str) -> str:
    """The prefix of everything that belongs to the versions of a model."""
    return f"{MODELS_PREFIX}{_checked('name', name)}/versions/"


def version_prefix(name: str, version: str) -> str:
    """The prefix of everything that belongs to one version.

    Raises:
        InvalidRequestError: a part does not match its pattern.
    """
    return f"{versions_prefix(name)}{_checked_version(version)}/"


def evaluations_prefix(name: str, version: str) -> str:
    """The prefix of a version's evaluations: of those, there may be more after it is published."""
    return f"{MODELS_PREFIX}{_checked('name', name)}/evaluations/{_checked_version(version)}/"


def history_prefix(name: str, alias: str) -> str:
    """The prefix of the records of an alias's moves."""
    return f"{MODELS_PREFIX}{_checked('name', name)}/history/{_checked('alias', alias)}/"


def aliases_prefix(name: str) -> str:
    """The prefix of a model's aliases."""
    return f"{MODELS_PREFIX}{_checked('name', name)}/aliases/"


def file_key(name: str, version: str, path: str) -> str:
    """The key of a version's file, its manifest and the manifest's signature included.

    Raises:
        InvalidRequestError: a part does not match its pattern.
    """
    if not is_file(path) and path not in (MANIFEST, SIGNATURE):
        raise InvalidRequestError(f"path must match {_FILE.pattern}, not {path!r}", param="path")
    return f"{version_prefix(name, version)}{path}"


def alias_key(name: str, alias: str) -> str:
    """The key of an alias.

    Raises:
        InvalidRequestError: a part does not match its pattern.
    """
    return f"{aliases_prefix(name)}{_checked('alias', alias)}"


def _checked_version(version: str) -> str:
    if not is_version(version):
        raise InvalidRequestError(f"version must be v and 16 hex digits, not {version!r}", param="version")
    return version


def _checked(field: str, text: str) -> str:
    if not is_name(text):
        raise InvalidRequestError(f"{field} must match {_NAME.pattern}, not {text!r}", param=field)
    return text
