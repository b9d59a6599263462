"""Defines the shell: `gfx apply half model.pt -o small.gfx` and its siblings.

Exit codes: 0 done, 1 gfx refused or failed (one paragraph on stderr), 2 the command line is wrong.
The result of a command goes to stdout, and with `--json` nothing else does; progress and errors go
to stderr.
"""

from gfx.cli.app import app, main

__all__ = ["app", "main"]
