"""The commands of `python -m jina`, one module each.

A command module has a docstring, which is the head of its help; `add_options(parser)`;
`run(options) -> int`, which returns the exit code; and `BAD_INPUT`, the errors of `run` that are
the user's to mend. A new command is a new module and a line in the table of `jina/__main__.py`.
"""
