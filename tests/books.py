"""Three books of generated prose, each with words of its own: enough to train on in seconds."""

import random
from pathlib import Path

_NAMES = {"hills": ("Anna", "Robert", "Clara"), "marsh": ("Edith", "Walter", "Flora"), "tower": ("Zebulon", "Quincey")}


def prose(names: tuple[str, ...], sentences: int) -> str:
    """Sentences about people who look at things and speak of them, wrapped like a file of Project Gutenberg."""
    rng = random.Random(names[0])
    paragraphs = []
    for _ in range(sentences // 4):
        lines = []
        for _ in range(4):
            verb, thing = rng.choice(("saw", "found", "lost")), rng.choice(("a lamp", "the river", "an old hat"))
            who, whom = rng.choice(names), rng.choice(names)
            lines.append(f'{who} {verb} {thing}, and\n"It is {thing}!" said {whom}.')
        paragraphs.append("\n".join(lines))
    return "\n\n".join(paragraphs)


def write_books(folder: Path) -> Path:
    """A folder of the three."""
    folder.mkdir()
    for name, people in _NAMES.items():
        parts = (f"[{name} by Nobody 1900]", "CHAPTER I", prose(people, 60), "CHAPTER II", prose(people, 40))
        (folder / f"{name}.txt").write_text("\n\n\n".join(parts), encoding="utf-8")
    return folder
