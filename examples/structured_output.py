"""An answer in a form that a program can use: the model is held to the JSON Schema of a Pydantic model."""

import asyncio

from pydantic import BaseModel

from llama_stack import LlamaStack


class Contact(BaseModel):
    name: str
    city: str


async def main() -> None:
    async with LlamaStack.open("starter") as stack:
        answer = await stack.chat(
            "Extract name and city as JSON. Ada is from Bergen",
            response_format=Contact,
            temperature=0,
            max_tokens=100,
        )
        contact = Contact.model_validate_json(answer.text)
        print(contact)


asyncio.run(main())
