"""A llama's life, from a folder as the hub has it to answers: the same as a GPT-2's, on the engine of transformers."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from openai import OpenAI
from rich.console import Console
from safetensors.numpy import load_file
from starlette.testclient import TestClient
from transformers import AutoModelForCausalLM

from handler.app import create_app
from handler.errors import CorruptModelError, UnsupportedModelError
from handler.fetching import Fetching
from handler.loading import ModelLoading, load_service
from handler.registry.manifest import Architecture
from handler.stages import ColdStart
from lifecycle.checkpoint import read_checkpoint
from lifecycle.evaluating.evaluate import evaluate
from lifecycle.importing import import_model
from lifecycle.local.cloud import embedded_cloud
from lifecycle.local.models import publish_source
from lifecycle.quantizing import quantize
from tests.causal_models import BEGIN, TEMPLATE, TOKENIZER, continued, llama_folder
from tests.checkpoints import edit
from tests.pages import write_pages
from tests.services import make_settings
from tests.serving import served
from tests.transformers_peer import Model


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return llama_folder(tmp_path_factory.mktemp("hub") / "Tiny-Llama")


@pytest.fixture(scope="module")
def folder(source: Path) -> Path:
    """It, imported and evaluated."""
    out = source.parent / "tiny-llama"
    import_model(str(source), out)
    evaluate(out, [write_pages(source.parent / "pages.jsonl", 2)], threads=1)
    return out


@pytest.fixture(scope="module")
def peer(source: Path) -> Model:
    """transformers' own."""
    return AutoModelForCausalLM.from_pretrained(source)


@pytest.fixture(scope="module")
def http(folder: Path) -> Iterator[TestClient]:
    """The application over the version that was published and made live, loaded as a function loads it."""
    with embedded_cloud() as cloud:
        name = publish_source(str(folder), cloud.store, Console(quiet=True))
        environment = {"MODELS_BUCKET": cloud.store.bucket, "MODEL_NAME": name}
        settings = make_settings(models_bucket=cloud.store.bucket, model_name=name, threads=1)
        loading = ModelLoading(lambda: load_service(settings, Fetching(environment, ColdStart()), ColdStart()))
        loading.wait(None)
        yield TestClient(create_app(settings, loading), raise_server_exceptions=False)


@pytest.fixture(scope="module")
def openai(http: TestClient) -> Iterator[OpenAI]:
    with served(http.app) as client:
        yield client


def logprobs(peer: Model, prompt: str) -> list[float]:
    """How probable transformers finds each token of a text but the first."""
    ids = TOKENIZER.encode(prompt)
    with torch.inference_mode():
        found = peer(torch.tensor([ids])).logits[0].log_softmax(-1)
    return [float(found[i, token]) for i, token in enumerate(ids[1:])]


def test_importing_keeps_what_lies_there(source: Path, folder: Path) -> None:
    checkpoint = read_checkpoint(folder)
    assert (checkpoint.dtype, checkpoint.layout) == ("F32", None)
    assert checkpoint.architecture == Architecture("llama", 2, 4, 32, 64, 300, parameters=25_120)
    assert (folder / "tokenizer.json").read_bytes() == (source / "tokenizer.json").read_bytes()
    assert (folder / "chat_template.jinja").read_text() == TEMPLATE
    for name in ("config.json", "generation_config.json"):
        assert json.loads((folder / name).read_text()) == json.loads((source / name).read_text())
    shards = [load_file(shard) for shard in source.glob("model-*-of-*.safetensors")]
    assert len(shards) > 1
    weights = load_file(folder / "model.safetensors")
    assert {name: array.tobytes() for name, array in weights.items()} == {
        name: array.tobytes() for shard in shards for name, array in shard.items()
    }


def test_its_evaluation_is_that_of_transformers(folder: Path, peer: Model, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("She said that the sea was the sea.")
    report = evaluate(folder, [tmp_path / "text.txt"], threads=1)
    assert report["engine"].startswith("transformers-")
    [document] = report["documents"]["text"]
    assert document["nats"] == pytest.approx(-sum(logprobs(peer, "She said that the sea was the sea.")), rel=1e-5)


def test_a_completion_is_that_of_transformers(openai: OpenAI, peer: Model) -> None:
    for prompt in ("the sea", "", "naïve 🙂"):
        answer = openai.completions.create(model="tiny-llama", prompt=prompt, max_tokens=12, temperature=0)
        assert answer.choices[0].text == continued(peer, TOKENIZER.encode(prompt), 12)
        assert answer.usage is not None
        assert answer.usage.prompt_tokens == len(TOKENIZER.encode(prompt))
        assert answer.system_fingerprint is not None
        assert "-transformers-" in answer.system_fingerprint


def test_a_stream_is_the_completion(openai: OpenAI, peer: Model) -> None:
    stream = openai.completions.create(model="tiny-llama", prompt="the sea", max_tokens=12, temperature=0, stream=True)
    assert "".join(event.choices[0].text for event in stream) == continued(peer, TOKENIZER.encode("the sea"), 12)


def test_an_echo_is_the_prompt_as_it_was_given(openai: OpenAI, peer: Model) -> None:
    """The token that begins the text is told of, and has no part in the text."""
    answer = openai.completions.create(
        model="tiny-llama", prompt="the sea", max_tokens=1, temperature=0, echo=True, logprobs=1
    )
    [choice] = answer.choices
    assert choice.text == "the sea" + continued(peer, TOKENIZER.encode("the sea"), 1)
    assert choice.logprobs is not None
    assert choice.logprobs.tokens is not None
    assert choice.logprobs.tokens[:5] == ["<s>", " ", "the", " s", "ea"]
    assert choice.logprobs.text_offset is not None
    assert choice.logprobs.text_offset[:5] == [0, 0, 0, 3, 5]
    assert choice.logprobs.token_logprobs is not None
    first, *others = choice.logprobs.token_logprobs[:5]
    assert [first] == [None]
    assert others == pytest.approx(logprobs(peer, "the sea"), abs=1e-4)


def test_a_conversation_is_put_into_its_own_template(openai: OpenAI, peer: Model) -> None:
    answer = openai.chat.completions.create(
        model="tiny-llama", messages=[{"role": "user", "content": "the sea"}], max_tokens=8, temperature=0
    )
    ids = TOKENIZER.encode("<s>[the sea]</s>", add_special_tokens=False)
    assert answer.choices[0].message.content == continued(peer, ids, 8)


def test_a_score_is_that_of_a_document(http: TestClient, peer: Model) -> None:
    answer: dict[str, Any] = http.post("/v1/score", json={"input": "the sea", "tokens": True}).json()
    [scored] = answer["data"]
    assert [token["logprob"] for token in scored["tokens"]] == pytest.approx(logprobs(peer, "the sea"), abs=1e-4)


def test_an_explanation_counts_the_token_that_begins_the_text(http: TestClient, peer: Model) -> None:
    answer = http.post("/v1/explain", json={"prompt": "the", "continuation": " sea"}).json()
    assert [token["text"] for token in answer["prompt"]] == ["<s>", " ", "the"]
    assert [token["text"] for token in answer["continuation"]] == [" s", "ea"]
    assert answer["continuation"][0]["logprob"] == pytest.approx(logprobs(peer, "the sea")[2], abs=1e-4)


def test_tokens_are_those_of_the_text_alone(http: TestClient) -> None:
    answer = http.post("/tokenize", json={"text": "the sea"}).json()
    assert [BEGIN, *answer["tokens"]] == TOKENIZER.encode("the sea")
    assert http.post("/detokenize", json={"tokens": answer["tokens"]}).json() == {"text": "the sea"}


def test_it_cannot_be_packed(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModelError, match="only a GPT-2 can be quantized, given the architecture 'llama'"):
        quantize(folder, tmp_path / "packed", 8)
    assert not (tmp_path / "packed").exists()


@pytest.mark.parametrize(
    ("config", "error", "message"),
    [
        ({"auto_map": {"AutoModelForCausalLM": "mine.Model"}}, UnsupportedModelError, "auto_map is not implemented"),
        ({"model_type": "t5"}, UnsupportedModelError, "'t5' is not that of a causal language model"),
        ({"hidden_size": 40}, CorruptModelError, "must have the shape"),
        ({"num_hidden_layers": 3}, CorruptModelError, r"tensor 'model\.layers\.2\.\S+' is missing"),
        ({"eos_token_id": 295}, CorruptModelError, "eos_token_id must be a token between 0 and 294, not 295"),
    ],
)
def test_what_cannot_be_served_is_not_imported(
    tmp_path: Path, config: dict[str, Any], error: type[Exception], message: str
) -> None:
    source = llama_folder(tmp_path / "source")
    edit(source / "config.json", **config)
    with pytest.raises(error, match=message):
        import_model(str(source), tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_without_its_fast_tokenizer_it_is_not_imported(tmp_path: Path) -> None:
    source = llama_folder(tmp_path / "source")
    (source / "tokenizer.json").unlink()
    with pytest.raises(CorruptModelError, match=r"has no tokenizer\.json: save its fast tokenizer"):
        import_model(str(source), tmp_path / "out")
