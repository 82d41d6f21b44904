"""The model in training: transformers' GPT-2, its loss, and its way into and out of named tensors."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F  # noqa: N812 (the name everybody knows it by)
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel

from lifecycle.training.settings import TrainingSettings


def new_model(settings: TrainingSettings, end_of_text: int) -> GPT2LMHeadModel:
    """A freshly initialised GPT-2; the seed decides its weights.

    Attention weights are not dropped: torch's fused attention on CPU has no dropout, and residual and embedding
    dropout regularise enough.
    """
    torch.manual_seed(settings.seed)
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=settings.vocabulary,
            n_positions=settings.context,
            n_embd=settings.width,
            n_layer=settings.layers,
            n_head=settings.heads,
            # The same function as the "gelu_new" that the checkpoint names, in one fused kernel instead of seven.
            activation_function="gelu_pytorch_tanh",
            resid_pdrop=settings.dropout,
            embd_pdrop=settings.dropout,
            attn_pdrop=0.0,
            bos_token_id=end_of_text,
            eos_token_id=end_of_text,
            attn_implementation="sdpa",  # type: ignore[call-arg]  # one of PreTrainedConfig's own keywords
        )
    )


def new_optimizer(model: GPT2LMHeadModel, weight_decay: float) -> torch.optim.AdamW:
    """AdamW (Loshchilov & Hutter 2019) that decays matrices only: gains and biases have no reason to be small."""
    parameters = list(model.parameters())
    groups = [
        {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, betas=(0.9, 0.995), fused=True)


def next_token_loss(model: GPT2LMHeadModel, inputs: Tensor, targets: Tensor, reduction: str = "mean") -> Tensor:
    """Cross-entropy of every target, in nats; targets of -100 count for nothing.

    Args:
        model: the model to score with.
        inputs: token ids, (B, T).
        targets: for each input the token that follows it, (B, T).
        reduction: "mean" or "sum" over targets.
    """
    logits = model(inputs, use_cache=False).logits  # (B, T, V)
    return F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), reduction=reduction)


def named_tensors(model: GPT2LMHeadModel) -> dict[str, Tensor]:
    """Copies of the weights under the names of the original GPT-2 files: no `transformer.` prefix, no tied head."""
    return {name: tensor.detach().clone() for name, tensor in model.transformer.state_dict().items()}


def load_tensors(model: GPT2LMHeadModel, tensors: Mapping[str, Tensor]) -> None:
    """Put weights named like `named_tensors` names them back into a model."""
    model.transformer.load_state_dict(tensors)


def checkpoint_config(model: GPT2LMHeadModel, dtype: str) -> dict[str, object]:
    """The `config.json` of a checkpoint folder: what an engine needs to know, in transformers' names."""
    config = model.config
    shape = {
        name: getattr(config, name) for name in ("vocab_size", "n_positions", "n_embd", "n_layer", "n_head", "n_inner")
    }
    dropout = {name: getattr(config, name) for name in ("embd_pdrop", "resid_pdrop", "attn_pdrop")}
    return {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        **shape,
        "layer_norm_epsilon": config.layer_norm_epsilon,
        "activation_function": "gelu_new",
        **dropout,
        "bos_token_id": config.bos_token_id,
        "eos_token_id": config.eos_token_id,
        "tie_word_embeddings": True,
        "dtype": dtype,
    }
