"""What the memory backends over foreign vector databases share: nothing in here knows one of them.

A vector database stores vectors with flat fields and compares those in its own way. So a chunk is laid out the same for
all of them: its fields (`records`), the facets by which filters select it (`facets`, `conditions`) and the weights of
its words (`terms`). What a database selects is checked again by `ranking` and `listing`, so a filter that it can only
express approximately, too widely, still selects exactly.
"""
