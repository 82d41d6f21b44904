"""Model cards: all that the registry knows of a version, in Markdown."""

from dataclasses import asdict, replace
from pathlib import Path

import pytest

from handler.registry.manifest import Manifest
from handler.registry.names import MANIFEST, file_key
from lifecycle.card import model_card
from lifecycle.checkpoint import write_json
from lifecycle.promoting import promote
from lifecycle.publishing import publish
from lifecycle.store import WritableStore
from tests.checkpoints import checkpoint
from tests.evaluations import evaluated
from tests.manifests import sha256


@pytest.fixture
def manifest(store: WritableStore, tmp_path: Path) -> Manifest:
    return publish(evaluated(checkpoint(tmp_path / "c"), {"emma": 1234.5}).folder, store, "tiny")


def test_a_card_tells_what_the_registry_knows(store: WritableStore, manifest: Manifest) -> None:
    promote(store, "tiny", manifest.version, "live")
    trained = replace(
        manifest,
        license="mit",
        training={"steps": 100, "marks": ["x" * 201]},
        data={"texts": [{"name": "a|b", "sha256": sha256(b"x")}]},
        code="gpt2-serverless 0.1.0 (abc)",
    )
    store.client.put_object(
        Bucket=store.bucket, Key=file_key("tiny", manifest.version, MANIFEST), Body=trained.to_json()
    )
    files = "\n".join(f"| {f.path} | {f.size:,} | `{f.sha256}` |" for f in manifest.files)
    assert (
        model_card(store, "tiny", manifest.version)
        == f"""---
license: "mit"
library_name: transformers
pipeline_tag: text-generation
---

# tiny {manifest.version}

|  |  |
| --- | --- |
| architecture | gpt2, 2 layers, 4 heads, width 32 |
| parameters | 37,120 |
| vocabulary | 300 tokens |
| context | 64 tokens |
| weights | F32 |
| licence | mit |
| published | {manifest.created} |
| aliases | live |

## Lineage

- `{manifest.version}`: F32, from `c-source`, by gpt2-serverless 0.1.0 (abc)

## Training

    {{
      "training": {{
        "steps": 100,
        "marks": [
          "{"x" * 200}..."
        ]
      }},
      "data": {{
        "texts": [
          {{
            "name": "a|b",
            "sha256": "{sha256(b"x")}"
          }}
        ]
      }}
    }}

## Evaluation

| text | perplexity per word | perplexity per token | bits per byte | tokens | when | machine |
| --- | --- | --- | --- | --- | --- | --- |
| emma | 1,234.5 | 617.2 |  | 1,000 | 2026-11-24T12:00:00+00:00 | a test's |

## Files

| file | bytes | SHA-256 |
| --- | --- | --- |
{files}
"""
    )


def test_a_card_follows_the_lineage(store: WritableStore, manifest: Manifest, tmp_path: Path) -> None:
    derived = checkpoint(tmp_path / "derived", seed=1)
    figures = {"perplexity_rise": 0.00123, "tokens": 16_384}
    provenance = replace(
        derived.provenance, derived_from=manifest.version, evaluation={"quantization": figures, "emma": 7.5}
    )
    write_json(derived.folder / "provenance.json", asdict(provenance))
    version = publish(derived.folder, store, "tiny").version
    card = model_card(store, "tiny", version)
    lineage = card[card.index("## Lineage") : card.index("## Training")].splitlines()
    assert [line.partition(", from")[0] for line in lineage[2:-1]] == [
        f"- `{version}`: F32",
        f"- `{manifest.version}`: F32",
    ]
    evaluation = card[card.index("## Evaluation") : card.index("## Files")]
    assert (
        evaluation
        == """## Evaluation

Nobody evaluated exactly these bytes.

What quantizing cost:

| figure | value |
| --- | --- |
| perplexity_rise | 0.00123 |
| tokens | 16,384 |

Noted by those who made the weights:

    {
      "emma": 7.5
    }

"""
    )
    alone = publish(derived.folder, store, "other")
    assert f"- `{manifest.version}`, which is not published under this name" in model_card(
        store, "other", alone.version
    )
