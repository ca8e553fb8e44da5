"""Chat with a model in your own process: nothing to start, no key, no download."""

from llama_stack import LlamaStack

with LlamaStack.open("starter") as stack:
    answer = stack.chat("hello")
    print(answer.text)

    for event in stack.stream_chat("thank you"):
        print(event.text if event.type == "text" else "", end="", flush=True)
    print()
