"""The model in training: transformers' GPT-2, or the model of another architecture that is fine-tuned.

Beside it, its loss, and its way into and out of named tensors.
"""

import copy
import warnings
from collections.abc import Mapping
from typing import Final

import torch
import torch.nn.functional as F  # noqa: N812 (the name everybody knows it by)
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedModel

from handler.inference.causal_model import load_model, read_config
from handler.inference.config import Activation, ModelConfig
from handler.inference.reference import load_weights
from lifecycle.training.base import Base
from lifecycle.training.settings import TrainingSettings

# The tanh approximation is the function that checkpoints call "gelu_new", in one fused kernel instead of seven.
_ACTIVATIONS: Final[Mapping[Activation, str]] = {"gelu": "gelu", "gelu_tanh": "gelu_pytorch_tanh"}
_IN_CHECKPOINTS: Final = {"gelu": "gelu", "gelu_pytorch_tanh": "gelu_new"}


def new_model(settings: TrainingSettings, end_of_text: int) -> GPT2LMHeadModel:
    """A freshly initialised GPT-2; the seed decides its weights."""
    config = ModelConfig(
        layers=settings.layers,
        heads=settings.heads,
        width=settings.width,
        inner_width=4 * settings.width,
        context_length=settings.context,
        vocabulary_size=settings.vocabulary,
        layer_norm_epsilon=1e-5,
        activation="gelu_tanh",
    )
    torch.manual_seed(settings.seed)
    return GPT2LMHeadModel(_transformers_config(config, settings.dropout, end_of_text))


def model_to_tune(base: Base, settings: TrainingSettings, end_of_text: int) -> torch.nn.Module:
    """The model to start from, whole, or with adapters of which alone the weights are trained.

    Adapters stand beside every matrix of the blocks and begin as zeros, so that the first loss is the base's. The
    settings' dropout is a GPT-2's; a model of another architecture drops what its own configuration says.
    """
    is_gpt2 = base.checkpoint.is_gpt2
    model = _gpt2_to_tune(base, settings.dropout, end_of_text) if is_gpt2 else _causal_to_tune(base)
    if not settings.lora_rank:
        return model
    # Only here: importing it takes seconds.
    from peft import LoraConfig, get_peft_model  # noqa: PLC0415

    torch.manual_seed(settings.seed)
    adapters = LoraConfig(
        r=settings.lora_rank,
        lora_alpha=2 * settings.lora_rank,
        target_modules=["c_attn", "c_proj", "c_fc"] if is_gpt2 else "all-linear",
        fan_in_fan_out=is_gpt2,  # which stores its matrices (in, out)
        task_type="CAUSAL_LM",
    )
    with warnings.catch_warnings():
        # peft 0.21 asks for an attribute that transformers 5 is about to rename.
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        return get_peft_model(model, adapters)


def _gpt2_to_tune(base: Base, dropout: float, end_of_text: int) -> PreTrainedModel:
    config = ModelConfig.from_json(base.document)
    model = GPT2LMHeadModel(_transformers_config(config, dropout, end_of_text))
    load_tensors(model, load_weights(config, base.tensors))
    return model


def _causal_to_tune(base: Base) -> PreTrainedModel:
    model = load_model(read_config(base.document), base.tensors, device="cpu", attention="sdpa")
    return copy.deepcopy(model)  # the weights as they were loaded are those of the file, which stays as it is


def merged(model: torch.nn.Module) -> PreTrainedModel:
    """The model with its adapters, if it has any, added to the matrices they stand beside."""
    if isinstance(model, PreTrainedModel):
        return model
    plain: PreTrainedModel = model.merge_and_unload()  # type: ignore[operator]  # it is peft's
    return plain


def _transformers_config(config: ModelConfig, dropout: float, end_of_text: int) -> GPT2Config:
    """The architecture in transformers' words.

    Attention weights are not dropped: torch's fused attention on CPU has no dropout, and residual and embedding
    dropout regularise enough.
    """
    return GPT2Config(
        vocab_size=config.vocabulary_size,
        n_positions=config.context_length,
        n_embd=config.width,
        n_layer=config.layers,
        n_head=config.heads,
        n_inner=None if config.inner_width == 4 * config.width else config.inner_width,
        layer_norm_epsilon=config.layer_norm_epsilon,
        activation_function=_ACTIVATIONS[config.activation],
        resid_pdrop=dropout,
        embd_pdrop=dropout,
        attn_pdrop=0.0,
        bos_token_id=end_of_text,
        eos_token_id=end_of_text,
        attn_implementation="sdpa",  # type: ignore[call-arg]  # one of PreTrainedConfig's own keywords
    )


def new_optimizer(model: torch.nn.Module, weight_decay: float) -> torch.optim.AdamW:
    """AdamW (Loshchilov & Hutter 2019) that decays matrices only: gains and biases have no reason to be small."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, betas=(0.9, 0.995), fused=True)


def next_token_loss(model: torch.nn.Module, inputs: Tensor, targets: Tensor, reduction: str = "mean") -> Tensor:
    """Cross-entropy of every target, in nats; targets of -100 count for nothing.

    Args:
        model: the model to score with.
        inputs: token ids, (B, T).
        targets: for each input the token that follows it, (B, T).
        reduction: "mean" or "sum" over targets.
    """
    logits = model(inputs, use_cache=False).logits  # (B, T, V)
    return F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), reduction=reduction)


def named_tensors(model: PreTrainedModel) -> dict[str, Tensor]:
    """Copies of the weights, what is tied only once.

    They have transformers' names, and those of a GPT-2 the names of the original files: no `transformer.` prefix.
    """
    return {
        _stored_name(model, name): tensor.detach().cpu().clone()
        for name, tensor in model.state_dict().items()
        if name not in model.all_tied_weights_keys
    }


def load_tensors(model: PreTrainedModel, tensors: Mapping[str, Tensor]) -> None:
    """Put weights named like `named_tensors` names them back into a model."""
    tied = model.all_tied_weights_keys
    names = {_stored_name(model, name): name for name in model.state_dict() if name not in tied}
    state = {name: tensors[stored] for stored, name in names.items()}
    model.load_state_dict(state | {name: state[other] for name, other in tied.items()})


def _stored_name(model: PreTrainedModel, name: str) -> str:
    return name.removeprefix("transformer.") if isinstance(model, GPT2LMHeadModel) else name


def trained_tensors(model: torch.nn.Module) -> dict[str, Tensor]:
    """Copies of what is trained, the whole model or its adapters, under torch's names."""
    return {name: p.detach().cpu().clone() for name, p in model.named_parameters() if p.requires_grad}


@torch.no_grad()
def load_trained(model: torch.nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Put back what `trained_tensors` copied."""
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            parameter.copy_(tensors[name])


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
        "activation_function": _IN_CHECKPOINTS[config.activation_function],
        **dropout,
        "bos_token_id": config.bos_token_id,
        "eos_token_id": config.eos_token_id,
        "tie_word_embeddings": True,
        "dtype": dtype,
    }
