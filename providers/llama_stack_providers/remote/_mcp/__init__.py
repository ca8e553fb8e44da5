"""What speaks with MCP servers; no provider itself."""
