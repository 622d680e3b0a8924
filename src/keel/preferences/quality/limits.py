"""Every threshold of quality control, with its default."""

from dataclasses import dataclass
from typing import Literal

Measure = Literal["gold", "repeats", "pace", "sides", "runs", "others", "spam"]
"""What a finding is about."""


@dataclass(frozen=True)
class Limits:
    """Where amber and red begin. Each pair is (amber, red).

    How often the gold rule pauses somebody: at one look, who is right on exactly `accuracy` of them with probability
    .05 at most, for up to 100 items. It is looked at after every item, so this adds up: within 60 gold items it pauses
    who is right on 90 % with probability .0002, on 80 % .010, on 70 % .14; who guesses, .29 within 10, .59 within 20,
    .87 within 40.
    Tests across annotators (`sides`, `runs`, `others`) are adjusted to `false_discovery`.
    """

    level: float = 0.95
    """Of every interval."""
    certainty: float = 0.95
    """How probable a share must be to lie beyond its limit before that is said."""
    false_discovery: float = 0.05
    """Expected share of annotators named by chance among those that a test across annotators names."""

    accuracy: float = 0.7
    """On gold items; whoever is below it with `certainty` is red, and paused."""
    prior: tuple[float, float] = (3.0, 1.0)
    """Beta prior of the accuracy on gold items: worth three that were right and one that was missed."""
    fewest_gold: int = 5
    """Gold items answered before accuracy is judged: four misses at the start would otherwise pause."""

    consistency: tuple[float, float] = (0.6, 0.5)
    """Share of swapped repeats answered alike; who does not read reaches ½ at most."""
    characters_per_minute: float = 3600.0
    """The fastest plausible reading, see `keel.preferences.quality.pace`."""
    floor: float = 0.5
    """Part of that reading time below which a judgement is too fast: not every word must be read to see a fault."""
    too_fast: tuple[float, float] = (0.1, 0.3)
    """Share of the judgements below the floor."""
    idle: float = 300.0
    """Seconds; whatever one judgement takes beyond them is a break."""
    lean: float = 0.65
    """Share of presses on one side that is red when it is certain; a smaller lean, if it is no chance, is amber."""
    fewest: int = 20
    """Judgements before somebody who presses a single button, or says the same as others by chance, is named."""
    spam: float = 0.05
    """Dawid–Skene's spam score, 0 the worst: (TPR + TNR − 1)² of .05 is TPR = TNR = .61."""
    fewest_votes: int = 100
    """Votes on shared pairs before the spam score is judged: it comes without an interval."""

    pauses: frozenset[Measure] = frozenset({"gold"})
    """Measures whose red finding pauses an annotator. Agreement is not among them: most disagreement is taste."""

    def __post_init__(self) -> None:
        shares = (self.level, self.certainty, self.false_discovery, self.accuracy, self.spam, *self.consistency)
        if any(not 0 < each < 1 for each in (*shares, *self.too_fast)) or not 0.5 <= self.lean < 1:
            raise ValueError(f"{self}: shares and probabilities lie between 0 and 1, lean between ½ and 1")
        if min(self.prior) <= 0 or min(self.characters_per_minute, self.floor, self.idle) <= 0:
            raise ValueError(f"{self}: prior, reading speed, floor and idle time must be above 0")
        if self.consistency[0] < self.consistency[1] or self.too_fast[0] > self.too_fast[1]:
            raise ValueError(f"{self}: amber comes before red")
