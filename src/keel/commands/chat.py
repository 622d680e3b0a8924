"""`keel chat`: a conversation with a model."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from keel.commands.arguments import Arguments
from keel.commands.model import add_model, find_model, sampling_of
from keel.errors import UserError
from keel.types import Conversation, Message, Prompt


def chat(argv: Sequence[str]) -> None:
    """keel chat MODEL [--FIELD VALUE ...]"""
    arguments = Arguments(
        "chat",
        "Talk to a model. It sees the whole conversation; /reset begins a new one, /quit or Ctrl-D ends. Reads lines "
        "from a pipe too.",
        "keel chat runs/demo --temperature 0.7",
    )
    add_model(arguments)
    given = arguments.read(argv)
    sampling = sampling_of(given)
    model = find_model(given.model)

    from keel.commands.writer import Writer

    writer = Writer(model, given.template, given.device, sampling, given.seed)

    def answer(messages: Conversation) -> str:
        return writer.answer([Prompt(str(len(messages)), messages)], 1)[0].text

    interactive = sys.stdin.isatty()
    if interactive:
        import readline  # noqa: F401  (arrow keys and history in `input`)

        print(f"{model}: /reset begins anew, /quit or Ctrl-D ends.")
    converse(answer, "> " if interactive else "")


def converse(answer: Callable[[Conversation], str], cue: str) -> None:
    """Reads turns until the end of input and prints the answers.

    A turn that the model cannot take, for being too long with all that came before, is said to be so and forgotten.
    """
    said: Conversation = ()
    while (line := read_line(cue)) is not None:
        match line.strip():
            case "":
                continue
            case "/quit":
                return
            case "/reset":
                said = ()
                continue
            case text:
                turns = (*said, Message("user", text))
        try:
            reply = answer(turns)
        except UserError as error:
            print(f"keel: {error}; /reset begins a new conversation", file=sys.stderr)
            continue
        said = (*turns, Message("assistant", reply))
        print(reply, flush=True)


def read_line(cue: str) -> str | None:
    """One line of input, or None at its end."""
    try:
        return input(cue)
    except EOFError:
        return None
