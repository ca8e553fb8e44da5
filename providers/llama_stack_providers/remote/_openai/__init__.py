"""What every provider that speaks OpenAI's wire format shares; no provider itself."""
