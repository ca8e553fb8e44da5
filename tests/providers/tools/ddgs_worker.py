"""The searching process of remote::ddgs, its DuckDuckGo engine pointed at the address that is the first argument."""

import json
import sys

from ddgs.engines.duckduckgo import Duckduckgo

from llama_stack_providers.remote._ddgs.worker import main

Duckduckgo.search_url = sys.argv[1]
main(json.loads(sys.argv[-1]))
