"""The example shows which tokens are trained, and cannot steer the terminal."""

from __future__ import annotations

from io import StringIO

from rich.cells import cell_len
from rich.console import Console

from data.small import byte_level, sentence_piece, talk
from keel.data.chat import Chat
from keel.preflight.example import LONGEST, Example, Piece, shortened, visible


def example(chat: Chat, *turns: str) -> Example:
    return Example.of(
        chat.demonstration(talk(*turns)), lambda tokens: chat.tokenizer.decode(list(tokens), skip_special_tokens=False)
    )


def plain(one: Example) -> str:
    return "".join(line.plain.removeprefix("    ") for line in list(one.lines(colours=False))[1:])


def test_pieces_are_the_turns() -> None:
    found = example(Chat(byte_level()), "Hi", "Hello.\nBye", "And?", "No.")
    assert found.pieces == (
        Piece("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n", False),
        Piece("Hello.\nBye<|im_end|>", True),
        Piece("\n<|im_start|>user\nAnd?<|im_end|>\n<|im_start|>assistant\n", False),
        Piece("No.<|im_end|>", True),
    )


def test_spaces_between_pieces_are_kept() -> None:
    """A decoder that drops the first space of a text must not drop that of a piece."""
    template = "{% for m in messages %}{{ m['content'] }}{% if m['role'] == 'user' %} Note:{% endif %}{% endfor %}"
    found = example(Chat(sentence_piece(template, "</s>")), "The bake sale", " is on Friday")
    assert [piece.text for piece in found.pieces] == ["The bake sale Note:", " is on Friday</s>"]


def test_brackets_without_colours_and_styles_with() -> None:
    found = example(Chat(byte_level()), "Hi", "Hello.")
    assert plain(found).endswith("assistant⏎⟦Hello.<|im_end|>⟧")
    assert next(found.lines(colours=False)).plain == "  one example: ⟦trained⟧, the rest is only read"
    legend, *lines = found.lines(colours=True)
    assert "⟦" not in "".join(line.plain for line in (legend, *lines))
    styles = {span.style for span in legend.spans}
    assert len(styles) == 2
    text = "".join(line.plain[4:] for line in lines)
    marked = "".join(
        line.plain[span.start : span.end] for line in lines for span in line.spans if "green" in str(span.style)
    )
    assert marked == "Hello.<|im_end|>"
    assert text.startswith("<|im_start|>user")


def test_lines_are_short() -> None:
    lines = list(example(Chat(byte_level()), "Why? " * 100, "So. " * 300).lines(colours=False))
    assert max(len(line.plain) for line in lines) <= 80
    assert len(lines) < 20


def test_lines_of_wide_letters_are_no_wider() -> None:
    said = "面包义卖在星期五下午三点。" * 20
    lines = [line.plain for line in Example((Piece("a", False), Piece(said, True))).lines(colours=False)]
    assert max(map(cell_len, lines)) == 80
    assert "".join(line.removeprefix("    ") for line in lines[1:]) == f"a⟦{said}⟧"


def test_lines_end_between_words() -> None:
    words = [f"word{n}" for n in range(30)]
    lines = [line.plain for line in Example((Piece(" ".join(words), True),)).lines(colours=True)][1:]
    assert [word for line in lines for word in line.split()] == words
    assert all(60 < len(line.rstrip()) <= 80 for line in lines[:-1])


def test_nothing_in_a_text_reaches_the_terminal_as_a_command() -> None:
    evil = "a\x1b[2Jb\x07\u202ec\rd\x9b31m\te[bold]f"
    assert visible(evil) == "a�[2Jb��c�d�31m e[bold]f"
    assert visible("10\u202f000\xa0€\u3000全") == "10 000 € 全"  # spaces that people write
    written = StringIO()
    console = Console(file=written, force_terminal=True, color_system="truecolor", width=200, highlight=False)
    for line in Example((Piece(evil, True), Piece("x\ny", False))).lines(colours=True):
        console.print(line)
    assert "\x1b[2J" not in written.getvalue()
    assert "\x07" not in written.getvalue()
    assert "[bold]f" in written.getvalue()
    assert "x⏎y" in written.getvalue()


def test_the_middle_of_a_long_piece_is_left_out() -> None:
    text = "a" * LONGEST
    assert shortened(text) == text
    assert shortened("b" + text + "c") == "b" + "a" * (LONGEST // 2 - 1) + " … " + "a" * (LONGEST // 2 - 1) + "c"
