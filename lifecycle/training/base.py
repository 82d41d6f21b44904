"""What fine-tuning starts from: a checkpoint folder, and what a model made from it must not be trained on."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from handler.errors import CorruptModelError, InvalidRequestError
from handler.inference.config import ModelConfig
from handler.inference.packed import unpack
from handler.inference.reference import load_weights
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
        config: the architecture.
        weights: in 32 bits by their canonical names; packed ones are unpacked.
        held_out: the fingerprints of all documents that it, or what it was made from, was evaluated on.
    """

    checkpoint: Checkpoint
    version: str
    config: ModelConfig
    weights: Mapping[str, torch.Tensor]
    held_out: frozenset[int]

    def shape(self, settings: TrainingSettings) -> TrainingSettings:
        """The settings with the sizes this model has.

        Raises:
            InvalidRequestError: it cannot see as many tokens at once as the settings ask for.
        """
        config = self.config
        if settings.context > config.context_length:
            raise InvalidRequestError(
                f"context: {self.checkpoint.folder} sees at most {config.context_length} tokens at once, "
                f"got {settings.context}",
                param="context",
            )
        return replace(
            settings,
            vocabulary=config.vocabulary_size,
            width=config.width,
            layers=config.layers,
            heads=config.heads,
        )


def read_base(folder: Path) -> Base:
    """Read a checkpoint folder to start from.

    Raises:
        InvalidRequestError: there is no such folder.
        CorruptModelError: something in it is missing or damaged.
        UnsupportedModelError: something about the model is not implemented.
    """
    checkpoint = read_checkpoint(folder)
    config = ModelConfig.from_json(read_json(folder / CONFIG))
    tensors, layout = map_tensors(folder / WEIGHTS)
    evaluation = read_json(folder / EVALUATION) if (folder / EVALUATION).exists() else {}
    try:
        held_out = [decode_fingerprints(facts.get(HELD_OUT)) for facts in (checkpoint.provenance.training, evaluation)]
    except CorruptModelError as error:
        raise CorruptModelError(f"{folder}: {HELD_OUT}: {error.message}") from error
    return Base(
        checkpoint=checkpoint,
        version=version_of(describe_files(checkpoint)),
        config=config,
        weights=load_weights(config, unpack(config, tensors, layout) if layout else tensors),
        held_out=frozenset().union(*held_out),
    )
