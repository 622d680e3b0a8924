"""The ways in which votes are brought together, by the names that recipes and commands give them."""

from collections.abc import Sequence
from typing import Literal

from keel.preferences.aggregate import Aggregate, majority, mean
from keel.preferences.crowd_bradley_terry import crowd_bradley_terry
from keel.preferences.dawid_skene import dawid_skene
from keel.preferences.judgement import Item, Votes

Method = Literal["majority", "mean", "dawid-skene", "bradley-terry"]


def aggregated(items: Sequence[Item], votes: Votes, method: Method) -> Aggregate:
    """The votes on these items by this method. Bradley–Terry is the form with annotators, sides and ties."""
    match method:
        case "majority":
            return majority(votes)
        case "mean":
            return mean(votes)
        case "dawid-skene":
            return dawid_skene(votes)
        case "bradley-terry":
            return crowd_bradley_terry(items, votes)
