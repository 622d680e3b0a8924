"""How a database of any age becomes one of today: Alembic scripts, oldest first, all in one transaction."""
