"""Whether answers end: the model can only learn to stop where the end is trained."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence

from keel.data.forest import Branch, Tree
from keel.diagnostics.findings import Finding, level

AMBER, RED = 0.05, 0.2


def endings(
    trees: Sequence[Tree], stops: Collection[int], pad: int | None, name: Callable[[int], str]
) -> Iterator[Finding]:
    """Of the answers in `trees`, how many end with a trained token of `stops`, at which the sampler stops; and `pad`.

    `name` gives the text of a token. Nothing is said of no answers.
    """
    branches = [branch for tree in trees for branch in tree.branches]
    if branches:
        yield _trained(branches, stops, name)
        yield _apart(branches, stops, pad, name)


def _trained(branches: Sequence[Branch], stops: Collection[int], name: Callable[[int], str]) -> Finding:
    unlearnt = [one for one in branches if one.tokens[-1] in stops and not one.mask[-1]]
    unended = [one for one in branches if one.tokens[-1] not in stops]
    share = (len(unlearnt) + len(unended)) / len(branches)
    if not unlearnt and not unended:
        found = " or ".join(sorted({f"'{name(one.tokens[-1])}'" for one in branches}))
        return Finding("EOS trained", "ok", f"All {len(branches)} answers end with a trained {found}.", "")
    faults = []
    if unended:
        faults.append(
            f"{len(unended)} of {len(branches)} answers do not end with a token at which the sampler stops (one ends "
            f"with '{name(unended[0].tokens[-1])}')"
        )
    if unlearnt:
        faults.append(
            f"in {len(unlearnt)} of {len(branches)} the last token '{name(unlearnt[0].tokens[-1])}' is not trained"
        )
    sentence = "; ".join(faults)
    return Finding(
        "EOS trained",
        level(share, AMBER, RED),
        f"{sentence[0].upper()}{sentence[1:]} (a look is due from {AMBER:.0%}, alarm from {RED:.0%}).",
        "A model learns to stop only from answers that end: raise model.max_length where they are cut off, or let the "
        "chat template close the assistant's turn with the tokenizer's eos_token.",
    )


def _apart(branches: Sequence[Branch], stops: Collection[int], pad: int | None, name: Callable[[int], str]) -> Finding:
    if pad is None or pad not in stops:
        text = "no token" if pad is None else f"'{name(pad)}'"
        return Finding("EOS is not pad", "ok", f"The pad token is {text}, and ends nothing.", "")
    masked = sum(one.tokens[-1] == pad and not one.mask[-1] for one in branches)
    return Finding(
        "EOS is not pad",
        "red" if masked else "amber",
        f"The pad token '{name(pad)}' also ends answers, and {masked} of {len(branches)} answers end with it untrained."
        if masked
        else f"The pad token '{name(pad)}' also ends answers; the mask trains it nevertheless, but a tool that masks "
        "padding would not.",
        "Give the tokenizer a pad token of its own, such as '<|pad|>', and save it with the model.",
    )
