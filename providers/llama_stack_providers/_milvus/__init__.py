"""Milvus as a keeper of chunks: a server, Zilliz Cloud, or Milvus Lite in this process, all through its own client."""
