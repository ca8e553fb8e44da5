"""The REST server: a running Stack over HTTP. The only place that knows Starlette and FastAPI.

`app.create_app` makes the application, `serve.serve` runs it. The server receives a Stack and never builds one.
"""
