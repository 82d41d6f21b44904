"""What has been answered of a file's lines: parts in the results bucket, each written once, below one prefix.

Whoever comes next, after a crash, a deadline or a second delivery, finds there what is done and does the rest. Two at
once may answer a line twice; of two answers the first part's counts, for both of them.
"""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from handler.kept.storage import Storage

Answer: TypeAlias = dict[str, Any]

_PART, _SLOW = ".json", ".slow"


class KeptAnswers:
    """The answers below one prefix. Its methods raise StorageUnavailableError when S3 does not do as it is asked.

    Attributes:
        done: the answers, each by the index of its line.
        slow: the indices of lines at which time was up before a single line was answered.
    """

    def __init__(self, storage: "Storage", prefix: str) -> None:
        """Read what is there; `prefix` ends in a slash."""
        self._storage = storage
        self._prefix = prefix
        self.done: dict[int, Answer] = {}
        self.slow: set[int] = set()
        self._read()

    def keep(self, finished: Mapping[int, Answer]) -> None:
        """Keep some answers as a part, under the index of its first line, and note in `done` what is done now."""
        if self._storage.create(self._key(min(finished), _PART), json.dumps(finished).encode()):
            self.done.update(finished)
        else:
            # Somebody else works on the same lines, and has kept this part first: theirs counts.
            self._read()

    def note_slow(self, index: int) -> None:
        """Remember, for whoever comes next, the line at which time was up."""
        self._storage.create(self._key(index, _SLOW), b"")
        self.slow.add(index)

    def _read(self) -> None:
        done: dict[int, Answer] = {}
        for key in self._storage.keys(self._prefix):
            if key.endswith(_SLOW):
                self.slow.add(int(key.removeprefix(self._prefix).removesuffix(_SLOW)))
            elif (part := self._storage.read(key)) is not None:
                for index, answer in json.loads(part).items():
                    done.setdefault(int(index), answer)
        self.done = done

    def _key(self, index: int, kind: str) -> str:
        return f"{self._prefix}{index:09d}{kind}"
