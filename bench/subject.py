"""The parent's side of the line protocol that bench/peers/child.py describes: a program that is started and asked."""

import json
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Timer
from typing import IO, Any, Self, cast

Tokens = list[list[int]]


class SubjectError(Exception):
    """A subject failed; the message says in one line how."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a request.

    Attributes:
        seconds: from tokens in to tokens out.
        tokens: the new tokens behind each prompt.
    """

    seconds: float
    tokens: Tokens


class Subject:
    """A running program; between requests it is stopped, so that no thread of it waits at another's expense."""

    def __init__(
        self, command: Sequence[str], variables: Mapping[str, str], *, folder: Path, log: Path, seconds: float = 600
    ) -> None:
        """Start the program and wait until it has loaded its model.

        Args:
            command: the program and its arguments.
            variables: its whole environment.
            folder: where it runs.
            log: where its standard error goes.
            seconds: how long it may take to load, and for each answer.

        Raises:
            SubjectError: it did not become ready.
        """
        self._log, self.seconds = log, seconds
        with log.open("w") as errors:
            self._process = subprocess.Popen(
                command,
                cwd=folder,
                env=dict(variables),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        # Both are there because both were asked for.
        self._requests, self._answers = cast("IO[str]", self._process.stdin), cast("IO[str]", self._process.stdout)
        try:
            self._answer()
        except SubjectError:
            self.close()
            raise
        self._process.send_signal(signal.SIGSTOP)

    @property
    def pid(self) -> int:
        """The program's process."""
        return self._process.pid

    def generate(self, prompts: Tokens, new: int) -> Answer:
        """Have tokens generated behind each prompt.

        Raises:
            SubjectError: the program failed or took too long, or did not generate what it was asked for.
        """
        self._process.send_signal(signal.SIGCONT)
        try:
            self._requests.write(json.dumps({"prompts": prompts, "new": new}) + "\n")
            self._requests.flush()
        except BrokenPipeError as error:
            raise SubjectError(f"ended, see {self._log}") from error
        line = self._answer()
        self._process.send_signal(signal.SIGSTOP)
        answer = Answer(line["seconds"], line["tokens"])
        if (lengths := [len(tokens) for tokens in answer.tokens]) != [new] * len(prompts):
            raise SubjectError(f"was asked for {new} tokens behind each of {len(prompts)} prompts, gave {lengths}")
        return answer

    def close(self) -> None:
        """End the program."""
        self._process.kill()
        self._process.wait()
        self._answers.close()
        with suppress(BrokenPipeError):  # a request that was never read
            self._requests.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _answer(self) -> dict[str, Any]:
        """The next line the program answers with."""
        timer = Timer(self.seconds, self._process.kill)
        timer.start()
        line = self._answers.readline()
        timer.cancel()
        if not line:
            status = self._process.wait()
            how = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
            if status == -signal.SIGKILL:
                how = f"was ended after {self.seconds:g} s, or by the system"
            raise SubjectError(f"{how}, see {self._log}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise SubjectError(f"{answer['error']:.200}".splitlines()[0])
        return answer
