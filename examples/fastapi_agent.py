"""An agent behind FastAPI: a page that shows its tool calls and its words as they come, as server-sent events.
Each browser has a session that the stack keeps; leaving the page stops the work.

    uvicorn examples.fastapi_agent:app
"""

import json
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

from fastapi import FastAPI
from fastapi.responses import HTMLResponse, StreamingResponse

from llama_stack import Agent, LlamaStack, StackError
from llama_stack.api.agents import StepProgress, ToolCallFinished, ToolCallStarted
from llama_stack.api.inference import TextDelta
from llama_stack.api.messages import text_of

PAGE = """<!doctype html><meta charset="utf-8"><title>Agent</title>
<form><input name="question" value="convert 100 degrees to fahrenheit" size="60"><button>Ask</button></form>
<pre></pre>
<script>
  const log = document.querySelector("pre"), session = crypto.randomUUID()
  document.querySelector("form").onsubmit = (submit) => {
    submit.preventDefault()
    const question = submit.target.question.value
    const source = new EventSource("ask?" + new URLSearchParams({ session, question }))
    const show = (prefix) => (event) => log.append(prefix + JSON.parse(event.data))
    log.append("\\n\\n> " + question + "\\n")
    source.addEventListener("call", show("\\ncall   "))
    source.addEventListener("result", (event) => log.append("\\nresult " + JSON.parse(event.data) + "\\n"))
    source.addEventListener("text", show(""))
    for (const last of ["done", "error"]) source.addEventListener(last, (event) => {
      source.close()
      if (event.data) log.append(JSON.parse(event.data))
    })
  }
</script>"""


def convert_to_fahrenheit(degrees: float) -> str:
    """Convert degrees Celsius to Fahrenheit.

    Args:
        degrees: Degrees Celsius
    """
    return f"{degrees * 1.8 + 32:.4g} degrees Fahrenheit"


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with LlamaStack.open("starter") as stack:
        app.state.agent = Agent(stack, name="converter", tools=[convert_to_fahrenheit])
        yield


app = FastAPI(lifespan=lifespan)


@app.get("/")
async def page() -> HTMLResponse:
    return HTMLResponse(PAGE)


@app.get("/ask")
async def ask(question: str, session: str) -> StreamingResponse:
    # Whoever knows the session's name may go on with it: an application with users asks first whose it is.
    return StreamingResponse(frames(app.state.agent, question, session), media_type="text/event-stream")


async def frames(agent: Agent, question: str, name: str) -> AsyncIterator[str]:
    try:
        session = await agent.open_session(name)
        async with aclosing(session.stream(question)) as events:
            async for event in events:
                match event:
                    case ToolCallStarted(tool_call=call):
                        yield frame("call", f"{call.name}({call.arguments})")
                    case ToolCallFinished(result=result):
                        yield frame("result", text_of(result.content))
                    case StepProgress(event=TextDelta(text=text)):
                        yield frame("text", text)
    except StackError as error:
        yield frame("error", error.message)
    else:
        yield frame("done", "")


def frame(event: str, data: Any) -> str:
    return f"event: {event}\ndata: {json.dumps(data)}\n\n"
