"""The classic Llama Stack REST shapes, as spoken by the package `llama-stack-client` 0.2.12: bodies in, answers out."""
