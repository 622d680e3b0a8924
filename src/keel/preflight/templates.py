"""Signs that the data and the chat template are not made for one another."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

from keel.data.forest import Branch, Tree
from keel.diagnostics.findings import Finding, level

AMBER, RED = 0.01, 0.2
"""Shares of rows: one in a hundred may talk about templates, one in five has been through one."""
_DUE = f"(a look is due from {AMBER:.0%}, alarm from {RED:.0%})"
_ROLES = r"(?:system|user|human|assistant|model|bot|ai|response|instruction)"
_MARKERS = re.compile(
    r"<[|｜][A-Za-z0-9_▁]+[|｜]>|</?s>|\[/?INST\]|<</?SYS>>|</?(?:start|end)_of_turn>"
    r"|^[ \t]*### ?(?:System|User|Human|Assistant|Instruction|Response|Input):"
    r"|^[ \t]*(?:Human|Assistant|USER|ASSISTANT|SYSTEM):",
    re.MULTILINE,
)
"""What templates of the field write between turns: ChatML, Llama, Mistral, Gemma, Zephyr, DeepSeek, Vicuna, Alpaca, HH.
"""
_HEADER = re.compile(rf"^\W*{_ROLES}\b\W*$|^\W*{_ROLES}\s*[:>|\n]", re.IGNORECASE)
_BEGINNING = 24  # characters of an answer by which it is found again


@dataclass(frozen=True)
class Said:
    """What an assistant's turn says in the data, and the text of the tokens that are trained for it."""

    content: str
    trained: str


def refusals(reasons: Sequence[str], rows: int) -> Finding:
    """Of `rows` rows, those that the template cannot turn into a prompt that the whole conversation begins with."""
    return Finding(
        "Chat template",
        "red" if reasons else "ok",
        f"{len(reasons)} of {rows} rows cannot be rendered: {reasons[0]}"
        if reasons
        else f"Each of {rows} rows begins with its own prompt.",
        "Use a template whose text only grows with the messages (model.template: the path of a Jinja file, or plain), "
        "or change the rows.",
    )


def markers(prompts: Sequence[str], answers: Sequence[str], special: Collection[str], plain: bool) -> Finding:
    """Turn markers in the messages themselves: the data has been through another template already.

    `special` are the tokenizer's special tokens; within a message they are ordinary text, too. With the template
    `plain` a user may write markers into prompts on purpose, so there they are amber at most.
    """
    asked, said = ([set(_MARKERS.findall(text)) for text in texts] for texts in (prompts, answers))
    counts = Counter(mark.strip() for found in (*asked, *said) for mark in found)
    shares = [sum(map(bool, found)) / max(len(found), 1) for found in (asked, said)]
    of_prompts = level(shares[0], AMBER, None if plain else RED)
    of_answers = level(shares[1], AMBER, RED)
    verdict = max(of_prompts, of_answers, key=("ok", "amber", "red").index)
    if not counts:
        return Finding("Foreign markers", "ok", "No message holds turn markers of a template.", "")
    mark = counts.most_common(1)[0][0]
    held = "would be a special token if the template wrote it" if mark in special else "is no special token here"
    return Finding(
        "Foreign markers",
        verdict,
        f"{sum(map(bool, asked))} of {len(asked)} prompts and {sum(map(bool, said))} of {len(said)} answers hold turn "
        f"markers, mostly '{mark}', which {held} {_DUE}.",
        "The data seems to have been through another chat template: give messages without markers and let "
        "model.template write them, or use the template that they are from.",
    )


def beginnings(trunks: Sequence[Sequence[int]], bos: int | None, adds_bos: bool) -> Finding:
    """How prompts begin: with one BOS where the tokenizer puts one before a text by itself (`adds_bos`), never two."""
    doubled = sum(bos is not None and list(trunk[:2]) == [bos, bos] for trunk in trunks)
    missing = sum(adds_bos and (not trunk or trunk[0] != bos) for trunk in trunks)
    if doubled:
        return Finding(
            "BOS",
            "red",
            f"{doubled} of {len(trunks)} prompts begin with two BOS tokens, which the model has never seen.",
            "Take {{ bos_token }} out of the chat template once.",
        )
    return Finding(
        "BOS",
        "amber" if missing else "ok",
        f"{missing} of {len(trunks)} prompts lack the BOS that this tokenizer puts before a text by itself."
        if missing
        else "Prompts begin as this tokenizer expects.",
        "Begin the chat template with {{ bos_token }}.",
    )


def additions(said: Sequence[Said], special: Collection[str]) -> Finding:
    """What the template adds in front of an answer within its trained tokens: role words are wrong there."""
    heads = [_head(one) for one in said]
    roles = [head for head in heads if _is_header(head) or any(mark in head for mark in special)]
    others = [head for head in heads if head.strip() and head not in roles]
    if roles:
        return Finding(
            "Role words trained",
            level(len(roles) / len(said), AMBER, RED),
            f"In {len(roles)} of {len(said)} answers the trained text begins with a turn's header, as in "
            f"'{roles[0].strip()}' {_DUE}.",
            "The header belongs to the prompt: let the chat template write it where add_generation_prompt is set.",
        )
    return Finding(
        "Role words trained",
        "amber" if others else "ok",
        f"The template adds '{others[0].strip()}' to the trained text of {len(others)} of {len(said)} answers."
        if others
        else f"No role's name is trained in {len(said)} answers.",
        "If the model is not to write that by itself, let the chat template write it into the prompt, or use another.",
    )


def double_ends(trees: Sequence[Tree], special: Collection[int], name: Callable[[int], str]) -> Iterator[Finding]:
    """Answers that end with two special tokens: the template closes a turn with another token than the EOS."""
    branches = [branch for tree in trees for branch in tree.branches]
    twice = [one for one in branches if _ends_twice(one, special)]
    if twice:
        first, last = (name(token) for token in twice[0].tokens[-2:])
        yield Finding(
            "Turn ends twice",
            "amber",
            f"{len(twice)} of {len(branches)} answers end with '{first}' and then '{last}': the template closes a turn "
            "with another token than the tokenizer's EOS.",
            f"Set the tokenizer's eos_token to '{first}', so that a turn ends with one token.",
        )


def own_template(ignored: bool) -> Finding:
    """Whether the recipe forces `plain` although the tokenizer brings a template of its own."""
    return Finding(
        "Template chosen",
        "amber" if ignored else "ok",
        "model.template is plain, but the tokenizer has a chat template of its own, in which the model may have learnt "
        "to answer."
        if ignored
        else "The tokenizer has no other template than this one.",
        "Set model.template: auto, unless you mean to train the model as a plain one.",
    )


def _head(said: Said) -> str:
    """What stands before the answer in its trained text; where that cannot be told, its first characters."""
    place = said.trained.find(said.content.strip()[:_BEGINNING])
    if place >= 0:
        return said.trained[:place]
    start = said.trained[:_BEGINNING]
    return start if _is_header(start) else ""


def _is_header(text: str) -> bool:
    return bool(_HEADER.search(text) or _MARKERS.match(text.lstrip()))


def _ends_twice(branch: Branch, special: Collection[int]) -> bool:
    return len(branch.tokens) > 1 and all(token in special for token in branch.tokens[-2:]) and all(branch.mask[-2:])
