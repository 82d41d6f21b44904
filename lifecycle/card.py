"""A version's model card, generated from what the registry knows of it: nothing in it is written by hand."""

import json
import textwrap
from collections.abc import Iterable, Mapping
from typing import Any, Final

from handler.errors import NotInRegistryError
from handler.registry.manifest import Manifest
from lifecycle.evaluations import Evaluation, evaluations
from lifecycle.quality import QUANTIZATION
from lifecycle.store import WritableStore

_FIGURES: Final = ("perplexity_per_word", "perplexity_per_token", "bits_per_byte", "tokens")

_UNKNOWN: Final = "unknown"

_LONGEST: Final = 200  # characters of a text that is shown whole


def model_card(store: WritableStore, name: str, version: str) -> str:
    """The card of a published version, as Markdown.

    Raises:
        NotInRegistryError: there is no such version.
        CorruptModelError: its manifest or an evaluation is damaged.
    """
    manifest = store.manifest(name, version)
    aliases = [alias for alias, state in store.aliases(name).items() if state.version == version]
    sections = [
        _front_matter(manifest),
        f"# {name} {version}",
        _about(manifest, aliases),
        "## Lineage",
        _lineage(store, manifest),
        "## Training",
        _document({"training": manifest.training, "data": manifest.data}) or "How the weights were trained is unknown.",
        "## Evaluation",
        _evaluation(evaluations(store, name, version), manifest),
        "## Files",
        _table(("file", "bytes", "SHA-256"), ((f.path, f"{f.size:,}", f"`{f.sha256}`") for f in manifest.files)),
    ]
    return "\n\n".join(sections) + "\n"


def _front_matter(manifest: Manifest) -> str:
    """What the Hugging Face hub reads of a card; JSON strings are YAML, too."""
    lines = [f"license: {json.dumps(manifest.license or _UNKNOWN)}", "library_name: transformers"]
    return "\n".join(["---", *lines, "pipeline_tag: text-generation", "---"])


def _about(manifest: Manifest, aliases: Iterable[str]) -> str:
    model = manifest.architecture
    return _table(
        ("", ""),
        (
            ("architecture", f"{model.model_type}, {model.layers} layers, {model.heads} heads, width {model.width}"),
            ("parameters", f"{model.parameters:,}"),
            ("vocabulary", f"{model.vocabulary_size:,} tokens"),
            ("context", f"{model.context_length:,} tokens"),
            ("weights", manifest.layout or manifest.dtype),
            ("licence", manifest.license or _UNKNOWN),
            ("published", manifest.created),
            ("aliases", ", ".join(aliases) or "none"),
        ),
    )


def _lineage(store: WritableStore, manifest: Manifest) -> str:
    """The version, what it was derived from, and so on, as far as it is published under the same name."""
    lines = []
    seen: set[str] = set()
    while manifest.version not in seen:
        seen.add(manifest.version)
        made = f"from `{_cell(manifest.source)}`, by {_cell(manifest.code or 'unknown code')}"
        lines.append(f"- `{manifest.version}`: {manifest.layout or manifest.dtype}, {made}")
        if manifest.derived_from is None:
            break
        try:
            manifest = store.manifest(manifest.name, manifest.derived_from)
        except NotInRegistryError:
            lines.append(f"- `{manifest.derived_from}`, which is not published under this name")
            break
    return "\n".join(lines)


def _evaluation(found: Iterable[Evaluation], manifest: Manifest) -> str:
    """The evaluations of exactly these bytes, and what was noted before they were published."""
    rows = [
        (text, *(_number(each.figures[text].get(figure)) for figure in _FIGURES), each.created, each.machine)
        for each in found
        for text in each.texts
    ]
    header = ("text", *(figure.replace("_", " ") for figure in _FIGURES), "when", "machine")
    parts = [_table(header, rows) if rows else "Nobody evaluated exactly these bytes."]
    quantization = manifest.evaluation.get(QUANTIZATION)
    if isinstance(quantization, Mapping):
        parts.append("What quantizing cost:")
        parts.append(_table(("figure", "value"), ((key, _number(value)) for key, value in quantization.items())))
    if other := _document({key: value for key, value in manifest.evaluation.items() if key != QUANTIZATION}):
        parts += ["Noted by those who made the weights:", other]
    return "\n\n".join(parts)


def _document(fields: Mapping[str, Any]) -> str:
    """What has no form of its own, as indented JSON, where there is any."""
    given = {key: _shortened(value) for key, value in fields.items() if value}
    return textwrap.indent(json.dumps(given, indent=2, ensure_ascii=False), "    ") if given else ""


def _shortened(value: Any) -> Any:
    """The same without what nobody reads, such as hundreds of fingerprints in one string."""
    if isinstance(value, Mapping):
        return {key: _shortened(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_shortened(each) for each in value]
    return f"{value[:_LONGEST]}..." if isinstance(value, str) and len(value) > _LONGEST else value


def _table(header: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    first = [_cell(cell) for cell in header]
    lines = [first, ["---"] * len(first), *([_cell(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _number(value: object) -> str:
    if type(value) is float:
        return f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.1f}"
    return f"{value:,}" if type(value) is int else "" if value is None else str(value)


def _cell(value: object) -> str:
    """A text that ends neither its cell nor its line."""
    return str(value).replace("|", "\\|").replace("\n", " ")
