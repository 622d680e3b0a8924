"""Items, answers, annotators, assignments and judgements."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    _asked()
    _said()
    if op.get_bind().dialect.name == "sqlite":
        for verb in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER judgements_no_{verb.lower()} BEFORE {verb} ON judgements "
                "BEGIN SELECT RAISE(ABORT, 'judgements are append-only'); END"
            )


def _asked() -> None:
    op.create_table(
        "items",
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("id", sa.Text, nullable=False, unique=True),
        sa.Column("prompt", sa.JSON, nullable=False),
    )
    op.create_table(
        "answers",
        sa.Column("item", sa.Text, sa.ForeignKey("items.id"), primary_key=True),
        sa.Column("position", sa.Integer, primary_key=True),
        sa.Column("messages", sa.JSON, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("version", sa.Integer),
    )
    op.create_table(
        "annotators",
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("name", sa.Text, nullable=False, unique=True),
        sa.Column("role", sa.Text, nullable=False),
        sa.CheckConstraint("role IN ('admin', 'reviewer', 'annotator', 'simulated', 'imported')", name="role_known"),
    )
    op.create_table(
        "assignments",
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("item", sa.Text, sa.ForeignKey("items.id"), nullable=False),
        sa.Column("annotator", sa.Text, sa.ForeignKey("annotators.name"), nullable=False, index=True),
        sa.Column("left", sa.Integer, nullable=False),
        sa.Column("right", sa.Integer, nullable=False),
        sa.UniqueConstraint("item", "annotator", name="never_twice"),
        sa.UniqueConstraint("item", "annotator", "left", "right", name="sides"),
        sa.ForeignKeyConstraint(["item", "left"], ["answers.item", "answers.position"]),
        sa.ForeignKeyConstraint(["item", "right"], ["answers.item", "answers.position"]),
        sa.CheckConstraint('"left" <> "right"', name="two_answers"),
    )


def _said() -> None:
    op.create_table(
        "judgements",
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("item", sa.Text, nullable=False),
        sa.Column("annotator", sa.Text, nullable=False),
        sa.Column("left", sa.Integer, nullable=False),
        sa.Column("right", sa.Integer, nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("supersedes", sa.Integer),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("pressed", sa.Integer),
        sa.Column("note", sa.Text, nullable=False),
        sa.Column("guideline", sa.Text, nullable=False),
        sa.Column("served", sa.Float(53)),
        sa.Column("submitted", sa.Float(53)),
        sa.UniqueConstraint("item", "annotator", "revision", name="one_history"),
        sa.ForeignKeyConstraint(
            ["item", "annotator", "left", "right"],
            ["assignments.item", "assignments.annotator", "assignments.left", "assignments.right"],
            name="as_assigned",
        ),
        sa.ForeignKeyConstraint(
            ["item", "annotator", "supersedes"],
            ["judgements.item", "judgements.annotator", "judgements.revision"],
            name="no_gap",
        ),
        sa.CheckConstraint(
            "CASE WHEN revision = 1 THEN supersedes IS NULL "
            "ELSE supersedes IS NOT NULL AND supersedes = revision - 1 END",
            name="next_revision",
        ),
        sa.CheckConstraint("kind IN ('comparison', 'both_bad', 'skip', 'flag', 'withdrawn')", name="kind_known"),
        sa.CheckConstraint("(kind = 'comparison') = (pressed IS NOT NULL)", name="pressed_if_compared"),
        sa.CheckConstraint("pressed BETWEEN -3 AND 3", name="seven_buttons"),
    )
