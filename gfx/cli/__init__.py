"""Defines the shell: `gfx apply half model.pt -o small.gfx` and its siblings.

Exit codes: 0 done, 1 gfx refused or failed (one paragraph on stderr), 2 the command line is wrong,
130 interrupted, 143 terminated. The result of a command goes to stdout, and with `--json` nothing
else does; progress and errors go to stderr.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gfx.cli.commands import app

__all__ = ["app", "main"]


def main() -> None:
    """Runs the shell."""
    import os

    from gfx.cli.completion import join_words_at_colons, without_beginning
    from gfx.cli.stopping import stoppable

    with stoppable(), without_beginning(join_words_at_colons(os.environ)):
        from gfx.cli.commands import app

        app(prog_name="gfx")  # as which completion knows it, also of `python -m gfx`


def __getattr__(name: str) -> Any:
    if name != "app":
        raise AttributeError(f"module 'gfx.cli' has no attribute {name!r}")
    from gfx.cli.commands import app

    return app
