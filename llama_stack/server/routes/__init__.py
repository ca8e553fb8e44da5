"""One file of routes for each family of the API. Each offers `routes(...)`, which gives a PlainRouter over a Stack."""
