"""The tables. What must always hold is a constraint here, so that no writer can break it.

items        a prompt, numbered in the order of arrival
answers      the K completions of an item, by position, with the model and policy version that wrote them
annotators   names and roles
assignments  who is to judge which item, and on which sides: at most once per (item, annotator)
judgements   append-only; each carries its sides (those of its assignment: a foreign key says so) and supersedes the
             revision before it (likewise), so that a history has no gap, no fork and no change
"""

from sqlalchemy import (
    DDL,
    JSON,
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    ForeignKeyConstraint,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    event,
)

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
    CheckConstraint("role IN ('admin', 'reviewer', 'annotator', 'simulated', 'imported')", name="role_known"),
)

assignments = Table(
    "assignments",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("item", Text, ForeignKey("items.id"), nullable=False),
    Column("annotator", Text, ForeignKey("annotators.name"), nullable=False, index=True),
    Column("left", Integer, nullable=False),
    Column("right", Integer, nullable=False),
    UniqueConstraint("item", "annotator", name="never_twice"),
    UniqueConstraint("item", "annotator", "left", "right", name="sides"),
    ForeignKeyConstraint(["item", "left"], ["answers.item", "answers.position"]),
    ForeignKeyConstraint(["item", "right"], ["answers.item", "answers.position"]),
    CheckConstraint('"left" <> "right"', name="two_answers"),
)

judgements = Table(
    "judgements",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("item", Text, nullable=False),
    Column("annotator", Text, nullable=False),
    Column("left", Integer, nullable=False),
    Column("right", Integer, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("supersedes", Integer),
    Column("kind", Text, nullable=False),
    Column("pressed", Integer),
    Column("note", Text, nullable=False),
    Column("guideline", Text, nullable=False),
    Column("served", Float(53)),
    Column("submitted", Float(53)),
    UniqueConstraint("item", "annotator", "revision", name="one_history"),
    ForeignKeyConstraint(
        ["item", "annotator", "left", "right"],
        ["assignments.item", "assignments.annotator", "assignments.left", "assignments.right"],
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
    CheckConstraint("kind IN ('comparison', 'both_bad', 'skip', 'flag', 'withdrawn')", name="kind_known"),
    CheckConstraint("(kind = 'comparison') = (pressed IS NOT NULL)", name="pressed_if_compared"),
    CheckConstraint("pressed BETWEEN -3 AND 3", name="seven_buttons"),
)

for verb in ("UPDATE", "DELETE"):
    event.listen(
        judgements,
        "after_create",
        DDL(  # type: ignore[no-untyped-call, unused-ignore]
            f"CREATE TRIGGER judgements_no_{verb.lower()} BEFORE {verb} ON judgements "
            "BEGIN SELECT RAISE(ABORT, 'judgements are append-only'); END"
        ).execute_if(dialect="sqlite"),
    )
