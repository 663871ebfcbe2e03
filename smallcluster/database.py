"""What the two databases spell differently: their own client's command line, and a moment in SQL."""

from __future__ import annotations

from smallcluster.settings import Database

_PGSQL = (
    'PGPASSWORD="$POSTGRES_PASSWORD" exec psql --host=127.0.0.1 --username="$POSTGRES_USER" '
    '--dbname="${2:-$POSTGRES_DB}" '
    "--no-psqlrc --quiet --no-align --tuples-only --field-separator=\"$(printf '\\t')\" --set=ON_ERROR_STOP=1"
)
_MYSQL = (
    'MYSQL_PWD="$MYSQL_PASSWORD" exec mysql --protocol=tcp --host=127.0.0.1 --user="$MYSQL_USER" --batch '
    "--skip-column-names"
)
_STATEMENT = {
    Database.PGSQL: f'{_PGSQL} --command="$1"',
    Database.MYSQL: f'{_MYSQL} --execute="$1" "${{2:-$MYSQL_DATABASE}}"',
}
_SESSION = {Database.PGSQL: _PGSQL, Database.MYSQL: f'{_MYSQL} --unbuffered "$MYSQL_DATABASE"'}

_MYSQL_ROOT = (
    'MYSQL_PWD="$MYSQL_ROOT_PASSWORD" exec mysql --protocol=tcp --host=127.0.0.1 --user=root --batch --execute="$1"'
)


def client_command(db: Database, sql: str, name: str = "") -> list[str]:
    """The command, for inside the database's container, that runs one statement as the application's user.

    In the application's database, or in another one of the same server.

    The password is taken from the container's own environment, so that no process list shows it.
    """
    return ["sh", "-c", _STATEMENT[db], "client", sql, name]


def session_command(db: Database) -> list[str]:
    """The command that runs statements as they come on its standard input, and writes each result at once."""
    return ["sh", "-c", _SESSION[db], "client"]


_DUMPS = {
    Database.PGSQL: 'PGPASSWORD="$POSTGRES_PASSWORD" exec pg_dump --host=127.0.0.1 --username="$POSTGRES_USER" '
    '--dbname="${1:-$POSTGRES_DB}" --no-password --format=custom',
    Database.MYSQL: 'MYSQL_PWD="$MYSQL_PASSWORD" exec mysqldump --protocol=tcp --host=127.0.0.1 '
    '--user="$MYSQL_USER" --single-transaction --no-tablespaces --hex-blob --set-gtid-purged=OFF '
    '"${1:-$MYSQL_DATABASE}"',
}
_RESTORES = {
    Database.PGSQL: 'PGPASSWORD="$POSTGRES_PASSWORD" exec pg_restore --host=127.0.0.1 --username="$POSTGRES_USER" '
    '--no-password --no-owner --exit-on-error --dbname="$1"',
    Database.MYSQL: 'MYSQL_PWD="$MYSQL_PASSWORD" exec mysql --protocol=tcp --host=127.0.0.1 --user="$MYSQL_USER" "$1"',
}


def dump_script(db: Database) -> str:
    """A shell script, for inside the database's container, that writes a whole database to its standard output.

    The application's, or the one that its argument names.
    """
    return _DUMPS[db]


def restore_script(db: Database) -> str:
    """The script that reads such a dump from its standard input, into the database that its argument names."""
    return _RESTORES[db]


def size_query(db: Database) -> str:
    """How many bytes the application's database takes."""
    if db is Database.PGSQL:
        return "select pg_database_size(current_database())"
    return (
        "select cast(coalesce(sum(data_length + index_length), 0) as unsigned) from information_schema.tables "
        "where table_schema = database()"
    )


def tables_query(db: Database) -> str:
    """The names of all tables, a row each."""
    here = "current_schema()" if db is Database.PGSQL else "database()"
    return f"select table_name from information_schema.tables where table_schema = {here} order by 1"  # noqa: S608


def checksum_query(db: Database, table: str) -> str:
    """Two statements: a table's number of rows; then its name and a checksum that doesn't depend on their order."""
    if db is Database.PGSQL:
        each = "md5(one::text)"
        checksum = f"select '{table}', coalesce(md5(string_agg({each}, '' order by {each})), '') from {table} one"  # noqa: S608
    else:
        checksum = f"checksum table {table} extended"
    return f"select count(*) from {table}; {checksum}"  # noqa: S608


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
