"""Alembic's entry: runs on the connection that `bootstrap` hands over."""

from alembic import context

from dw_refserver.store.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, transactional_ddl=None)
with context.begin_transaction():
    context.run_migrations()
