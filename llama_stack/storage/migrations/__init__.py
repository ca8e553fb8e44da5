"""Numbered steps of the schema: `0001_what_it_does.py` with `upgrade(connection)` and `downgrade(connection)`.

A migration is a record of its day. It never imports the tables, which move on, and is not edited after a release.
"""
