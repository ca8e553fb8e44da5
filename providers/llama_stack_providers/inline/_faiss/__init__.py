"""Vectors in memory, for `inline::faiss`.

settings.py flat, hnsw, ivf_pq: what can be set about each
kinds.py    how each of them is built, searched and rid of the dead
rows.py     which chunk is at which position of an index
vectors.py  the vectors of one bank: loaded from its file, changed with it, tidied behind it
snapshot.py an index on disk, for those that are slow to build
lock.py     many read or one writes
"""
