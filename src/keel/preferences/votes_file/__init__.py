"""Votes as people keep them: a table in one of four forms, or a database, recognised by itself.

wide        a row per item, a column of verdicts per annotator        instruction, response1, response2, annotator1, …
long        a row per vote                                            item, annotator, label (left, seconds, texts)
nested      a row per item, with a list of votes                      pair, a, b, votes: [{annotator, choice, seconds}]
judgements  a row per revision of a judgement, as Keel exports them   item, annotator, shown, kind, pressed, revision
database    a preference database, by file or URL, or a run's folder with one

read     `read_votes`, and what it gives: `VotesFile`
history  `read_history`, all of it, to be kept in a database
columns  which column is what, by its usual name or by what the user says
words    what a verdict means
tables   rows of the first three forms → votes as they stand there
raw      rows of the fourth form
"""

from keel.preferences.votes_file.columns import Named
from keel.preferences.votes_file.read import Form, VotesFile, read_votes
from keel.preferences.votes_file.words import Meaning, parse_meaning

__all__ = ["Form", "Meaning", "Named", "VotesFile", "parse_meaning", "read_votes"]
