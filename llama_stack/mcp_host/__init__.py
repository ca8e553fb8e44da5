"""The stack as an MCP server: its tools and agents, offered to other hosts."""
