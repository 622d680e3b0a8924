"""The sections about preferences: whose answers are compared, and by whom."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from keel.config.parts import Sampling
from keel.config.section import Count, Fraction, NoPlace, Place, Positive, Section, Several, Whole

Columns = dict[str, str]


class Labels(Section):
    """Verdicts that people gave elsewhere: a table with two answers per row and a column for each person."""

    data: NoPlace = None
    """The table: file, folder or data-set name; null = there is none, and simulated annotators judge."""

    prompt: tuple[str, ...] = ("prompt",)
    """Columns whose texts make the prompt, joined by a blank line; empty ones are left out."""

    first: str = "response1"
    """Column of one answer."""

    second: str = "response2"
    """Column of the other answer."""

    annotators: tuple[str, ...] = ("annotator1",)
    """Columns of verdicts, one person each. An empty cell is no vote."""

    values: dict[str, Annotated[int, Field(ge=-3, le=3)]] = Field(default_factory=lambda: {"0": 0, "1": -1, "2": 1})
    """What a verdict means, from -3 (first is much better) to 3 (second is much better); where there is no strength,
    -1, 0 for a tie, and 1."""

    id: str | None = None
    """Column that tells the rows apart; null = the row's number."""


class People(Section):
    """People who judge: who is asked, and when the run goes on."""

    enough: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of the judgements that are wanted after which the run goes on without the others."""

    ranked: bool = False
    """Several answers to a prompt are ranked as a whole, instead of each pair of them being compared."""

    guidelines: NoPlace = None
    """Markdown file with what annotators are told to look at; null = Keel's own."""

    host: Place = "127.0.0.1"
    """Where the labelling page is served; another than this machine alone is for `keel label`, which has TLS."""

    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    """null = 8765, or the next that is free."""


class Preferences(Section):
    """Answers of a model, compared by simulated annotators of the task or by people; or labels that people gave."""

    labels: Labels = Labels()

    judges: Literal["simulated", "people"] = "simulated"
    """simulated = the task's annotators; people = whoever signs in to the labelling page, which the run then serves,
    and waits."""

    people: People = People()

    prompts: NoPlace = None
    """Prompts to answer: file, folder or data-set name; null = the task's own."""

    columns: Columns = Field(default_factory=dict)
    """Keel's name for a column: the name in your data."""

    policy: NoPlace = None
    """Folder of the model whose answers are compared; null = the supervised one. `keel loop` names the policy of the
    round before."""

    skip: Whole = 0
    """Prompts that are passed over first, such as those of the rounds before."""

    earlier: tuple[Place, ...] = ()
    """Preference databases of earlier rounds, whose judgements the reward model learns from as well."""

    count: Count = 2000
    """How many prompts. Below about 2000 comparisons a reward model is near chance (Gao et al., 2210.10760)."""

    samples_per_prompt: Several = 2
    """Answers per prompt; each pair of them is compared, and the reward model learns from all of a prompt's pairs at
    once. Source: 4 to 9 in InstructGPT (2203.02155)."""

    sampling: Sampling = Sampling()

    budget: Count | None = None
    """Most pairs that are judged (of ranked answers: prompts); null = each pair of different answers."""

    select: Literal["random", "disagreement", "bald", "double-thompson"] = "random"
    """Which pairs are judged where there are more than budget: any; those on which the members of scorer disagree most
    (2310.02743 and others), or about which a vote would say most (bald, Houlsby et al. 2011); or each prompt's best in
    the eyes of two members (2402.00396). What they bring is little (docs/annotators.md). Any other than random needs a
    budget, and pairs: of whole rankings (people.ranked) the choice is random."""

    random_share: Fraction = 0.2
    """Where select is not random: share of the draws that take any pair, so that each has a known chance, and what is
    measured on those that were chosen can be weighed back to all. chosen.jsonl has the chances."""

    scorer: NoPlace = None
    """Reward model with several members (reward.members) by which pairs are selected; null = there is none. In `keel
    loop` it selects those of the first round; after that the members of the round before do."""

    annotators: Count = 5
    """How many simulated people judge."""

    spammers: Whole = 0
    """How many of them press a key without reading."""

    noise: Positive = 1.0
    """Factor on the annotators' randomness: P(first is preferred) = σ(difference in utility / noise). Default: the
    Bradley–Terry model as it stands."""

    overlap: Fraction = 0.2
    """Share of the pairs that several annotators judge, so that their agreement can be measured."""

    votes: Count = 3
    """Judgements of each pair in that share; the other pairs get one."""

    aggregate: Literal["majority", "mean", "dawid-skene", "bradley-terry"] = "majority"
    """Several votes to one preference: majority, mean = the share of votes as a soft label, dawid-skene = votes
    weighted by each annotator's estimated reliability, or bradley-terry = answers have scores, annotators a reliability
    and a lean to one side."""

    ties: Literal["keep", "drop"] = "keep"
    """A pair without a winner is kept as even (probability ½), or dropped."""

    @model_validator(mode="after")
    def _has_a_use_for_all(self) -> Preferences:
        by_members = self.select != "random"
        default = type(self).model_fields["random_share"].default
        faults = (
            (
                by_members and self.budget is None,
                "{key}: there is a choice only where not every pair is judged; set preferences.budget, or use random",
                "select",
            ),
            (
                by_members and self.judges == "people" and self.people.ranked,
                "{key}: it chooses pairs, and people rank all answers to a prompt (preferences.people.ranked); use "
                "random",
                "select",
            ),
            (
                not by_members and self.scorer is not None,
                "{key} is not read where preferences.select is random; leave it out or choose another way to select",
                "scorer",
            ),
            (
                not by_members and self.random_share != default,
                "{key} changes nothing where preferences.select is random; leave it out or choose another way to "
                "select",
                "random_share",
            ),
        )
        for fault in faults:
            self.refuse(*fault)
        return self
