"""Parts of `inline::rules`: what is looked for in a text, each in time linear in its length."""
