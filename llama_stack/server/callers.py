"""Who a request is for. The one door through which identity and the caller's own provider keys come in."""

import orjson
from starlette.requests import HTTPConnection

from llama_stack.api.common import Caller
from llama_stack.errors import InvalidRequest

PROVIDER_DATA_HEADER = "X-LlamaStack-Provider-Data"
LOCAL_OWNER = "local"

_LOCAL_CALLER = Caller(owner=LOCAL_OWNER)


def caller_of(request: HTTPConnection) -> Caller:
    """The caller, with the credentials of the provider-data header (a JSON object of names to values).

    Raises InvalidRequest, without repeating the value, when the header holds anything else.
    """
    header = request.headers.get(PROVIDER_DATA_HEADER)
    if header is None:
        return _LOCAL_CALLER
    try:
        credentials = orjson.loads(header)
    except orjson.JSONDecodeError:
        credentials = None
    if not isinstance(credentials, dict):
        raise InvalidRequest(
            f'the header {PROVIDER_DATA_HEADER} must hold a JSON object such as {{"together_api_key": "..."}}; '
            "correct it, or leave the header out",
            param=PROVIDER_DATA_HEADER,
            code="invalid_header",
        )
    return Caller(owner=LOCAL_OWNER, provider_credentials=credentials)
