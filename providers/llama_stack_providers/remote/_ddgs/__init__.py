"""The package `ddgs` in processes of its own."""
