"""Texts for a model's whole life: two authors, from a folder of books or, where there is none, from the demo model.

The bundled model has read Austen, Melville and others. What it writes about the people of one of them is no
literature, but it is English, free for everybody, and the same in every clone.
"""

import json
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from handler.errors import InvalidRequestError
from handler.inference.build import build_backend
from handler.inference.protocol import GenerationRequest, SamplingParams, TokenGenerated
from lifecycle.checkpoint import TOKENIZER, WEIGHTS
from lifecycle.local.models import DEMO, packed_folder
from lifecycle.weights import map_file

_PAGES, _TOKENS = 24, 200  # for each opening
_OPENINGS = (
    ("Emma was", "Mr. Knightley said", "Miss Woodhouse", "Harriet looked", "Elinor could not", "Mrs. Weston"),
    ("Captain Ahab", "The whale", "Starbuck cried", "Queequeg and I", "All hands", "The sea was"),
)


def two_authors(texts: Path | None, out: Path, console: Console) -> tuple[Path, Path]:
    """Two folders of text, one for each author.

    Args:
        texts: a folder of books, of which the last by name is the second author's; None lets the demo model write.
        out: where the folders may be made.
        console: where to say what is going on.

    Raises:
        InvalidRequestError: there are fewer than two books.
    """
    first, second = (out / name for name in ("first", "second"))
    for folder in (first, second):
        folder.mkdir(parents=True)
    if texts is None:
        console.print("The demo model writes the texts; TEXTS=folder takes books of yours.")
        for folder, openings in zip((first, second), _OPENINGS, strict=True):
            _write(openings, folder / "pages.jsonl", console)
        return first, second
    books = sorted(texts.glob("*.txt"))
    if len(books) < 2:
        raise InvalidRequestError(f"TEXTS: {texts} must hold two *.txt books or more, got {len(books)}", param="texts")
    for book in books:
        (second if book == books[-1] else first).joinpath(book.name).write_bytes(book.read_bytes())
    return first, second


def _write(openings: Sequence[str], path: Path, console: Console) -> None:
    """Pages that begin with each of the openings, one a line."""
    folder = packed_folder(DEMO, console)
    files = {name: map_file(folder / name) for name in ("config.json", TOKENIZER, WEIGHTS)}
    tokenizer, scheduler = build_backend(files, engine="auto", kv_cache_mb=500, threads=0)
    prompts = tuple(tuple(tokenizer.encode(opening)) for opening in openings)
    sampling = tuple(SamplingParams(top_p=0.95, seed=number) for number in range(len(prompts)))
    pages = [list(prompts[number // _PAGES]) for number in range(len(prompts) * _PAGES)]
    try:
        for event in scheduler.submit(GenerationRequest(prompts, sampling, _PAGES, _TOKENS, tokenizer.ends)):
            if isinstance(event, TokenGenerated):
                pages[event.choice].append(event.token)
    finally:
        scheduler.close()
    with path.open("w", encoding="utf-8") as lines:
        lines.writelines(json.dumps({"text": tokenizer.decode(page)}) + "\n" for page in pages)
