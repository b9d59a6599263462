"""Handles errors of commands: one paragraph, an exit code, a traceback only with --debug."""

import functools
import os
import sys
import traceback
import warnings
from collections.abc import Callable
from typing import Any

import typer

from gfx.cli.stopping import note_written, outcome, stop_if_told
from gfx.errors import GfxError
from gfx.io.guards import reason

__all__ = ["fail", "guarded", "warn"]


def guarded(command: Callable[..., None]) -> Callable[..., None]:
    """Wraps a command so that every exception becomes a message and an exit code.

    The command takes `debug`; with it the traceback is shown too.
    """

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        debug = bool(kwargs.get("debug"))
        try:
            with warnings.catch_warnings():
                if not debug:
                    warnings.simplefilter("ignore")  # addressed to developers
                note_written()
                stop_if_told()
                command(*args, **kwargs)
                sys.stdout.flush()
        except (typer.Exit, typer.Abort, typer.BadParameter, BrokenPipeError):
            raise
        except GfxError as error:
            fail(str(error), debug)
        except KeyboardInterrupt:
            fail(f"interrupted; {outcome()}", debug, code=130)
        except OSError as error:
            _silence_stdout()
            fail(f"the system refused: {reason(error)}; {outcome()}", debug)
        except Exception as error:
            what = f"internal error ({type(error).__name__}: {error})"
            fail(what if debug else f"{what}; run again with --debug to see where", debug)

    return run


def _silence_stdout() -> None:
    """Leaves a stdout that cannot be written, as Python would complain about it at the end."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def fail(message: str, debug: bool = False, *, code: int = 1) -> None:
    """Prints an error on stderr and exits.

    Raises: typer.Exit with the code; Stopped where a signal came before, which it then failed for.
    """
    stop_if_told()
    if debug:
        typer.echo(traceback.format_exc(), err=True)
    typer.secho(f"error: {message}", fg=typer.colors.RED, err=True)
    raise typer.Exit(code)


def warn(message: str) -> None:
    """Prints a warning on stderr."""
    typer.secho(f"warning: {message}", fg=typer.colors.YELLOW, err=True)
