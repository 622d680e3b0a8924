"""Speed: how long judgements take, and which were made faster than anybody reads.

    fastest reading (s) = 60 · characters / characters_per_minute,     floor (s) = factor · fastest reading

The default speed, 3,600 characters a minute, is 600 words of 5 letters and a space: Carver's (1992, Journal of Reading
36) rate for scanning, at which single words are looked for and sentences are no longer understood. Most adults read
English non-fiction at 175–300 words a minute (Brysbaert 2019, Journal of Memory and Language 109, 190 studies), about
half of it. Writing with more in each character, such as Chinese, is read in fewer characters a minute: the floor is
then lower than it might be, and accuses nobody wrongly.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import median

from keel.preferences.judgement import COUNTED, Judgement
from keel.preferences.quality.binomial import Share, share
from keel.preferences.quality.limits import Limits


@dataclass(frozen=True)
class Timing:
    """One judgement's times, in seconds since the epoch, None where unknown, and the `characters` there were to read.

    `seen` is when the item was first visible in a page that had the focus, `served` when it was sent. `characters` is
    None where no verdict on the texts was given (a skip, a flag) or their length is unknown: no floor applies then.
    """

    annotator: str
    characters: int | None
    served: float | None
    submitted: float | None
    seen: float | None = None

    @property
    def seconds(self) -> float | None:
        """From `seen`, or else from `served`, to `submitted`; None where unknown or where clocks disagree."""
        start = self.served if self.seen is None else self.seen
        if start is None or self.submitted is None or self.submitted < start:
            return None
        return self.submitted - start

    def too_fast(self, limits: Limits) -> bool | None:
        """Whether it lies below the floor; None where time or length is unknown."""
        if self.seconds is None or self.characters is None:
            return None
        return self.seconds < limits.floor * 60 * self.characters / limits.characters_per_minute


@dataclass(frozen=True)
class Pace:
    """Of the judgements with known times: how many, the `median` in seconds, and judgements per hour of active time.

    Active time is Σ min(seconds, `Limits.idle`): breaks do not count. `per_hour` is None where it is 0. `too_fast` is
    the share below the floor, of those that one applies to. `unknown` counts judgements without times.
    """

    timed: int
    unknown: int
    median: float
    per_hour: float | None
    too_fast: Share


def timings(history: Iterable[Judgement], characters: Mapping[str, int]) -> list[Timing]:
    """A Timing for each time that an item was put before somebody and answered.

    `history` holds every revision in the order of submission (latest revisions will do, and miss what was undone). An
    edit, which has the beginning of the revision that it changes, is no new reading, and left out. `characters` is the
    length of each item's prompt and answers together.
    """
    known = set()
    found = []
    for said in history:
        beginning = (said.item, said.annotator, said.served, said.seen)
        if said.kind == "withdrawn" or beginning in known:
            continue
        known.add(beginning)
        length = characters.get(said.item) if said.kind in COUNTED else None
        found.append(Timing(said.annotator, length, said.served, said.submitted, said.seen))
    return found


def paces(timings: Iterable[Timing], limits: Limits) -> dict[str, Pace]:
    """The pace of everybody of whom one time at least is known."""
    by_name: dict[str, list[Timing]] = {}
    for timing in timings:
        by_name.setdefault(timing.annotator, []).append(timing)
    found = {}
    for name, each in by_name.items():
        seconds = [timing.seconds for timing in each if timing.seconds is not None]
        if seconds:
            fast = [timing.too_fast(limits) for timing in each]
            active = sum(min(one, limits.idle) for one in seconds)
            found[name] = Pace(
                timed=len(seconds),
                unknown=len(each) - len(seconds),
                median=median(seconds),
                per_hour=3600 * len(seconds) / active if active > 0 else None,
                too_fast=share(fast.count(True), len(fast) - fast.count(None), limits.level),
            )
    return found
