"""Quality control: what an annotator's judgements say about the annotator, with how sure that is, and what to do.

    judgements, gold, repeats, timings → Profile of each annotator → Findings for the reviewer, pauses for the server

limits     every threshold, with its default
profile    all measures of everybody, and who is to be paused
findings   a measure against its thresholds: ok, amber or red, in a sentence, with a remedy
gold       accuracy on items whose answer is known
repeats    the same question again with the sides swapped
sides      whether the left is pressed more often than the right
runs       the longest run of one button
pace       how long a judgement took, against how long the text takes to read
others     agreement with everybody else
binomial, discovery   shares with intervals, exact tests, and many tests at once

Everything is a pure function of what was said. A measure without data is None and finds nothing; so each is optional.
"""

from keel.preferences.quality.findings import Finding
from keel.preferences.quality.gold import Gold
from keel.preferences.quality.limits import Limits
from keel.preferences.quality.pace import Timing, timings
from keel.preferences.quality.profile import Profile, profiles, spam_scores, to_pause

__all__ = ["Finding", "Gold", "Limits", "Profile", "Timing", "profiles", "spam_scores", "timings", "to_pause"]
