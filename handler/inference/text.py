"""Puts a choice's text together from its tokens, and gives out only what is certain.

Certain is what no later token can change: whole characters, and nothing that may still become part of a stop string.
"""

import codecs
from collections.abc import Sequence

from handler.inference.tokenizer import Tokenizer


class TextAssembler:
    """Takes a choice's tokens one by one and hands out its text.

    The stop string that is complete first ends the text, and of those complete together the longest; how the text is
    cut into tokens makes no difference. The output is the text before it.

    Attributes:
        stopped: whether a stop string was met; what is pushed afterwards is ignored.
        characters: how many the tokens have made so far, wanted or not.
        kept_tokens: how many of the tokens lie in the text handed out, at least with their first character.
        offsets: for each token where it begins in the text, in characters. A token that begins inside a character has
            the offset of that character.
    """

    def __init__(self, tokenizer: Tokenizer, stop: Sequence[str] = (), *, begins: bool = False) -> None:
        """Start with no token.

        Args:
            tokenizer: tells what bytes the tokens are.
            stop: strings that end the text; empty ones do not.
            begins: whether this is the beginning of a text, and not what follows another.
        """
        self._tokenizer = tokenizer
        self._drops_space = begins and tokenizer.drops_first_space  # of the first word
        self._stop = [string for string in stop if string]
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self.characters = 0
        self._given = 0  # characters that were handed out
        self._held = ""  # characters that may be the beginning of a stop string
        self.stopped = False
        self.kept_tokens = 0
        self.offsets: list[int] = []

    def push(self, token: int) -> str:
        """Append a token and return the text that has become certain."""
        if self.stopped:
            return ""
        data = self._tokenizer.token_bytes(token)
        if self._drops_space and token != self._tokenizer.begin_of_text:
            data, self._drops_space = data.removeprefix(b" "), False
        # What the first byte makes of the bytes before it tells which character it belongs to: the last one there is
        # now, complete or not.
        text = self._decoder.decode(data[:1])
        # One incomplete character; more, where bytes that cannot be one are kept for now: half a surrogate is.
        incomplete = len(self._decoder.getstate()[0].decode(errors="replace"))
        self.offsets.append(self.characters + (len(text) + incomplete - 1 if data else 0))
        return self._accept(text + self._decoder.decode(data[1:]))

    def finish(self) -> str:
        """Return the rest of the text: there are no more tokens. An incomplete character becomes U+FFFD."""
        if self.stopped:
            return ""
        text = self._accept(self._decoder.decode(b"", final=True))
        if not self.stopped:
            text += self._held
            self._held = ""
            self.kept_tokens = len(self.offsets)
        return text

    def _accept(self, text: str) -> str:
        """Append whole characters and return what is certain of all that is at hand."""
        self.characters += len(text)
        text = self._held + text
        matches = [(start + len(stop), start) for stop in self._stop if (start := text.find(stop)) >= 0]
        if matches:
            self.stopped = True
            certain = min(matches)[1]
            self._held = ""
        else:
            certain = len(text) - max((_overlap(text, stop) for stop in self._stop), default=0)
            self._held = text[certain:]
        self._given += certain
        while self.kept_tokens < len(self.offsets) and self.offsets[self.kept_tokens] < self._given:
            self.kept_tokens += 1
        return text[:certain]


def _overlap(text: str, stop: str) -> int:
    """The length of the longest end of the text with which the stop string begins."""
    longest = min(len(text), len(stop) - 1)
    return next((length for length in range(longest, 0, -1) if text.endswith(stop[:length])), 0)
