"""Llama Stack: one interface for applications built on Llama models."""

__version__ = "0.1.0"
