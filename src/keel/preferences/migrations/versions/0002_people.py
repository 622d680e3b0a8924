"""People judge: a queue with leases, rankings, guidelines, tokens, events; places of answers as one column.

Assignments and judgements are copied, made anew and filled again, since neither database can change what a foreign key
refers to.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_SHOWN = 'CAST("left" AS TEXT) || \' \' || CAST("right" AS TEXT)'


def upgrade() -> None:
    op.execute("CREATE TABLE assignments_copy AS SELECT * FROM assignments")
    op.execute("CREATE TABLE judgements_copy AS SELECT * FROM judgements")
    op.drop_table("judgements")  # its triggers go with it
    op.drop_table("assignments")
    _people()
    _queue()
    _assignments()
    _judgements()
    _fill()
    op.drop_table("judgements_copy")
    op.drop_table("assignments_copy")
    _append_only()


def _people() -> None:
    with op.batch_alter_table("annotators") as table:
        table.add_column(sa.Column("state", sa.Text, nullable=False, server_default="active"))
        table.create_check_constraint("state_known", "state IN ('active', 'paused', 'excluded')")
    op.create_table(
        "guidelines",
        sa.Column("version", sa.Integer, primary_key=True),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("author", sa.Text, sa.ForeignKey("annotators.name")),
        sa.Column("at", sa.Float(53), nullable=False),
    )
    op.create_table(
        "tokens",
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("annotator", sa.Text, sa.ForeignKey("annotators.name"), nullable=False, index=True),
        sa.Column("hash", sa.Text, nullable=False, unique=True),
        sa.Column("scope", sa.Text, nullable=False),
        sa.Column("created", sa.Float(53), nullable=False),
        sa.Column("expires", sa.Float(53), nullable=False),
        sa.Column("used", sa.Float(53)),
        sa.Column("revoked", sa.Float(53)),
        sa.CheckConstraint("scope IN ('invitation', 'session', 'label', 'review', 'admin')", name="scope_known"),
    )
    op.create_table(
        "events",
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("at", sa.Float(53), nullable=False),
        sa.Column("by", sa.Text, nullable=False),
        sa.Column("what", sa.Text, nullable=False),
        sa.Column("whom", sa.Text, nullable=False),
        sa.Column("why", sa.Text, nullable=False),
    )


def _queue() -> None:
    op.create_table(
        "queue",
        sa.Column("item", sa.Text, sa.ForeignKey("items.id"), primary_key=True),
        sa.Column("wanted", sa.Integer, nullable=False),
        sa.Column("ranked", sa.Boolean, nullable=False),
        sa.Column("purpose", sa.Text, nullable=False),
        sa.Column("expected", sa.Integer),
        sa.Column("repeats", sa.Text, sa.ForeignKey("items.id")),
        sa.Column("reserved", sa.Text, sa.ForeignKey("annotators.name")),
        sa.Column("priority", sa.Float(53), nullable=False),
        sa.Column("lot", sa.Float(53), nullable=False),
        sa.Column("selection", sa.Text),
        sa.Column("propensity", sa.Float(53)),
        sa.Column("entered", sa.Float(53)),
        sa.Column("done", sa.Boolean, nullable=False),
        sa.Column("aside", sa.Boolean, nullable=False),
        sa.CheckConstraint("purpose IN ('ordinary', 'gold', 'repeat')", name="purpose_known"),
        sa.CheckConstraint("wanted >= 1", name="somebody_wanted"),
        sa.CheckConstraint("(purpose = 'gold') = (expected IS NOT NULL)", name="gold_has_an_answer"),
        sa.CheckConstraint("expected BETWEEN -1 AND 1", name="expected_label"),
        sa.CheckConstraint(
            "(purpose = 'repeat') = (repeats IS NOT NULL) AND (purpose = 'repeat') = (reserved IS NOT NULL)",
            name="repeat_of_somebody",
        ),
        sa.CheckConstraint("propensity > 0 AND propensity <= 1", name="propensity_is_a_probability"),
    )
    op.create_index("queue_by_lot", "queue", ["purpose", "done", "aside", "entered", "lot", "item"])
    op.create_index("queue_by_priority", "queue", ["purpose", "done", "aside", "entered", "priority", "lot", "item"])
    op.create_index("queue_reserved", "queue", ["reserved", "done"])


def _assignments() -> None:
    op.create_table(
        "assignments",
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("item", sa.Text, sa.ForeignKey("items.id"), nullable=False),
        sa.Column("annotator", sa.Text, sa.ForeignKey("annotators.name"), nullable=False),
        sa.Column("shown", sa.Text, nullable=False),
        sa.Column("token", sa.Text, unique=True),
        sa.Column("served", sa.Float(53)),
        sa.Column("expires", sa.Float(53)),
        sa.Column("said", sa.Text),
        sa.UniqueConstraint("item", "annotator", name="never_twice"),
        sa.UniqueConstraint("item", "annotator", "shown", name="places"),
        sa.CheckConstraint("(token IS NULL) = (expires IS NULL)", name="lease_expires"),
    )
    op.create_index("assignments_of", "assignments", ["annotator", "said"])


def _judgements() -> None:
    op.create_table(
        "judgements",
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("item", sa.Text, nullable=False),
        sa.Column("annotator", sa.Text, nullable=False),
        sa.Column("shown", sa.Text, nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("supersedes", sa.Integer),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("pressed", sa.Integer),
        sa.Column("order", sa.Text),
        sa.Column("note", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("guideline", sa.Text, nullable=False),
        sa.Column("served", sa.Float(53)),
        sa.Column("seen", sa.Float(53)),
        sa.Column("submitted", sa.Float(53)),
        sa.UniqueConstraint("item", "annotator", "revision", name="one_history"),
        sa.ForeignKeyConstraint(
            ["item", "annotator", "shown"],
            ["assignments.item", "assignments.annotator", "assignments.shown"],
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
        sa.CheckConstraint(
            "kind IN ('comparison', 'ranking', 'both_bad', 'skip', 'flag', 'withdrawn')", name="kind_known"
        ),
        sa.CheckConstraint("(kind = 'comparison') = (pressed IS NOT NULL)", name="pressed_if_compared"),
        sa.CheckConstraint("(kind = 'ranking') = (\"order\" IS NOT NULL)", name="order_if_ranked"),
        sa.CheckConstraint("pressed BETWEEN -3 AND 3", name="seven_buttons"),
    )
    op.create_index("judgements_of", "judgements", ["annotator", "number"])


def _fill() -> None:
    """What was there, with places for sides; an assignment remembers the kind of its latest judgement."""
    op.execute(
        f"INSERT INTO assignments (number, item, annotator, shown, said) SELECT number, item, annotator, {_SHOWN}, "
        "(SELECT CASE WHEN j.kind = 'withdrawn' THEN NULL ELSE j.kind END FROM judgements_copy j "
        "WHERE j.item = a.item AND j.annotator = a.annotator ORDER BY j.revision DESC LIMIT 1) "
        "FROM assignments_copy a"
    )
    op.execute(
        "INSERT INTO judgements (number, item, annotator, shown, revision, supersedes, kind, pressed, note, reason, "
        f"guideline, served, submitted) SELECT number, item, annotator, {_SHOWN}, revision, supersedes, kind, pressed, "
        "note, '', guideline, served, submitted FROM judgements_copy ORDER BY number"
    )
    if op.get_bind().dialect.name == "postgresql":
        for table in ("assignments", "judgements"):
            op.execute(
                f"SELECT setval(pg_get_serial_sequence('{table}', 'number'), "
                f"(SELECT coalesce(max(number), 0) + 1 FROM {table}), false)"
            )


def _append_only() -> None:
    dialect = op.get_bind().dialect.name
    for table in ("judgements", "guidelines", "events"):
        refusal = f"{table} are append-only"
        if dialect == "sqlite":
            for verb in ("UPDATE", "DELETE"):
                op.execute(
                    f"CREATE TRIGGER {table}_no_{verb.lower()} BEFORE {verb} ON {table} "
                    f"BEGIN SELECT RAISE(ABORT, '{refusal}'); END"
                )
        elif dialect == "postgresql":
            op.execute(
                f"CREATE FUNCTION {table}_refuse() RETURNS trigger LANGUAGE plpgsql AS "
                f"$$ BEGIN RAISE EXCEPTION '{refusal}'; END $$"
            )
            op.execute(
                f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
                f"FOR EACH STATEMENT EXECUTE FUNCTION {table}_refuse()"
            )
