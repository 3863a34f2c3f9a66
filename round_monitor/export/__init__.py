"""Where status pages can go on to: one file for each tool, chosen by `fedmqtt export` and its name.

Each has `add_arguments(parser)` for what it alone asks, `run(federation, broker, arguments)` with
the command's exit code, `ROLES` (accounts that will do, the one that it is meant for first) and
`EXTRA` (of pyproject.toml, where it needs one). What the tool brings is imported when it runs.
"""
