"""One row as a stage learns from it: which tokens are trained and which are only read."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from rich.cells import cell_len
from rich.text import Text

from keel.data.forest import Tree
from keel.summary import WIDTH

OPEN, CLOSE = "⟦", "⟧"
"""Around trained text where there are no colours."""
LONGEST = 400
"""Characters of one piece that are shown; of a longer one the middle is left out."""
_TRAINED, _READ = "bold black on green", "dim"
_INDENT = "    "


@dataclass(frozen=True)
class Piece:
    """Neighbouring tokens that are all trained or all only read, as text with their special tokens."""

    text: str
    trained: bool


@dataclass(frozen=True)
class Example:
    """A prompt and its first answer, in pieces."""

    pieces: tuple[Piece, ...]

    @classmethod
    def of(cls, tree: Tree, decode: Callable[[Sequence[int]], str]) -> Example:
        """The trunk with its first branch; `decode` gives the text of tokens, special ones included.

        Each piece is what its tokens add to the text before it, so that spaces between pieces are where they belong.
        """
        branch = tree.branches[0]
        tokens = (*tree.trunk, *branch.tokens)
        masks = (*[False] * len(tree.trunk), *branch.mask)
        pieces: list[Piece] = []
        end = said = 0
        for trained, run in groupby(masks):
            end += len(list(run))
            text = decode(tokens[:end])
            pieces.append(Piece(text[said:], trained))
            said = len(text)
        return cls(tuple(pieces))

    def lines(self, colours: bool) -> Iterator[Text]:
        """A legend, and the pieces in colours, or trained ones in ⟦brackets⟧; ⏎ is a line break."""
        legend = Text("  one example: ")
        text = Text()
        if colours:
            yield legend.append("trained", style=_TRAINED).append("  ").append("only read", style=_READ)
        else:
            yield legend.append(f"{OPEN}trained{CLOSE}, the rest is only read")
        for piece in self.pieces:
            shown = shortened(visible(piece.text))
            if colours:
                text.append(shown, style=_TRAINED if piece.trained else _READ)
            else:
                text.append(f"{OPEN}{shown}{CLOSE}" if piece.trained else shown)
        for line in text.divide(_breaks(text.plain, WIDTH - len(_INDENT))):
            yield Text(_INDENT).append_text(line)


def visible(text: str) -> str:
    """Text that cannot steer a terminal, on one line: a line break is shown as ⏎, what does not print as �.

    Spaces of every kind are shown as a plain one.
    """
    marked = text.replace("\r\n", "\n").replace("\n", "⏎").replace("\t", " ")
    shown = (" " if unicodedata.category(char) == "Zs" else char for char in marked)
    return "".join(char if char.isprintable() else "�" for char in shown)


def shortened(text: str) -> str:
    """At most `LONGEST` characters, the middle left out."""
    half = LONGEST // 2
    return text if len(text) <= LONGEST else f"{text[:half]} … {text[-half:]}"


def _breaks(text: str, width: int) -> list[int]:
    """Where lines of at most `width` columns begin, but for the first: after a space, or within a word that is longer.

    Letters of some scripts take two columns.
    """
    breaks: list[int] = []
    used, gap = 0, 0
    for place, letter in enumerate(text):
        size = cell_len(letter)
        if used + size > width:
            breaks.append(gap or place)
            used, gap = cell_len(text[breaks[-1] : place]), 0
        used += size
        gap = place + 1 if letter == " " else gap
    return breaks
