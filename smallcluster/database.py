"""What the two databases spell differently: their own client's command line, and a moment in SQL."""

from __future__ import annotations

from smallcluster.settings import Database

_PGSQL = (
    'PGPASSWORD="$POSTGRES_PASSWORD" exec psql --host=127.0.0.1 --username="$POSTGRES_USER" --dbname="$POSTGRES_DB" '
    "--no-psqlrc --quiet --no-align --tuples-only --field-separator=\"$(printf '\\t')\" --set=ON_ERROR_STOP=1 "
    '--command="$1"'
)
_MYSQL = (
    'MYSQL_PWD="$MYSQL_PASSWORD" exec mysql --protocol=tcp --host=127.0.0.1 --user="$MYSQL_USER" --batch '
    '--skip-column-names --execute="$1" "$MYSQL_DATABASE"'
)

_MYSQL_ROOT = (
    'MYSQL_PWD="$MYSQL_ROOT_PASSWORD" exec mysql --protocol=tcp --host=127.0.0.1 --user=root --batch --execute="$1"'
)


def client_command(db: Database, sql: str) -> list[str]:
    """The command, for inside the database's container, that runs one statement as the application's user.

    The password is taken from the container's own environment, so that no process list shows it.
    """
    script = _PGSQL if db is Database.PGSQL else _MYSQL
    return ["sh", "-c", script, "client", sql]


def making_command(db: Database, name: str, user: str) -> list[str]:
    """The command, for inside the database's container, that makes one more database for the application's user.

    In PostgreSQL's image that user is the one who may; in MySQL's, root.
    """
    if db is Database.PGSQL:
        return client_command(db, f'create database "{name}"')
    grant = f"grant all on `{name}`.* to '{user}'@'%'"
    return ["sh", "-c", _MYSQL_ROOT, "client", f"create database `{name}`; {grant}"]


def dropping_command(db: Database, name: str) -> list[str]:
    """The command that drops such a database, with whoever is still connected to it."""
    if db is Database.PGSQL:
        return client_command(db, f'drop database if exists "{name}" with (force)')
    return ["sh", "-c", _MYSQL_ROOT, "client", f"drop database if exists `{name}`"]


def days_ago(db: Database, days: float) -> str:
    """An SQL expression for the moment so many days before the database's own now, in UTC."""
    minutes = round(days * 24 * 60)
    if db is Database.PGSQL:
        return f"now() - interval '{minutes} minutes'"
    return f"utc_timestamp(6) - interval {minutes} minute"
