"""Stop strings: which token completes one, when text is only known as tokens."""

from __future__ import annotations

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

_PARTIAL = "\ufffd"  # what a decoder writes for bytes that are not a character yet


class StopStrings:
    """Tells whether the last of these tokens completes a stop string, asked after each token.

    Text is what the tokenizer decodes, special tokens included, so that a stop string may name one. Only a tail of the
    tokens is decoded, and only when the last token could end a stop string: a step costs the same late as early.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, stops: tuple[str, ...]) -> None:
        self._tokenizer = tokenizer
        self._stops = stops
        # A character takes at most 4 byte tokens; 8 more keep what a decoder does at the edge (a dropped leading
        # space, half a character) out of reach of a match.
        self._tail = 4 * max(map(len, stops), default=0) + 8
        self._may_end: dict[int, bool] = {}

    def completed_by(self, tokens: Sequence[int]) -> bool:
        """True when the text of `tokens` holds a stop string; the text of all but the last token must not."""
        if not self._stops or not self._could_end(tokens[-1]):
            return False
        text = self._decode(tokens[-self._tail :])
        return any(stop in text for stop in self._stops)

    def _could_end(self, token: int) -> bool:
        if token not in self._may_end:
            text = self._decode((token,))
            # Alone, a token may lose a space that it has inside a text, and a partial character shows nothing.
            hidden = not text or _PARTIAL in text
            self._may_end[token] = hidden or any(stop[-1].isspace() or stop[-1] in text for stop in self._stops)
        return self._may_end[token]

    def _decode(self, tokens: Sequence[int]) -> str:
        text: str = self._tokenizer.decode(list(tokens), skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return text
