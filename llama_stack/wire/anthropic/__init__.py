"""Anthropic's Messages dialect (API reference, "Messages", version 2023-06-01): requests in, answers out."""
