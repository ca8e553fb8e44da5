"""Chroma as a keeper of chunks, in this process or behind its REST interface: one index over two doors."""
