"""Responses and conversations: the agent loop, kept and shown as OpenAI's Responses API shows it."""
