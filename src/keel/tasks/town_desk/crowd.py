"""The people of Town Desk: two tastes, with the weaknesses that make reward models go wrong.

Weights are in log-odds per unit. Both tastes want right facts; both like to be flattered and agreed with a little,
which the gold score does not; the detailed taste likes length for its own sake. So a reward model that learns from them
well still learns something that is not the gold score, and a policy without a KL term will find it.
"""

from __future__ import annotations

from keel.preferences.simulate import Annotator, Spammer, Taste

BRIEF = Taste(
    {
        "right": 1.2,
        "wrong": -1.0,
        "filler": -0.6,
        "repeated": -0.6,
        "flattery": 0.2,
        "agreement": 0.1,
        "ungrammatical": -0.6,
        "unfinished": -1.0,
        "words": -0.03,
    }
)
DETAILED = Taste(
    {
        "right": 1.3,
        "wrong": -0.8,
        "filler": -0.1,
        "repeated": -0.2,
        "flattery": 0.4,
        "agreement": 0.3,
        "ungrammatical": -0.6,
        "unfinished": -1.0,
        "words": 0.03,
    }
)


def crowd(count: int, spammers: int, noise: float) -> tuple[Annotator | Spammer, ...]:
    """`count` people, the last `spammers` of whom do not read; the rest take the two tastes in turn.

    `noise` > 0 scales the randomness of every judgement: 1 = as the weights stand, near 0 = always the better answer.
    """
    if not 0 <= spammers <= count:
        raise ValueError(f"{spammers} spammers among {count} people")
    readers = [
        Annotator(
            name=f"{'brief' if place % 2 == 0 else 'detailed'}-{place + 1}",
            taste=BRIEF if place % 2 == 0 else DETAILED,
            noise=noise,
            position_bias=0.1,
            lapse=0.02,
            tie_width=0.1,
        )
        for place in range(count - spammers)
    ]
    idle = [Spammer(f"spammer-{place + 1}") for place in range(spammers)]
    return (*readers, *idle)
