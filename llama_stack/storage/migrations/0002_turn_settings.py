"""What one turn does otherwise than its agent; and agents that serve another face than the agents' own."""

from sqlalchemy import Connection


def upgrade(connection: Connection) -> None:
    connection.exec_driver_sql("ALTER TABLE turns ADD COLUMN settings TEXT")
    connection.exec_driver_sql("ALTER TABLE agents ADD COLUMN kind VARCHAR(16) NOT NULL DEFAULT 'agent'")


def downgrade(connection: Connection) -> None:
    connection.exec_driver_sql("ALTER TABLE turns DROP COLUMN settings")
    connection.exec_driver_sql("DELETE FROM agents WHERE kind <> 'agent'")
    connection.exec_driver_sql("ALTER TABLE agents DROP COLUMN kind")
