"""Chunks in a foreign database: what the memory backends over one share. Nothing in here knows one of them.

A backend is a store, which says in a database's own words what is asked of it (`store`), over HTTP through `service`.
`DatabaseIndex` makes a `ChunkIndex` of it: what is refused before anybody is asked (`checks`), which words are looked
for (`banks`), what is best (`ranking`). Writes are whole in one of two ways, by what the database can do:

- `marks`: it changes many rows in one step (Qdrant, Chroma, Milvus). Rows carry a mark, and a search asks once;
- `heads`: it changes each object by itself (Elasticsearch, OpenSearch, Weaviate). A small object for each document
  says which rows count, and a search asks for these, too.

Filters become a database's own conditions over `facets` of the metadata (`conditions`).
"""
