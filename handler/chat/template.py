"""The template of a model: its own where it brings one, else the plain one beside this file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from handler.chat.renderer import Renderer
from handler.errors import CorruptModelError

FILE = "chat_template.jinja"

# The plain template ends with "Assistant:", and a model that was never taught to chat goes on with the user's part.
PLAIN_STOPS = ("\nUser:", "\nSystem:")


@dataclass(frozen=True, slots=True)
class ChatTemplate:
    """Makes prompts of conversations.

    Attributes:
        text: the template, in jinja2.
        stops: strings at which an answer ends, beside those a request names.
    """

    text: str
    stops: tuple[str, ...]
    _renderer: Renderer

    @classmethod
    def of(cls, files: Mapping[str, memoryview], renderer: Renderer) -> "ChatTemplate":
        """The template among a version's files, or the plain one.

        Raises:
            CorruptModelError: it is no text.
        """
        if FILE not in files:
            return cls((Path(__file__).parent / "default.jinja").read_text("utf-8").rstrip("\n"), PLAIN_STOPS, renderer)
        try:
            return cls(bytes(files[FILE]).decode("utf-8"), (), renderer)
        except UnicodeDecodeError as error:
            raise CorruptModelError(f"{FILE} is not UTF-8: {error}") from error

    def prompt(self, messages: Sequence[Mapping[str, Any]], *, begin: str, end: str) -> str:
        """The text that the model is to continue with its answer.

        Args:
            messages: each with `role` and `content`.
            begin: the token that a text begins with, which templates know as `bos_token`.
            end: the one that it ends with, `eos_token`: GPT-2 has one for both.

        Raises:
            InvalidRequestError: the template refuses the conversation, or fails.
        """
        variables = {
            "messages": list(messages),
            "add_generation_prompt": True,
            "bos_token": begin,
            "eos_token": end,
        }
        return self._renderer.render(self.text, variables)
