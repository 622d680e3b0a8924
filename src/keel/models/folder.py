"""Model folders as transformers reads them, written whole or not at all."""

import copy
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from keel.errors import UserError
from keel.models.backbone import stack_of


def write_language_model(
    path: Path, model: PreTrainedModel, state: dict[str, Tensor], tokenizer: PreTrainedTokenizerBase
) -> None:
    """Fill a folder for `AutoModelForCausalLM`: the architecture of `model`, the weights `state`, and the tokenizer."""
    with torch.device("meta"):
        written = AutoModelForCausalLM.from_config(_plain(model.config, tokenizer))
    written.generation_config = copy.deepcopy(model.generation_config)
    written.generation_config.pad_token_id = tokenizer.pad_token_id
    _write(path, written, state, tokenizer)


def write_scalar_model(
    path: Path,
    model: PreTrainedModel,
    state: dict[str, Tensor],
    score: Tensor,
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    """Fill a folder for `AutoModelForSequenceClassification` with one label, read at the last token that is not pad.

    `state` is that of `model`, whose own head (if it has one) is left out; `score` is the scalar head's weight, [D].
    """
    written = classifier_like(model, tokenizer)
    before, after = f"{stack_of(model)[0]}.", f"{stack_of(written)[0]}."
    body = {after + key.removeprefix(before): tensor for key, tensor in state.items() if key.startswith(before)}
    _write(path, written, {**body, "score.weight": score.detach()[None]}, tokenizer)


def classifier_like(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase | None = None) -> PreTrainedModel:
    """A sequence classifier with one label around a decoder stack like that of `model`, without memory for weights.

    Raises UserError for an architecture whose classifier is not that stack and a `score` layer without bias.
    """
    config = _plain(model.config, tokenizer)
    config.num_labels = 1
    name = type(model).__name__
    try:
        with torch.device("meta"):
            written = AutoModelForSequenceClassification.from_config(config)
    except ValueError as error:
        raise UserError(
            f"transformers has no sequence classifier for {name}, so neither reward nor value model can be made of it; "
            "use another architecture."
        ) from error
    score = getattr(written, "score", None)
    same = type(stack_of(model)[1]) is type(stack_of(written)[1])
    if not (same and isinstance(score, nn.Linear) and score.bias is None):
        raise UserError(
            f"{type(written).__name__} is not the decoder of {name} with a linear score, so neither reward nor value "
            "model can be made of it; use another architecture."
        )
    return written


def _plain(config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase | None) -> PreTrainedConfig:
    plain = copy.deepcopy(config)
    if tokenizer is not None:
        plain.pad_token_id = plain.get_text_config().pad_token_id = tokenizer.pad_token_id
    return plain


def _write(path: Path, written: PreTrainedModel, state: dict[str, Tensor], tokenizer: PreTrainedTokenizerBase) -> None:
    written.load_state_dict(state, strict=True, assign=True)
    written.tie_weights()
    written.save_pretrained(path)
    tokenizer.save_pretrained(path)
