"""What of a document could not be read although the rest of it was."""

from sqlalchemy import Connection


def upgrade(connection: Connection) -> None:
    connection.exec_driver_sql("ALTER TABLE documents ADD COLUMN warnings TEXT")


def downgrade(connection: Connection) -> None:
    connection.exec_driver_sql("ALTER TABLE documents DROP COLUMN warnings")
