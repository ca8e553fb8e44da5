"""Chunks in a foreign database: what the memory backends over one share. Nothing in here knows one of them.

A backend is a store, which says in a database's own words what is asked of it (`store`). `DatabaseIndex` makes a
`ChunkIndex` of it: what is refused (`checks`, `banks`), which words are looked for, what is best (`ranking`). Writes
are whole in one of two ways, by what the database can do:

- `marks`: many rows are changed in one step (Qdrant, Chroma, Milvus). Rows carry a mark, a search asks once;
- `heads`: each object is changed by itself (Elasticsearch, OpenSearch, Weaviate). A small object for each document
  says which rows count, and a search asks for these, too.

Filters become a database's own conditions over `facets` of the metadata (`conditions`).
"""
