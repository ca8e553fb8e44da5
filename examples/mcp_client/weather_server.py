"""A small MCP server, started by the stack and spoken with over stdin and stdout."""

from mcp.server.mcpserver import MCPServer

# Example data, not a weather report.
WEATHER = {"bergen": "rain, 9 degrees", "lisbon": "sunny, 21 degrees", "tokyo": "windy, 17 degrees"}

server = MCPServer("weather", log_level="ERROR")


@server.tool()
def get_weather(city: str) -> str:
    """Get the current weather in a city."""
    if city.lower() not in WEATHER:
        raise ValueError(f"no weather for {city}; there is {', '.join(WEATHER)}")
    return f"The weather in {city} is {WEATHER[city.lower()]}."


if __name__ == "__main__":
    server.run()
