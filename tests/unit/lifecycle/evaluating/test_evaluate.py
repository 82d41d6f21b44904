"""Evaluation: the figures are those of transformers, of exactly the bytes that are deployed, and stay with them."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer as Library
from transformers import GPT2LMHeadModel

from handler.errors import InvalidRequestError
from handler.inference.build import build_engine
from handler.inference.tokenizer import MOST_TOKENS
from handler.registry.manifest import version_of
from lifecycle.checkpoint import read_checkpoint, read_json, read_tokenizer, write_json
from lifecycle.data.fingerprints import decode_fingerprints, fingerprint
from lifecycle.evaluating.evaluate import evaluate, read_evaluation
from lifecycle.evaluating.scores import BINS, Calibration, score_text
from lifecycle.publishing import describe_files
from lifecycle.quantizing import quantize
from lifecycle.training.corpus import Book
from lifecycle.training.evaluation import evaluate_book
from lifecycle.weights import map_file
from tests.checkpoints import checkpoint
from tests.pages import pages, write_pages

DOCUMENTS = (*pages(3), "Short.", "Café — naïve 🙂")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a random model."""
    return checkpoint(tmp_path_factory.mktemp("model") / "plain").folder


@pytest.fixture
def text(tmp_path: Path) -> Path:
    return write_pages(tmp_path / "pages.jsonl", 3)


def test_the_figures_are_those_of_transformers(folder: Path) -> None:
    config, weights = read_json(folder / "config.json"), map_file(folder / "model.safetensors")
    engine = build_engine(config, weights, engine="reference", kv_cache_bytes=10**7, threads=1)
    model = GPT2LMHeadModel.from_pretrained(folder)

    ours = score_text(engine, read_tokenizer(folder / "tokenizer.json"), DOCUMENTS, stride=32)
    theirs = evaluate_book(model, Library.from_file(str(folder / "tokenizer.json")), Book("", DOCUMENTS))

    sums = tuple(sum(getattr(one, name) for one in ours.documents) for name in ("tokens", "words", "bytes"))
    assert sums == (theirs.tokens, theirs.words, theirs.bytes)
    # Sums of a thousand float32 losses in different orders.
    assert sum(one.nats for one in ours.documents) == pytest.approx(theirs.nats, rel=1e-5)


def test_accuracy_and_confidence_are_those_of_transformers(folder: Path) -> None:
    """A document that fits one window, so that transformers' own logits tell all."""
    import torch

    document = " ".join(next(pages(1)).split()[:8])
    tokenizer = read_tokenizer(folder / "tokenizer.json")
    ids = [tokenizer.end_of_text, *tokenizer.encode(document)]
    assert len(ids) <= 64
    with torch.no_grad():
        probabilities = GPT2LMHeadModel.from_pretrained(folder)(torch.tensor([ids[:-1]])).logits[0].softmax(-1).numpy()
    config, weights = read_json(folder / "config.json"), map_file(folder / "model.safetensors")
    engine = build_engine(config, weights, engine="reference", kv_cache_bytes=10**7, threads=1)

    found = score_text(engine, tokenizer, [document], stride=32).calibration

    expected = Calibration()
    expected.add(probabilities.max(1), probabilities.argmax(1) == np.array(ids[1:]))
    assert np.array_equal(found.tokens, expected.tokens)
    assert np.array_equal(found.correct, expected.correct)
    assert found.confidence == pytest.approx(expected.confidence, abs=1e-4)


def test_a_document_may_be_longer_than_any_prompt(folder: Path) -> None:
    config, weights = read_json(folder / "config.json"), map_file(folder / "model.safetensors")
    engine = build_engine(config, weights, engine="reference", kv_cache_bytes=10**7, threads=1)
    tokenizer = read_tokenizer(folder / "tokenizer.json")

    [score] = score_text(engine, tokenizer, ["日" * (MOST_TOKENS // 2 + 1)], stride=64).documents
    assert score.tokens > MOST_TOKENS


def test_calibration_by_hand() -> None:
    """Ten tokens at 0.9, of which eight came, and ten at 0.5, of which five came: off by 0.1 for half of them."""
    calibration = Calibration()
    calibration.add(np.full(10, 0.9, np.float32), np.arange(10) < 8)
    calibration.add(np.full(10, 0.5, np.float32), np.arange(10) < 5)

    assert calibration.error == pytest.approx(0.05)
    assert calibration.accuracy == 0.65
    assert calibration.as_json() == [
        {"tokens": 10, "confidence": 0.5, "accuracy": 0.5},
        {"tokens": 10, "confidence": 0.9, "accuracy": 0.8},
    ]


def test_a_certainty_is_in_the_last_bin() -> None:
    calibration = Calibration()
    calibration.add(np.ones(1, np.float32), np.ones(1, bool))
    assert calibration.tokens[BINS - 1] == 1


@pytest.mark.native
@pytest.mark.parametrize("bits", [8, 4])
def test_packed_weights_are_evaluated_as_they_are_deployed(folder: Path, text: Path, tmp_path: Path, bits: int) -> None:
    """The native engine and the unpacked weights on the reference engine see the same model."""
    packed = quantize(folder, tmp_path / "packed", bits).folder

    native = evaluate(packed, [text], threads=1)
    reference = evaluate(packed, [text], engine="reference", threads=1)

    assert native["engine"].startswith("native")
    assert reference["engine"].startswith("reference")
    assert native["version"] == reference["version"] != version_of(describe_files(read_checkpoint(folder)))
    # The native engine rounds activations to 8 bits as well.
    first, second = (report["figures"]["pages"]["bits_per_byte"] for report in (native, reference))
    assert first == pytest.approx(second, rel=0.02)


def test_the_report_says_of_what_it_is(folder: Path, text: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "model")
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "<b>&amp;$_{$.txt").write_text("He came. He saw.", encoding="utf-8")

    report = evaluate(copy, [text, tmp_path / "more"], stride=16, threads=1)

    assert report == read_json(copy / "evaluation.json") == read_evaluation(copy)
    assert report["version"] == version_of(describe_files(read_checkpoint(copy)))
    assert [text["name"] for text in report["texts"]] == ["pages", "<b>&amp;$_{$"]
    assert (
        report["figures"].keys()
        == report["documents"].keys()
        == report["calibration"].keys()
        == {"pages", "<b>&amp;$_{$"}
    )
    assert report["figures"]["pages"].keys() == {
        "perplexity_per_token", "perplexity_per_word", "bits_per_byte", "tokens", "words", "bytes", "accuracy",
        "calibration_error",
    }  # fmt: skip
    assert report["figures"]["pages"]["words"] == 360
    assert (report["context"], report["stride"]) == (64, 16)
    examined = {fingerprint(document) for document in (*pages(3), "He came. He saw.")}
    assert decode_fingerprints(report["held_out_documents"]) == examined
    assert report["speed"]["weights_bytes"] == (copy / "model.safetensors").stat().st_size
    assert report["speed"]["decode_tokens_per_second"] > 0
    assert report["samples"]["pages"] == 8
    page = (copy / "evaluation.html").read_text(encoding="utf-8")
    assert page.count("<svg") == page.count("</svg>") == 2
    assert "<b>" not in page
    assert not re.search(r"<(?:script|link|img|iframe)|(?:src|href)=\"(?!#)|url\((?!#)", page)
    assert not list(copy.glob("*.partial"))
    # What is written there is no part of the version.
    assert version_of(describe_files(read_checkpoint(copy))) == report["version"]


def test_the_same_checkpoint_has_the_same_figures(folder: Path, text: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "model")
    first, second = evaluate(copy, [text], threads=1), evaluate(copy, [text], threads=1)

    same = ("version", "texts", "figures", "samples", "calibration", "documents")
    assert {name: first[name] for name in same} == {name: second[name] for name in same}


def test_a_report_of_other_files_is_refused(folder: Path, text: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "model")
    with pytest.raises(InvalidRequestError, match="has not been evaluated: `lifecycle evaluate` does"):
        read_evaluation(copy)
    evaluate(copy, [text], threads=1)
    write_json(copy / "generation_config.json", {"eos_token_id": 299})

    with pytest.raises(InvalidRequestError, match=r"is that of v[0-9a-f]{16}, and the files are v[0-9a-f]{16}"):
        read_evaluation(copy)


def test_what_cannot_be_evaluated_is_told(folder: Path, text: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    shutil.copyfile(text, tmp_path / "other" / "pages.jsonl")
    (tmp_path / "empty.jsonl").write_text(json.dumps({"text": " "}), encoding="utf-8")
    for texts, stride, message in (
        ([tmp_path / "nowhere"], 0, "text: .*nowhere is no .* file, nor a folder of some"),
        ([tmp_path / "empty.jsonl"], 0, "text: .*empty.jsonl holds no words"),
        ([text, tmp_path / "other"], 0, "text: two files are called pages, and figures go by names"),
        ([text], 65, "stride: must be from 0 to the context of 64, got 65"),
        ([text], -1, "stride: must be from 0 to the context of 64, got -1"),
    ):
        with pytest.raises(InvalidRequestError, match=message):
            evaluate(folder, texts, stride=stride, threads=1)
    assert not (folder / "evaluation.json").exists()
