"""OpenAI's Responses API (API reference, "Responses" and "Conversations"): requests, items, events and objects.

request.py      a create body -> ResponseRequest
tools.py        the tools and the tool choice of a request
items.py        items as they come in, checked and in one shape
telling.py      items -> the messages of a conversation
sealing.py      what clients keep for us as `encrypted_content`
stream.py       events of the agent loop -> events of a response
under_way.py    one output item while it is being made
websocket.py    events of the WebSocket mode
citations.py    which sources an answer cites
objects.py      the response object and its lists
"""
