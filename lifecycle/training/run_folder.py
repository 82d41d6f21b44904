"""The folder of a run: settings, state and log, on this disk and, if it is asked for, in S3 as well.

What lies in S3 counts: a machine that takes over a run, or comes back to one, goes on from there.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from handler.errors import InvalidRequestError
from lifecycle.checkpoint import read_json
from lifecycle.data.prefix import S3Prefix


@dataclass(frozen=True, slots=True)
class RunFolder:
    """Where a run is kept.

    Attributes:
        path: the folder, which all processes see.
        remote: where in S3 besides, or None.
    """

    path: Path
    remote: S3Prefix | None = None

    @property
    def state(self) -> Path:
        """What the run resumes from."""
        return self.path / "state.safetensors"

    @property
    def log(self) -> Path:
        """One JSON object a line: losses, learning rate and gradient norm after some steps."""
        return self.path / "log.jsonl"

    @property
    def curve(self) -> Path:
        """The log as a picture."""
        return self.path / "curve.png"

    def claim(self, facts: Mapping[str, Any]) -> None:
        """Make the folder, or make sure that the run there has the same settings, and fetch its state.

        Raises:
            InvalidRequestError: it has others.
            RegistryError: S3 does not do as it should.
        """
        path = self.path / "settings.json"
        self.path.mkdir(parents=True, exist_ok=True)
        is_there = self.remote is not None and self.remote.download(path)
        if not path.exists():
            # In one move: what a kill leaves is no file, or the whole of it.
            temporary = path.with_suffix(".partial")
            temporary.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
            temporary.replace(path)
        theirs = read_json(path)
        for name, value in facts.items():
            if theirs.get(name) != value:
                raise InvalidRequestError(
                    f"out: {self.path} holds a run with other settings, so it cannot be resumed: "
                    f"{name} was {theirs.get(name)!r} and is {value!r}; remove it, or choose another --out",
                    param="out",
                )
        if self.remote and not is_there:
            self.remote.upload(path)
        elif self.remote and self.remote.download(self.state):
            self.remote.download(self.log)

    def keep(self) -> None:
        """Keep in S3, too, what was just saved here."""
        if self.remote:
            # The log first: it may tell of more than the state does, and then is cut, but never of less.
            self.remote.upload(self.log)
            self.remote.upload(self.state)
