"""Reading a command line; whatever is wrong with it is a UserError."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from typing import NoReturn

from keel.data.nearest import did_you_mean
from keel.errors import UserError

_NEGATIVE = re.compile(r"-(\.?[0-9])")


class Arguments(argparse.ArgumentParser):
    """A parser for one command. In the names of flags - and _ are the same; names are never abbreviated."""

    def __init__(self, command: str, about: str, example: str) -> None:
        super().__init__(
            prog=f"keel {command}",
            description=about,
            epilog=f"example:  {example}",
            allow_abbrev=False,
            formatter_class=lambda prog: argparse.HelpFormatter(prog, max_help_position=30),
        )

    def read(self, argv: Sequence[str]) -> argparse.Namespace:
        """The values of the command line."""
        for token in argv:
            if not _is_text(token):
                self.error(f"'{token}' is not UTF-8 text; rename the file, or write the value anew")
        # Flags may stand between other words; after -- there are none, and argparse would look for some.
        parse = self.parse_known_args if "--" in argv else self.parse_known_intermixed_args
        given, extra = parse(normalised(argv))
        for token in extra:
            if token.startswith("-") and token != "-":
                self.error(self.unknown(token.partition("=")[0]))
        if extra:
            self.error(f"unexpected argument {extra[0]}")
        return given

    def unknown(self, flag: str) -> str:
        """The sentence about a flag that there is not."""
        usage = self.format_usage().replace("[", " ").replace("]", " ").split()
        return f"there is no flag {flag}{did_you_mean(flag, [name for name in usage if name.startswith('--')])}"

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message.removeprefix('argument ')}; see `{self.prog} --help`")


def _is_text(token: str) -> bool:
    """Whether a word of the command line can be printed and written into files."""
    try:
        token.encode()
    except UnicodeEncodeError:  # bytes that were not UTF-8 arrive as half surrogate pairs
        return False
    return True


def normalised(argv: Sequence[str]) -> list[str]:
    """`--max-tokens` as `--max_tokens`, and `--flag -1e-3` as `--flag=-1e-3`, which argparse would take for a flag."""
    tokens: list[str] = []
    for position, token in enumerate(argv):
        if token == "--":
            return [*tokens, *argv[position:]]
        if token.startswith("--"):
            name, equals, value = token[2:].partition("=")
            tokens.append(f"--{name.replace('-', '_')}{equals}{value}")
        elif _NEGATIVE.match(token) and tokens and tokens[-1].startswith("--") and "=" not in tokens[-1]:
            tokens[-1] += f"={token}"
        else:
            tokens.append(token)
    return tokens
