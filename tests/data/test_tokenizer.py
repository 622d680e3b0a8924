"""Pad ≠ EOS, and EOS is one token."""

from __future__ import annotations

import pytest

from data.small import byte_level
from keel.data.chat import Chat
from keel.data.tokenizer import require_eos, require_pad
from keel.errors import UserError


def test_a_pad_of_its_own_is_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    tokenizer = byte_level()
    require_pad(tokenizer)
    assert tokenizer.pad_token == "<pad>"
    assert not caplog.records


@pytest.mark.parametrize("pad", [None, "<|im_end|>"])
def test_a_spare_token_is_taken_and_said(pad: str | None, caplog: pytest.LogCaptureFixture) -> None:
    tokenizer = byte_level()
    tokenizer.pad_token = pad
    require_pad(tokenizer)
    assert tokenizer.pad_token == "<pad>"
    assert tokenizer.pad_token_id == tokenizer.get_vocab()["<pad>"] != tokenizer.eos_token_id
    assert "'<pad>' is used" in caplog.text
    assert ("was missing" in caplog.text) == (pad is None)


def test_the_unknown_token_will_do_unless_it_is_eos() -> None:
    tokenizer = byte_level()
    tokenizer.pad_token = None
    renamed = tokenizer.backend_tokenizer.to_str().replace('"<pad>"', '"<filler>"')
    tokenizer._tokenizer = type(tokenizer.backend_tokenizer).from_str(renamed)
    require_pad(tokenizer)
    assert tokenizer.pad_token == "<unk>"
    tokenizer.pad_token, tokenizer.unk_token = None, tokenizer.eos_token
    with pytest.raises(UserError, match=r"the pad token is missing and the vocabulary has none to spare.*resize"):
        require_pad(tokenizer)
    tokenizer.pad_token = tokenizer.eos_token
    with pytest.raises(UserError, match="the pad token is EOS"):
        require_pad(tokenizer)


def test_chat_refuses_pad_that_is_eos() -> None:
    tokenizer = byte_level()
    tokenizer.pad_token = tokenizer.eos_token
    with pytest.raises(UserError, match="pad token is its EOS"):
        Chat(tokenizer)


def test_eos_must_be_there_and_be_one_token() -> None:
    tokenizer = byte_level()
    assert require_eos(tokenizer) == tokenizer.get_vocab()["<|im_end|>"]
    tokenizer.eos_token = None
    with pytest.raises(UserError, match="no EOS token"):
        require_eos(tokenizer)
    with pytest.raises(UserError, match="no EOS token"):
        Chat(tokenizer)
