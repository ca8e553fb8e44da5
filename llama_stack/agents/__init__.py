"""Agents: the loop that runs a turn, and Python functions as its tools. Usable without server or YAML."""
