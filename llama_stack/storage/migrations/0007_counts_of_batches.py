"""A batch of files keeps its counts when files of it are added again."""

from sqlalchemy import Connection


def upgrade(connection: Connection) -> None:
    connection.exec_driver_sql("ALTER TABLE file_batches ADD COLUMN moved TEXT")


def downgrade(connection: Connection) -> None:
    connection.exec_driver_sql("ALTER TABLE file_batches DROP COLUMN moved")
