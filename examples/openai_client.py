"""The unmodified openai package on a served stack: llama stack run starter, then python examples/openai_client.py."""

import sys

from openai import OpenAI

client = OpenAI(base_url=f"{sys.argv[1] if len(sys.argv) > 1 else 'http://localhost:8321'}/v1", api_key="none")

models = [model.id for model in client.models.list()]
print("models:", ", ".join(models))

stream = client.chat.completions.create(
    model=models[0], messages=[{"role": "user", "content": "hello"}], stream=True, temperature=0
)
for chunk in stream:
    if chunk.choices:
        print(chunk.choices[0].delta.content or "", end="", flush=True)
print()

vectors = client.embeddings.create(model="all-minilm-l6-v2", input=["a cat", "a dog"]).data
print("embeddings:", len(vectors), "of", len(vectors[0].embedding), "numbers")
