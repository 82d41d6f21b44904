"""Fine-tuning: it starts at the base, whole or by adapters, from texts or shards, and never on what was examined."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import GPT2LMHeadModel

from handler.errors import CorruptModelError, InvalidRequestError
from handler.inference.tensors import as_torch
from handler.registry.manifest import version_of
from lifecycle.checkpoint import Checkpoint, read_checkpoint, read_json, write_json
from lifecycle.data.fingerprints import decode_fingerprints, encode_fingerprints, fingerprint
from lifecycle.data.preparing import prepare
from lifecycle.data.splits import Shares
from lifecycle.publishing import describe_files
from lifecycle.quantizing import quantize
from lifecycle.training.base import read_base
from lifecycle.training.corpus import read_books
from lifecycle.training.curve import read_log
from lifecycle.training.data import read_data
from lifecycle.training.evaluation import total_loss
from lifecycle.training.settings import TrainingSettings
from lifecycle.training.trainer import train
from tests.books import write_books
from tests.runs import interrupted, log_of


@pytest.fixture(scope="module")
def trained_once(tmp_path_factory: pytest.TempPathFactory, tiny: TrainingSettings) -> Path:
    """A model that has read the hills, with a chat template; the marsh and the tower are kept from it."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("once")
    settings = dataclasses.replace(tiny, hold_out=("marsh", "tower"), steps=40, learning_rate=1e-2)
    train(write_books(folder / "texts"), folder / "base", settings, license_="CC0-1.0")
    (folder / "base" / "chat_template.jinja").write_text("{{ messages[0].content }}", encoding="utf-8")
    return folder / "base"


@pytest.fixture
def base(trained_once: Path, tmp_path: Path) -> Path:
    """The same, to do with as one likes."""
    return shutil.copytree(trained_once, tmp_path / "base", ignore=shutil.ignore_patterns("run"))


@pytest.fixture
def marsh(texts: Path, tmp_path: Path) -> Path:
    """A folder with new sentences by the author of the marsh, and the hills to examine on."""
    folder = tmp_path / "more"
    folder.mkdir()
    raw = (texts / "marsh.txt").read_text(encoding="utf-8")
    (folder / "marsh.txt").write_text(raw.replace("a lamp", "a boat") * 2, encoding="utf-8")
    (folder / "mill.txt").write_text(raw.replace("the river", "the mill"), encoding="utf-8")
    return folder


@pytest.fixture
def tuning(tiny: TrainingSettings) -> TrainingSettings:
    return dataclasses.replace(tiny, hold_out=("mill",), dropout=0.0, learning_rate=3e-3)


def trained(checkpoint: Checkpoint | None) -> Checkpoint:
    assert checkpoint is not None
    return checkpoint


@pytest.mark.parametrize("lora_rank", [0, 2])
def test_a_model_is_taken_further(
    lora_rank: int, base: Path, marsh: Path, tmp_path: Path, tuning: TrainingSettings
) -> None:
    out = tmp_path / "out"

    checkpoint = trained(train(marsh, out, dataclasses.replace(tuning, lora_rank=lora_rank), base=base))

    before, after = (read_checkpoint(folder) for folder in (base, out))
    assert after.architecture == before.architecture
    assert after.files == before.files
    for name in ("tokenizer.json", "generation_config.json", "chat_template.jinja"):
        assert (out / name).read_bytes() == (base / name).read_bytes()
    assert checkpoint.provenance.derived_from == version_of(describe_files(before))
    assert checkpoint.provenance.source == "lifecycle train on marsh, from lifecycle train on hills"
    assert checkpoint.provenance.license == "CC0-1.0"
    assert checkpoint.provenance.training["lora_rank"] == lora_rank
    validation = [line["validation_loss"] for line in log_of(out) if "validation_loss" in line]
    assert validation[-1] < validation[0]
    # Adapters have moved matrices and nothing else.
    tensors, originals = load_file(out / "model.safetensors"), load_file(base / "model.safetensors")
    moved = {name for name, tensor in tensors.items() if not torch.equal(tensor, originals[name])}
    matrices = {name for name in originals if ".attn.c_" in name or ".mlp.c_" in name}
    assert moved == ({name for name in matrices if name.endswith("weight")} if lora_rank else tensors.keys())


def test_adapters_that_were_added_are_the_model_that_was_trained(
    base: Path, marsh: Path, tmp_path: Path, tuning: TrainingSettings
) -> None:
    """The figures of the folder, which plain transformers reads, are the loss of the best evaluation."""
    settings = dataclasses.replace(tuning, lora_rank=4)
    train(marsh, tmp_path / "out", settings, base=base)

    model = GPT2LMHeadModel.from_pretrained(tmp_path / "out")
    again = read_base(tmp_path / "out")

    assert model.transformer.state_dict().keys() == again.tensors.keys()
    best = min(line["validation_loss"] for line in log_of(tmp_path / "out") if "validation_loss" in line)
    validation = read_data(marsh, again.shape(settings), read_base(base)).validation
    loss = total_loss(model, validation[:, :-1], validation[:, 1:]) / validation[:, 1:].size
    assert loss == pytest.approx(best, abs=1e-5)


def test_an_interrupted_run_with_adapters_is_resumed(
    base: Path, marsh: Path, tmp_path: Path, tuning: TrainingSettings
) -> None:
    settings = dataclasses.replace(tuning, lora_rank=2, dropout=0.1)
    train(marsh, tmp_path / "whole", settings, base=base)

    with interrupted(10), pytest.raises(KeyboardInterrupt):
        train(marsh, tmp_path / "stopped", settings, base=base)
    assert log_of(tmp_path / "stopped") == log_of(tmp_path / "whole")[:3]
    train(marsh, tmp_path / "stopped", settings, base=base)

    assert log_of(tmp_path / "stopped") == log_of(tmp_path / "whole")
    one, other = (tmp_path / name / "model.safetensors" for name in ("whole", "stopped"))
    assert one.read_bytes() == other.read_bytes()


def test_a_log_that_ends_within_a_line_is_read_up_to_there(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text('{"step": 4}\n{"step": 8}\n{"ste', encoding="utf-8")

    assert read_log(tmp_path / "log.jsonl") == [{"step": 4}, {"step": 8}]


def test_adapters_and_recomputing_go_together(
    base: Path, marsh: Path, tmp_path: Path, tuning: TrainingSettings
) -> None:
    settings = dataclasses.replace(tuning, lora_rank=2, dropout=0.2)
    train(marsh, tmp_path / "kept", settings, base=base)
    train(marsh, tmp_path / "again", dataclasses.replace(settings, recompute=True), base=base)

    for one, other in zip(log_of(tmp_path / "kept"), log_of(tmp_path / "again"), strict=True):
        assert other == pytest.approx(one, rel=1e-5)


def test_packed_weights_are_unpacked_to_start_from(base: Path, tmp_path: Path) -> None:
    quantize(base, tmp_path / "packed", 8)

    packed, plain = read_base(tmp_path / "packed"), read_base(base)

    assert packed.tensors.keys() == plain.tensors.keys()
    for name in packed.tensors:
        weight, original = (as_torch(name, base.tensors[name]) for base in (packed, plain))
        # Eight bits resolve a 127th of a row's largest entry, which is at most the tensor's.
        assert (weight - original).abs().max() <= original.abs().max() / 127, name
    assert packed.held_out == plain.held_out != frozenset()


def test_what_a_model_was_examined_on_is_refused(
    texts: Path, base: Path, tmp_path: Path, tuning: TrainingSettings
) -> None:
    """The base held out marsh and tower; a run that learns from the marsh would make its figures worthless."""
    with pytest.raises(InvalidRequestError) as raised:
        train(texts, tmp_path / "out", dataclasses.replace(tuning, hold_out=("tower",)), base=base)

    assert raised.value.message == (
        f"texts: 2 of the documents to train on are among those that {base} was evaluated on: whoever learns the "
        "answers cannot be examined"
    )
    assert not (tmp_path / "out").exists()


def test_what_it_was_evaluated_on_later_is_refused_as_well(
    texts: Path, base: Path, marsh: Path, tmp_path: Path, tuning: TrainingSettings
) -> None:
    marks = map(fingerprint, read_books(marsh)[0].documents)
    write_json(base / "evaluation.json", {"held_out_documents": encode_fingerprints(marks)})

    with pytest.raises(InvalidRequestError, match="documents to train on are among those that"):
        train(marsh, tmp_path / "out", tuning, base=base)


def test_a_document_that_is_held_out_as_well_is_refused(texts: Path, tmp_path: Path, tiny: TrainingSettings) -> None:
    shutil.copyfile(texts / "tower.txt", texts / "copy.txt")

    with pytest.raises(InvalidRequestError, match="are among those that this run holds out"):
        train(texts, tmp_path / "out", tiny)


def test_children_inherit_what_they_may_not_learn(
    texts: Path, base: Path, marsh: Path, tmp_path: Path, tuning: TrainingSettings
) -> None:
    child = trained(train(marsh, tmp_path / "out", tuning, base=base))

    books = {book.name: book for folder in (texts, marsh) for book in read_books(folder)}
    examined = {fingerprint(document) for name in ("tower", "mill") for document in books[name].documents}
    inherited = decode_fingerprints(child.provenance.training["held_out_documents"])
    assert examined < inherited
    assert inherited == decode_fingerprints(encode_fingerprints(examined)) | read_base(base).held_out


def test_a_damaged_list_of_documents_is_told(base: Path) -> None:
    provenance = read_json(base / "provenance.json")
    provenance["training"]["held_out_documents"] = "x"
    write_json(base / "provenance.json", provenance)

    with pytest.raises(CorruptModelError, match="held_out_documents: fingerprints must be base64"):
        read_base(base)


def test_shards_are_trained_on_and_examined_by_their_own_test(
    texts: Path, base: Path, tmp_path: Path, tiny: TrainingSettings
) -> None:
    lines = [{"text": f"{line} {number}"} for number, line in enumerate(read_books(texts)[0].text.split("\n\n") * 2)]
    source = tmp_path / "lines.jsonl"
    source.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    shares = Shares(0.3, 0.3)
    prepare(str(source), tmp_path / "shards", tokenizer=base, shares=shares, near=1.0)
    settings = dataclasses.replace(tiny, hold_out=())

    checkpoint = trained(train(tmp_path / "shards", tmp_path / "out", settings, base=base))

    assert checkpoint.provenance.evaluation.keys() == {"test"}
    assert checkpoint.provenance.evaluation["test"]["words"] == sum(
        len(json.loads(line)["text"].split())
        for line in (tmp_path / "shards" / "test.jsonl").read_text(encoding="utf-8").splitlines()
    )
    for changes, start, message in (
        ({"hold_out": ("tower",)}, base, "hold-out: .* holds token shards, which know what is held out"),
        ({"vocabulary": 400}, None, "vocabulary: the shards in .* have 300 tokens, got 400"),
    ):
        with pytest.raises(InvalidRequestError, match=message):
            train(tmp_path / "shards", tmp_path / "other", dataclasses.replace(settings, **changes), base=start)


def test_shards_of_another_tokenizer_are_refused(
    texts: Path, base: Path, tmp_path: Path, tiny: TrainingSettings
) -> None:
    source = tmp_path / "lines.jsonl"
    source.write_text("\n".join(json.dumps({"text": f"line {n} " * 50}) for n in range(40)), encoding="utf-8")
    prepare(str(source), tmp_path / "shards", vocabulary=260, shares=Shares(0.3, 0.3), near=1.0)

    with pytest.raises(InvalidRequestError, match="were made with another tokenizer than that of"):
        train(tmp_path / "shards", tmp_path / "out", dataclasses.replace(tiny, hold_out=()), base=base)


def test_a_run_that_learns_no_more_stops(texts: Path, tmp_path: Path, tiny: TrainingSettings) -> None:
    """At an absurd learning rate nothing is better than the first evaluations."""
    settings = dataclasses.replace(tiny, steps=400, warmup=20, eval_every=5, learning_rate=3.0, patience=3)

    checkpoint = trained(train(texts, tmp_path / "out", settings))

    facts = checkpoint.provenance.training
    assert facts["steps_taken"] == facts["best_step"] + 15 < 400
    assert log_of(tmp_path / "out")[-1]["step"] == facts["steps_taken"]
    before = (tmp_path / "out" / "run" / "state.safetensors").stat().st_mtime_ns
    train(texts, tmp_path / "out", settings)
    assert (tmp_path / "out" / "run" / "state.safetensors").stat().st_mtime_ns == before
