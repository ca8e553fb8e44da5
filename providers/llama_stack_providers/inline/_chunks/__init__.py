"""Chunks in SQLite, one file for each bank: what the vector indexes that run in this process have in common.

index.py    ChunkIndex over such files: what may be asked for, and in which thread it runs
folder.py   which banks are open; their files
bank.py     one bank's operations, each in one transaction
schema.py   the tables, and how a file says which bank it is
filters.py  metadata filters as SQL
rows.py     chunks as rows
words.py    the search by words
keeper.py   what a provider adds: where vectors are kept and how the nearest are found
tidying.py  giving back what deletes leave behind
files.py    connections, their settings and their errors
"""
