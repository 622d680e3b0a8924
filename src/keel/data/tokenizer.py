"""What every tokenizer must have before it may train: an end token, and a pad token that is another one.

Where pad = EOS, whoever masks padding masks the end of the answer with it, and the model never learns to stop.
"""

from __future__ import annotations

import logging

from transformers import PreTrainedTokenizerBase

from keel.errors import UserError

PADS = (
    "<|pad|>",
    "<pad>",
    "[PAD]",
    "<PAD>",
    "<|finetune_right_pad_id|>",
    "<|padding|>",
    "<｜▁pad▁｜>",
    "<|fim_pad|>",
    "<fim_pad>",
    "<|vision_pad|>",
    "<|reserved_special_token_0|>",
)
"""Tokens that vocabularies reserve for padding, or for nothing, in order of preference."""

_log = logging.getLogger(__name__)


def require_eos(tokenizer: PreTrainedTokenizerBase) -> int:
    """The id of the end-of-text token, which the tokenizer must know as one token; UserError otherwise."""
    eos, text = tokenizer.eos_token_id, tokenizer.eos_token
    if eos is None or text is None:
        raise UserError(
            f"{_name(tokenizer)}: the tokenizer has no EOS token, so no answer could ever end; set eos_token in its"
            " tokenizer_config.json."
        )
    if list(tokenizer(text, add_special_tokens=False)["input_ids"]) != [eos]:
        raise UserError(
            f"{_name(tokenizer)}: the tokenizer does not read its own EOS '{text}' as the one token {eos}; add it as a"
            " special token."
        )
    return int(eos)


def require_pad(tokenizer: PreTrainedTokenizerBase) -> None:
    """Sees to it that the pad token exists and is not EOS; sets `tokenizer.pad_token` where it must.

    A token that the vocabulary reserves for padding (`PADS`) is taken, or else the unknown token where it is not EOS;
    the choice is logged. No token is ever added, since the model has no embedding for it. UserError when none fits.
    """
    eos = require_eos(tokenizer)
    if tokenizer.pad_token_id is not None and tokenizer.pad_token_id != eos:
        return
    vocabulary = tokenizer.get_vocab()
    taken = {eos, tokenizer.bos_token_id}
    for token in (*PADS, tokenizer.unk_token):
        if token in vocabulary and vocabulary[token] not in taken:
            was = "was EOS" if tokenizer.pad_token_id == eos else "was missing"
            tokenizer.pad_token = token
            _log.warning("%s: the pad token %s; '%s' is used for it.", _name(tokenizer), was, token)
            return
    raise UserError(
        f"{_name(tokenizer)}: the pad token {'is EOS' if tokenizer.pad_token_id == eos else 'is missing'} and the"
        " vocabulary has none to spare, so a model could not learn to stop; add one with"
        " tokenizer.add_special_tokens({'pad_token': '<|pad|>'}), then model.resize_token_embeddings(len(tokenizer)),"
        " and save both."
    )


def _name(tokenizer: PreTrainedTokenizerBase) -> str:
    return str(tokenizer.name_or_path) or type(tokenizer).__name__
