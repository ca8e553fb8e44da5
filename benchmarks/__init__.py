"""How fast the stack is, each figure beside a peer or a physical limit measured in the same run. See README.md."""
