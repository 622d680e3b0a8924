"""The tables. What must always hold is a constraint here, so that no writer can break it.

items        a prompt, numbered in the order of arrival
answers      the K completions of an item, by position, with the model and policy version that wrote them
queue        the items that people are asked about: how many of them, in which order, and what the item is for
annotators   names, roles, and whether they may go on
assignments  who is to judge which item, and in which places its answers stand: at most once per (item, annotator)
judgements   append-only; each carries its places (those of its assignment: a foreign key says so) and supersedes the
             revision before it (likewise), so that a history has no gap, no fork and no change
guidelines   append-only; every judgement names the version that its annotator had read
tokens       what lets a browser or a program in, kept as hashes
events       append-only: who let whom in, paused or excluded whom, and when

`migrations` makes these tables from whatever version a database has; a test holds the two together.
"""

from sqlalchemy import (
    JSON,
    Boolean,
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)

VERSION = "0002"
"""The migration whose tables these are."""

APPEND_ONLY = ("judgements", "guidelines", "events")
"""Tables in which nothing is ever changed or deleted; triggers refuse it."""

metadata = MetaData()

items = Table(
    "items",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("id", Text, nullable=False, unique=True),
    Column("prompt", JSON, nullable=False),
)

answers = Table(
    "answers",
    metadata,
    Column("item", Text, ForeignKey("items.id"), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("messages", JSON, nullable=False),
    Column("model", Text, nullable=False),
    Column("version", Integer),
)

annotators = Table(
    "annotators",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("role", Text, nullable=False),
    Column("state", Text, nullable=False, server_default="active"),
    CheckConstraint("role IN ('admin', 'reviewer', 'annotator', 'simulated', 'imported')", name="role_known"),
    CheckConstraint("state IN ('active', 'paused', 'excluded')", name="state_known"),
)

queue = Table(
    "queue",
    metadata,
    Column("item", Text, ForeignKey("items.id"), primary_key=True),
    Column("wanted", Integer, nullable=False),
    Column("ranked", Boolean(create_constraint=False), nullable=False),
    Column("purpose", Text, nullable=False),
    Column("expected", Integer),
    Column("repeats", Text, ForeignKey("items.id")),
    Column("reserved", Text, ForeignKey("annotators.name")),
    Column("priority", Float(53), nullable=False),
    Column("lot", Float(53), nullable=False),
    Column("selection", Text),
    Column("propensity", Float(53)),
    Column("entered", Float(53)),
    Column("done", Boolean(create_constraint=False), nullable=False),
    Column("aside", Boolean(create_constraint=False), nullable=False),
    CheckConstraint("purpose IN ('ordinary', 'gold', 'repeat')", name="purpose_known"),
    CheckConstraint("wanted >= 1", name="somebody_wanted"),
    CheckConstraint("(purpose = 'gold') = (expected IS NOT NULL)", name="gold_has_an_answer"),
    CheckConstraint("expected BETWEEN -1 AND 1", name="expected_label"),
    CheckConstraint(
        "(purpose = 'repeat') = (repeats IS NOT NULL) AND (purpose = 'repeat') = (reserved IS NOT NULL)",
        name="repeat_of_somebody",
    ),
    CheckConstraint("propensity > 0 AND propensity <= 1", name="propensity_is_a_probability"),
    Index("queue_by_lot", "purpose", "done", "aside", "entered", "lot", "item"),
    Index("queue_by_priority", "purpose", "done", "aside", "entered", "priority", "lot", "item"),
    Index("queue_reserved", "reserved", "done"),
)

assignments = Table(
    "assignments",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("item", Text, ForeignKey("items.id"), nullable=False),
    Column("annotator", Text, ForeignKey("annotators.name"), nullable=False),
    Column("shown", Text, nullable=False),
    Column("token", Text, unique=True),
    Column("served", Float(53)),
    Column("expires", Float(53)),
    Column("said", Text),
    UniqueConstraint("item", "annotator", name="never_twice"),
    UniqueConstraint("item", "annotator", "shown", name="places"),
    CheckConstraint("(token IS NULL) = (expires IS NULL)", name="lease_expires"),
    Index("assignments_of", "annotator", "said"),
)

judgements = Table(
    "judgements",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("item", Text, nullable=False),
    Column("annotator", Text, nullable=False),
    Column("shown", Text, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("supersedes", Integer),
    Column("kind", Text, nullable=False),
    Column("pressed", Integer),
    Column("order", Text),
    Column("note", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("guideline", Text, nullable=False),
    Column("served", Float(53)),
    Column("seen", Float(53)),
    Column("submitted", Float(53)),
    UniqueConstraint("item", "annotator", "revision", name="one_history"),
    ForeignKeyConstraint(
        ["item", "annotator", "shown"],
        ["assignments.item", "assignments.annotator", "assignments.shown"],
        name="as_assigned",
    ),
    ForeignKeyConstraint(
        ["item", "annotator", "supersedes"],
        ["judgements.item", "judgements.annotator", "judgements.revision"],
        name="no_gap",
    ),
    CheckConstraint(
        "CASE WHEN revision = 1 THEN supersedes IS NULL ELSE supersedes IS NOT NULL AND supersedes = revision - 1 END",
        name="next_revision",
    ),
    CheckConstraint("kind IN ('comparison', 'ranking', 'both_bad', 'skip', 'flag', 'withdrawn')", name="kind_known"),
    CheckConstraint("(kind = 'comparison') = (pressed IS NOT NULL)", name="pressed_if_compared"),
    CheckConstraint("(kind = 'ranking') = (\"order\" IS NOT NULL)", name="order_if_ranked"),
    CheckConstraint("pressed BETWEEN -3 AND 3", name="seven_buttons"),
    Index("judgements_of", "annotator", "number"),
)

guidelines = Table(
    "guidelines",
    metadata,
    Column("version", Integer, primary_key=True),
    Column("text", Text, nullable=False),
    Column("author", Text, ForeignKey("annotators.name")),
    Column("at", Float(53), nullable=False),
)

tokens = Table(
    "tokens",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("annotator", Text, ForeignKey("annotators.name"), nullable=False, index=True),
    Column("hash", Text, nullable=False, unique=True),
    Column("scope", Text, nullable=False),
    Column("created", Float(53), nullable=False),
    Column("expires", Float(53), nullable=False),
    Column("used", Float(53)),
    Column("revoked", Float(53)),
    CheckConstraint("scope IN ('invitation', 'session', 'label', 'review', 'admin')", name="scope_known"),
)

events = Table(
    "events",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("at", Float(53), nullable=False),
    Column("by", Text, nullable=False),
    Column("what", Text, nullable=False),
    Column("whom", Text, nullable=False),
    Column("why", Text, nullable=False),
)
