"""What Alembic runs: the scripts that are missing, on the connection that `keel.preferences.database` holds."""

from alembic import context

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=None,
    transactional_ddl=True,
    transaction_per_migration=False,
)
context.run_migrations()
