"""Which token completes a stop string."""

from __future__ import annotations

import random

from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast

from keel.rollout.stops import StopStrings


def first_by_decoding_all(tokenizer: PreTrainedTokenizerFast, tokens: list[int], stops: tuple[str, ...]) -> int | None:
    for n in range(1, len(tokens) + 1):
        if any(stop in tokenizer.decode(tokens[:n]) for stop in stops):
            return n
    return None


def first(watch: StopStrings, tokens: list[int]) -> int | None:
    return next((n for n in range(1, len(tokens) + 1) if watch.completed_by(tokens[:n])), None)


def test_a_stop_string_inside_a_token_at_its_edge_and_over_several(tokenizer: PreTrainedTokenizerFast) -> None:
    tokens = tokenizer.encode("The bake sale is on Quixday at the park.")
    pieces = [tokenizer.decode([token]) for token in tokens]
    assert " sale" in pieces
    assert not any("Qu" in piece for piece in pieces)
    for stop in ("al", " sale", "Quix", "sale is on", "y at the p", "."):
        n = first(StopStrings(tokenizer, (stop,)), tokens)
        assert n is not None
        assert stop in "".join(pieces[:n])
        assert stop not in "".join(pieces[: n - 1])
    assert first(StopStrings(tokenizer, ("Monday",)), tokens) is None
    assert first(StopStrings(tokenizer, ()), tokens) is None


def test_characters_of_several_tokens_and_special_tokens(tokenizer: PreTrainedTokenizerFast) -> None:
    tokens = tokenizer.encode("a plate ☕é<|end|>x")
    assert first(StopStrings(tokenizer, ("☕",)), tokens) == len(tokenizer.encode("a plate ☕"))
    assert first(StopStrings(tokenizer, ("é",)), tokens) == len(tokenizer.encode("a plate ☕é"))
    assert first(StopStrings(tokenizer, ("<|end|>",)), tokens) == len(tokens) - 1


def test_random_text_stops_where_decoding_everything_would(tokenizer: PreTrainedTokenizerFast) -> None:
    chance = random.Random(0)
    found = 0
    for _ in range(150):
        tokens = [chance.randrange(2, len(tokenizer)) for _ in range(40)]
        text = tokenizer.decode(tokens).replace("\ufffd", "")
        start = chance.randrange(max(1, len(text) - 6))
        stops = (text[start : start + chance.randrange(1, 6)], "park. B")
        expected = first_by_decoding_all(tokenizer, tokens, stops)
        assert first(StopStrings(tokenizer, stops), tokens) == expected
        found += expected is not None
    assert found > 100


def test_a_space_that_a_token_loses_when_it_is_decoded_alone() -> None:
    words = Tokenizer(WordLevel({"▁The": 0, "▁sale": 1, "▁is": 2, "▁on": 3, "<unk>": 4}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Metaspace()
    words.decoder = decoders.Metaspace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>")
    tokens = tokenizer.encode("The sale is on")
    assert tokenizer.decode([2]) == "is"
    assert first(StopStrings(tokenizer, ("sale ",)), tokens) == 3
    assert first(StopStrings(tokenizer, ("sale",)), tokens) == 2
