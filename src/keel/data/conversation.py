"""Columns of a row to conversations, in the shapes that public data sets have.

- a text: one turn, kept to the letter;
- a list of messages: `{"role", "content"}`, or `{"from", "value"}` as ShareGPT has them, or that list as JSON text;
- a transcript: a text of turns "\\n\\nHuman: …\\n\\nAssistant: …" as in HH; white space around a turn is dropped;
- `instruction` with an optional `input` below it (Alpaca), or `question`, for the prompt;
- `system`, a text that goes before the prompt.
"""

from __future__ import annotations

import re

from keel.data.place import short
from keel.data.read import Value, kind, quoted
from keel.data.row import Row, unpacked
from keel.types import Conversation, Message

_ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "model": "assistant",
    "bot": "assistant",
    "chatgpt": "assistant",
    "tool": "tool",
    "function": "tool",
    "observation": "tool",
}
_CALLS = ("tool_calls", "function_call")
_TURN = re.compile(r"(?:\A\s*|\n\n)(Human|Assistant):")
PROMPTS = ("prompt", "instruction", "question")
CONVERSATIONS = ("messages", "conversations", "conversation")


def prompt(row: Row) -> Conversation | None:
    """What the user asked, in whichever column it stands; None when there is none. Ends before the assistant's turn."""
    if row.has("prompt"):
        value = row.spelt(row.take("prompt"))
        turns = _messages(row, value, "prompt", "user")
        if isinstance(value, str) and turns[-1].role == "assistant" and not turns[-1].content:
            turns = turns[:-1]  # a transcript's closing "Assistant:" only calls for the answer
    elif row.has("instruction"):
        more = row.text("input") if row.has("input") else ""
        task = row.text("instruction")
        turns = (Message("user", f"{task}\n\n{more}" if more.strip() else task),)
    elif row.has("question"):
        turns = (Message("user", row.text("question")),)
    else:
        return None
    if turns[-1].role == "assistant":
        raise row.error("the prompt ends with an assistant's turn; it should end with what is to be answered.")
    return with_system(row, turns)


def conversation(row: Row, name: str) -> Conversation:
    """A whole conversation: a list of messages, or a transcript."""
    value = row.take(name)
    if isinstance(_listed(value), str) and not _is_transcript(value):
        raise row.error(
            f"'{row.column(name)}' should be a list of messages or a transcript that begins with 'Human:', not a plain"
            " text; give the prompt in a column of its own."
        )
    return with_system(row, _messages(row, value, name, "user"))


def answer(row: Row, value: Value, name: str, asked: Conversation) -> Conversation:
    """The assistant's part, in one of three forms.

    A text; messages from an assistant's turn on; or a whole conversation, which must begin with the prompt. After a
    transcript's prompt, white space around a text is dropped, as it is for the transcript's own turns.
    """
    value = row.spelt(value)
    if isinstance(value, str) and isinstance(_listed(value), str) and not _is_transcript(value):
        from_transcript = row.has("prompt") and _is_transcript(row.take("prompt"))
        return (Message("assistant", value.strip() if from_transcript else value),)
    turns = _messages(row, value, name, "assistant")
    if turns[0].role == "assistant":
        return turns
    whole = with_system(row, turns)
    if whole[: len(asked)] != asked or whole[len(asked) :][:1] == () or whole[len(asked)].role != "assistant":
        raise row.error(
            f"'{row.column(name)}' begins with a turn of the {turns[0].role}, so it should repeat the prompt and go on"
            " with an assistant's turn; give only the answer, or leave out the prompt."
        )
    return whole[len(asked) :]


def with_system(row: Row, turns: Conversation) -> Conversation:
    """`turns`, after the `system` column's text where there is one."""
    text = row.text("system") if row.has("system") else ""
    if not text.strip():
        return turns
    if turns[0].role == "system":
        if turns[0].content == text:
            return turns
        raise row.error("has a 'system' column and another system message in its turns; keep one of them.")
    return (Message("system", text), *turns)


def _messages(row: Row, value: Value, name: str, role: str) -> Conversation:
    """`value` as at least one message; `role` is whose turn a plain text is."""
    found = _listed(value)
    if isinstance(found, str):
        return _transcript(found) if _is_transcript(found) else (Message(role, found),)
    if not isinstance(found, list):
        raise row.error(f"'{row.column(name)}' should be a text or a list of messages, not {kind(value)}; correct it.")
    if not found:
        raise row.error(f"'{row.column(name)}' is an empty list; it should hold messages.")
    return tuple(_message(row, entry, f"{row.column(name)}[{index}]") for index, entry in enumerate(found))


def _listed(value: Value) -> Value:
    """JSON text of a list of messages becomes that list; any other text stays text, be it JSON or not."""
    found = unpacked(value)
    if (
        isinstance(found, list)
        and found
        and all(isinstance(one, dict) and {"role", "from"} & set(one) for one in found)
    ):
        return found
    return value


def _message(row: Row, entry: Value, place: str) -> Message:
    if not isinstance(entry, dict):
        raise row.error(f"'{place}' should be a message with 'role' and 'content', not {kind(entry)}; correct it.")
    role, content = ("from", "value") if "from" in entry and "role" not in entry else ("role", "content")
    if role not in entry or content not in entry:
        raise row.error(
            f"'{place}' should have 'role' and 'content', but has {quoted(entry) or 'nothing'}; correct it."
        )
    called = next((name for name in _CALLS if entry.get(name)), None)
    if called is not None:
        raise row.error(f"'{place}' holds '{called}', which a text cannot carry; write the call into 'content'.")
    who = entry[role]
    known = _ROLES.get(who.lower()) if isinstance(who, str) else None
    if known is None:
        said = f"'{short(who)}'" if isinstance(who, str) else kind(who)
        raise row.error(f"'{place}' has the role {said}; use system, user, assistant or tool.")
    return Message(known, _content(row, entry[content], place))


def _content(row: Row, value: Value, place: str) -> str:
    """A message's text, given as such or as a list of text parts."""
    parts = value if isinstance(value, list) else [value]
    texts = [part.get("text") if isinstance(part, dict) else part for part in parts]
    if not texts or any(not isinstance(text, str) for text in texts):
        raise row.error(f"the content of '{place}' should be a text, not {kind(value)}; images and calls are not read.")
    return "".join(str(text) for text in texts)


def _is_transcript(value: Value) -> bool:
    return isinstance(value, str) and value.lstrip().startswith("Human:") and "\n\nAssistant:" in value


def _transcript(text: str) -> Conversation:
    """The turns of "\\n\\nHuman: a\\n\\nAssistant: b": the user's a, the assistant's b."""
    parts = _TURN.split(text)[1:]
    return tuple(
        Message("user" if who == "Human" else "assistant", said.strip())
        for who, said in zip(parts[::2], parts[1::2], strict=True)
    )
