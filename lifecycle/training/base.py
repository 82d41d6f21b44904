"""What fine-tuning starts from: a checkpoint folder, and what a model made from it must not be trained on."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from handler.errors import CorruptModelError, InvalidRequestError
from handler.inference.config import ModelConfig
from handler.inference.packed import unpack
from handler.inference.weights import Tensor
from handler.registry.manifest import version_of
from lifecycle.checkpoint import CONFIG, EVALUATION, WEIGHTS, Checkpoint, read_checkpoint, read_json
from lifecycle.data.fingerprints import HELD_OUT, decode_fingerprints
from lifecycle.publishing import describe_files
from lifecycle.training.settings import TrainingSettings
from lifecycle.weights import map_tensors


@dataclass(frozen=True, slots=True)
class Base:
    """A checkpoint to start from.

    Attributes:
        checkpoint: the folder.
        version: the version these files are.
        document: its `config.json`.
        tensors: the weights by their names there; packed ones are unpacked.
        held_out: the fingerprints of all documents that it, or what it was made from, was evaluated on.
    """

    checkpoint: Checkpoint
    version: str
    document: Mapping[str, Any]
    tensors: Mapping[str, Tensor]
    held_out: frozenset[int]

    def shape(self, settings: TrainingSettings) -> TrainingSettings:
        """The settings with the sizes this model has.

        Raises:
            InvalidRequestError: it cannot see as many tokens at once as the settings ask for.
        """
        sizes = self.checkpoint.architecture
        if settings.context > sizes.context_length:
            raise InvalidRequestError(
                f"context: {self.checkpoint.folder} sees at most {sizes.context_length} tokens at once, "
                f"got {settings.context}",
                param="context",
            )
        return replace(
            settings,
            vocabulary=sizes.vocabulary_size,
            width=sizes.width,
            layers=sizes.layers,
            heads=sizes.heads,
        )


def read_base(folder: Path) -> Base:
    """Read a checkpoint folder to start from.

    Raises:
        InvalidRequestError: there is no such folder.
        CorruptModelError: something in it is missing or damaged.
        UnsupportedModelError: something about the model is not implemented.
    """
    checkpoint = read_checkpoint(folder)
    document = read_json(folder / CONFIG)
    tensors, layout = map_tensors(folder / WEIGHTS)
    evaluation = read_json(folder / EVALUATION) if (folder / EVALUATION).exists() else {}
    try:
        held_out = [decode_fingerprints(facts.get(HELD_OUT)) for facts in (checkpoint.provenance.training, evaluation)]
    except CorruptModelError as error:
        raise CorruptModelError(f"{folder}: {HELD_OUT}: {error.message}") from error
    return Base(
        checkpoint=checkpoint,
        version=version_of(describe_files(checkpoint)),
        document=document,
        tensors=unpack(ModelConfig.from_json(document), tensors, layout) if layout else tensors,
        held_out=frozenset().union(*held_out),
    )
