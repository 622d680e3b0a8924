"""The one error that a user reads is one line."""

from __future__ import annotations

import pytest

from keel.errors import UserError, one_line


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a plain “sentence”: ö 字 \U0001f600 …", "a plain “sentence”: ö 字 \U0001f600 …"),
        ("a\nb\tc\r\n", r"a\nb\tc\r\n"),
        ("\x1b[31mred\x00\x7f\x85", r"\x1b[31mred\x00\x7f\x85"),
        ("\u2028\u202e\ud83d", r"\u2028\u202e\ud83d"),
    ],
)
def test_what_breaks_a_line_is_escaped(text: str, shown: str) -> None:
    assert one_line(text) == str(UserError(text)) == shown
