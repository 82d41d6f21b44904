"""Fetch a checkpoint from the Hugging Face hub: pinned to one commit, and only the files that are read."""

import queue
import re
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import httpx2
from huggingface_hub import HfApi, ModelInfo, hf_hub_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)

from handler.errors import (
    AccessDeniedError,
    InvalidRequestError,
    NotInRegistryError,
    StoreUnavailableError,
    UnsupportedModelError,
)
from lifecycle.naming import no_safetensors

# How long the hub has for its first answer. Whoever only tries whether it is there does not want to wait.
ANSWER_SECONDS = 5.0

_DESCRIPTION = {
    "config.json",
    "generation_config.json",
    "chat_template.jinja",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
    "merges.txt",
    "added_tokens.json",
    "special_tokens_map.json",
}
_WHOLE = "model.safetensors"
_SHARD = re.compile(r"model-\d{5}-of-\d{5}\.safetensors")


class HubUnreachableError(StoreUnavailableError):
    """The hub does not answer, or stopped doing so."""


@dataclass(frozen=True, slots=True)
class HubCheckpoint:
    """What was fetched.

    Attributes:
        folder: where the files lie; it belongs to huggingface_hub's cache.
        source: the repository under its present name, and the commit, as `openai-community/gpt2@<commit>`.
        license: the licence its model card states, or None.
    """

    folder: Path
    source: str
    license: str | None


def fetch(name: str) -> HubCheckpoint:
    """Fetch a model's files from the hub, or from the cache of an earlier time.

    Where the hub is follows `HF_ENDPOINT`, and who asks `HF_TOKEN`, as with every program that uses huggingface_hub.

    Raises:
        InvalidRequestError: this cannot be the name of a repository.
        HubUnreachableError: the hub does not answer within a few seconds.
        NotInRegistryError: the hub has no such model.
        AccessDeniedError: the model is gated, and whoever asks was not let in.
        UnsupportedModelError: the repository holds no safetensors.
    """
    try:
        info = _within(ANSWER_SECONDS, lambda: HfApi().model_info(name, timeout=ANSWER_SECONDS))
        commit = info.sha or "main"
        paths = [hf_hub_download(info.id, file, revision=commit) for file in _wanted(name, info)]
    except HFValidationError as error:
        raise InvalidRequestError(
            f"{name!r} is neither a folder with a config.json nor a name on the hub, as gpt2 or OWNER/MODEL is"
        ) from error
    except GatedRepoError as error:
        raise AccessDeniedError(f"{name} is gated: accept its terms on the hub and set HF_TOKEN") from error
    except RepositoryNotFoundError as error:
        raise NotInRegistryError(
            f"{name}: the hub has no such model, or it is private and HF_TOKEN is not set"
        ) from error
    except HfHubHTTPError as error:
        raise HubUnreachableError(f"{name}: the hub answered {error.response.status_code}") from error
    except (httpx2.HTTPError, OfflineModeIsEnabled, LocalEntryNotFoundError) as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise HubUnreachableError(f"{name}: the hub cannot be reached: {reason}") from error
    license_ = info.card_data.license if info.card_data else None
    return HubCheckpoint(Path(paths[0]).parent, f"{info.id}@{commit}", license_ if isinstance(license_, str) else None)


def _wanted(name: str, info: ModelInfo) -> Iterable[str]:
    """The files to fetch; the same weights in other formats, gigabytes of them, stay where they are."""
    present = {file.rfilename for file in info.siblings or ()}
    weights = [_WHOLE] if _WHOLE in present else sorted(file for file in present if _SHARD.fullmatch(file))
    if not weights:
        raise UnsupportedModelError(no_safetensors(name))
    return [*sorted(present & _DESCRIPTION), *weights]


def _within(seconds: float, ask: Callable[[], ModelInfo]) -> ModelInfo:
    """Ask, and give up after so many seconds whatever happens.

    A timeout of the HTTP client bounds each step, but neither the resolution of a name nor trying one address after
    the other, so the question is asked in a thread that can be left behind.
    """
    answers: queue.SimpleQueue[ModelInfo | Exception] = queue.SimpleQueue()

    def run() -> None:
        try:
            answers.put(ask())
        except Exception as error:  # noqa: BLE001 (raised again where it is waited for)
            answers.put(error)

    threading.Thread(target=run, daemon=True, name="ask-hub").start()
    try:
        answer = answers.get(timeout=seconds)
    except queue.Empty:
        raise HubUnreachableError(f"the hub did not answer within {seconds:g} seconds") from None
    if isinstance(answer, Exception):
        raise answer
    return answer
