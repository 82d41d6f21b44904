"""`train`: from texts or token shards, and perhaps a model, to a checkpoint folder; what was killed is resumed.

Several processes, as `torchrun` starts them, do this together; the first of them writes what there is to write.
"""

from collections.abc import Mapping
from pathlib import Path

import torch

from handler.errors import InvalidRequestError
from lifecycle.checkpoint import Checkpoint, Provenance
from lifecycle.data.fingerprints import HELD_OUT, encode_fingerprints
from lifecycle.data.prefix import S3Prefix
from lifecycle.training.base import Base, read_base
from lifecycle.training.batches import Batches
from lifecycle.training.curve import plot_curve, read_log
from lifecycle.training.data import TrainingData, read_data
from lifecycle.training.evaluation import evaluate_book
from lifecycle.training.loop import fit
from lifecycle.training.model import load_tensors, load_trained, merged, model_to_tune, named_tensors, new_model
from lifecycle.training.output import write_output
from lifecycle.training.run_folder import RunFolder
from lifecycle.training.settings import TrainingSettings
from lifecycle.training.world import joined


def train(
    texts: Path,
    out: Path,
    settings: TrainingSettings,
    *,
    base: Path | None = None,
    dtype: str = "float32",
    license_: str | None = None,
    device: str = "cpu",
    state: str | None = None,
) -> Checkpoint | None:
    """Train a GPT-2, a new one or one that is there, and write the best weights as a checkpoint.

    The weights kept are those with the lowest loss on a sample of what is held out. The state of the run lies in
    `out/run`: when it is there, the run resumes from it and continues exactly as if it had never stopped.

    Args:
        texts: a folder of plain-text books, one `*.txt` file each, or a folder that `prepare` made.
        out: the checkpoint folder to make.
        settings: what decides the outcome; where there is a base, it decides the sizes of the model.
        base: the checkpoint folder to start from.
        dtype: how weights are stored, "float32" or "float16"; the figures are those of the stored weights.
        license_: the model's licence, recorded in the checkpoint; by default that of the base.
        device: "cpu", "cuda", or "auto" for a GPU where there is one.
        state: `s3://BUCKET/PREFIX`, where the state is kept as well, and resumed from.

    Returns:
        The checkpoint folder, checked; None in every process but the first.

    Raises:
        InvalidRequestError: texts or settings cannot be trained on, or `out` holds another run.
        CorruptModelError: the base or the shards are not sound.
        RegistryError: S3 does not do as it should.
        OSError: the disk is full.
    """
    start = read_base(base) if base else None
    if settings.lora_rank and not start:
        raise InvalidRequestError("lora_rank: adapters stand beside a model; name one with --from", param="lora_rank")
    settings = start.shape(settings) if start else settings
    data = read_data(texts, settings, start)
    batches = Batches(data.training, context=settings.context, batch_size=settings.batch_size, seed=settings.seed)
    run = RunFolder(out / "run", S3Prefix.parse(state, "state") if state else None)
    with joined(device) as world:
        _check_precision(settings, world.device)
        settings.micro_batches(world.size)
        # Claimed only now: what was refused above leaves no folder that would refuse the next attempt.
        if world.is_first:
            source = start.version if start else None
            run.claim({**settings.as_json(), "texts_sha256": data.sha256, "from": source})
        world.wait()
        end_of_text = data.end_of_text
        model = model_to_tune(start, settings, end_of_text) if start else new_model(settings, end_of_text)
        model.to(world.device)
        progress, best = fit(model, batches, data.validation, settings, run=run, world=world)
        if not world.is_first:
            return None
    load_trained(model, best)
    final = merged(model)
    stored = {name: tensor.to(getattr(torch, dtype)) for name, tensor in named_tensors(final).items()}
    load_tensors(final, {name: tensor.float() for name, tensor in stored.items()})
    plot_curve(read_log(run.log), run.curve)
    facts = {
        **settings.as_json(),
        "training_tokens": len(data.training),
        "epochs": round(progress.step / batches.per_epoch, 2),
        "steps_taken": progress.step,
        "best_step": progress.best_step,
        "processes": world.size,
        "seconds": round(progress.seconds),
    }
    evaluation = {book.name: evaluate_book(final, data.tokenizer, book).as_json() for book in data.held_out}
    provenance = _provenance(data, start, license_, evaluation, facts)
    return write_output(out, final, data.tokenizer_json, dtype=dtype, provenance=provenance, base=start)


def _provenance(
    data: TrainingData,
    base: Base | None,
    license_: str | None,
    evaluation: Mapping[str, object],
    facts: Mapping[str, object],
) -> Provenance:
    """Where a trained model comes from; what it was evaluated on is never to be trained on, by whoever goes on."""
    held_out, before = data.held_out_documents, base.checkpoint.provenance if base else None
    return Provenance(
        source=f"lifecycle train on {data.names}" + (f", from {before.source}" if before else ""),
        license=license_ or (before.license if before else None),
        derived_from=base.version if base else None,
        evaluation=evaluation,
        data={"texts": data.names, "sha256": data.sha256},
        training={**facts, HELD_OUT: encode_fingerprints(held_out | base.held_out if base else held_out)},
    )


def _check_precision(settings: TrainingSettings, device: torch.device) -> None:
    if settings.precision == "bf16" and device.type == "cuda" and not torch.cuda.is_bf16_supported():
        raise InvalidRequestError("precision: this GPU has no bf16; use fp32", param="precision")
