"""Everything that decides the outcome of a training run, checked where it is set."""

from dataclasses import asdict, dataclass

from handler.errors import InvalidRequestError

_LEAST = dict.fromkeys(("context", "width", "layers", "heads", "batch_size", "steps", "eval_every"), 1)
_LEAST |= dict.fromkeys(("micro_batch", "patience", "lora_rank", "weight_decay"), 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSettings:
    """A run's settings; two runs with equal settings and equal texts give equal weights on the same machine.

    Attributes:
        hold_out: names of the books that are evaluated on and never trained on; none for token shards.
        vocabulary: tokens in the vocabulary.
        context: tokens the model sees at once.
        width: size of the embedding, a multiple of `heads`.
        layers: transformer blocks.
        heads: attention heads per block.
        dropout: probability of dropping an activation, in embeddings and residual branches.
        batch_size: windows of `context` tokens per step, those of all processes together.
        micro_batch: windows that go through the model at once; the gradients of several add up to those of the batch.
            0 takes a process's whole part of the batch.
        steps: optimizer steps in the run.
        warmup: steps over which the learning rate rises.
        learning_rate: its peak.
        weight_decay: AdamW's, on matrices.
        clip: the largest norm of the gradient; a longer one is scaled down to it.
        eval_every: steps between evaluations; each also saves the state a killed run resumes from.
        patience: evaluations without a lower loss after which the run stops; 0 takes all steps.
        precision: "bf16" multiplies matrices in bfloat16 (weights and optimizer stay float32), "fp32" does not.
        recompute: whether activations are computed anew on the way back instead of kept: less memory, a third more
            time (Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost").
        lora_rank: 0 trains every weight; more trains adapters of this rank beside each matrix of a model that is
            fine-tuned, which are added to it at the end (Hu et al. 2021, LoRA).
        seed: decides initial weights, order of the texts and dropout.
    """

    hold_out: tuple[str, ...] = ()
    vocabulary: int = 6144
    context: int = 256
    width: int = 256
    layers: int = 4
    heads: int = 4
    dropout: float = 0.1
    batch_size: int = 4
    micro_batch: int = 0
    steps: int = 15000
    warmup: int = 200
    learning_rate: float = 2.5e-3
    weight_decay: float = 0.1
    clip: float = 1.0
    eval_every: int = 500
    patience: int = 0
    precision: str = "bf16"
    recompute: bool = False
    lora_rank: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in _LEAST.items():
            if not (value := getattr(self, name)) >= least:
                raise InvalidRequestError(f"{name}: must be at least {least}, got {value}", param=name)
        for name in ("learning_rate", "clip"):
            if not (value := getattr(self, name)) > 0:
                raise InvalidRequestError(f"{name}: must be above 0, got {value}", param=name)
        if self.width % self.heads:
            raise InvalidRequestError(
                f"width: must be a multiple of the {self.heads} heads, got {self.width}", param="width"
            )
        if not 0 <= self.warmup < self.steps:
            raise InvalidRequestError(
                f"warmup: must be from 0 to below the {self.steps} steps, got {self.warmup}", param="warmup"
            )
        if not 0 <= self.dropout < 1:
            raise InvalidRequestError(f"dropout: must be from 0 to below 1, got {self.dropout}", param="dropout")
        if self.precision not in {"bf16", "fp32"}:
            raise InvalidRequestError(f"precision: must be bf16 or fp32, got {self.precision!r}", param="precision")

    def micro_batches(self, processes: int) -> int:
        """The parts that a batch is cut into, of which each process takes as many as every other.

        Raises:
            InvalidRequestError: the batch cannot be cut like this.
        """
        windows = self.micro_batch or self.batch_size // processes
        if not windows or self.batch_size % (windows * processes):
            raise InvalidRequestError(
                f"batch_size: must be a multiple of {windows or 1} windows at once times {processes} processes, "
                f"got {self.batch_size}",
                param="batch_size",
            )
        return self.batch_size // windows

    def as_json(self) -> dict[str, object]:
        """The settings as JSON knows them."""
        return {**asdict(self), "hold_out": list(self.hold_out)}
