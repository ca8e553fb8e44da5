"""Memory over any provider: documents are read, cut, embedded and kept; what is asked for is found, fused and cited."""
