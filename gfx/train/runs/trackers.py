"""Sends the rows of a run to tensorboard, wandb or trackio, through accelerate.

1. A tracker whose package is missing is refused before the first step.
2. One that fails on the way, as without a network, is given up, and told of: the run goes on.
3. What other code of the process has of accelerate stays: its state is shared by all.
"""

from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from gfx.errors import InputError
from gfx.io.plain_data import shown

__all__ = ["Trackers", "check_trackers"]

# by name the packages of which it needs one
_PACKAGES = {
    "tensorboard": ("tensorboard", "tensorboardX"),
    "wandb": ("wandb",),
    "trackio": ("trackio",),
}


class Trackers:
    """The trackers of one run; `said` is what was given up.

    Tensorboard writes to the folder of the run, under its name.

    Raises: InputError if one cannot be used.

    Example:
        >>> none = Trackers((), Path("runs/shoes"))
        >>> none.log({"slim/l1": 0.5}, step=10)
        >>> none.said
        []
    """

    def __init__(self, names: Sequence[str], folder: Path) -> None:
        check_trackers(names)
        self.said: list[str] = []
        self._open: dict[str, Any] = {}
        if not names:
            return
        from accelerate import Accelerator
        from accelerate.state import AcceleratorState

        known = bool(AcceleratorState._shared_state)
        try:
            # nothing is said of devices: where accelerate has some already, these stay (rule 3)
            made = Accelerator(log_with=list(names), project_dir=str(folder))
            made.init_trackers(folder.name)
        except Exception as error:  # of another's package
            raise InputError(
                f"log: {', '.join(names)} cannot be used: {type(error).__name__}: "
                f"{str(error)[:200]}; leave it out, or give what it asks for"
            ) from error
        self._open = {tracker.name: tracker for tracker in made.trackers}
        if not known:  # an Accelerator that the process makes later may be another
            AcceleratorState._reset_state()
        for name in names:
            if name not in self._open:
                raise InputError(
                    f"log: accelerate does not find {name}; install it anew: {_command(name)}"
                )

    def __bool__(self) -> bool:
        """Tells whether there is any to send to."""
        return bool(self._open)

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Sends numbers by name; steps never fall."""
        self._each(lambda tracker: tracker.log(dict(values), step=step))

    def close(self) -> None:
        """Ends all, and leaves the processes of a launch connected (rule 3)."""
        self._each(lambda tracker: tracker.finish())
        self._open = {}

    def _each(self, call: Callable[[Any], None]) -> None:
        for name, tracker in list(self._open.items()):
            try:
                call(tracker)
            except Exception as error:  # of another's package (rule 2)
                del self._open[name]
                self.said.append(
                    f"log: {name} failed, and gets no more: {type(error).__name__}: "
                    f"{str(error)[:200]}; log.jsonl has all rows"
                )


def check_trackers(names: Sequence[str]) -> None:
    """Checks the names of trackers, and that their packages are installed (rule 1).

    Raises: InputError naming one that there is not, or the extra to install.
    """
    for name in names:
        if name not in _PACKAGES:
            choice = ", ".join(_PACKAGES)
            raise InputError(f"log: there is no tracker {shown(name)}; choose {choice}")
        if not any(map(find_spec, _PACKAGES[name])):
            raise InputError(
                f"log: {name} needs the package {name}, which is not installed; install the extra: "
                f"{_command(name)}"
            )
        if find_spec("accelerate") is None:
            raise InputError(
                f"log: {name} is reached through accelerate, which is not installed; install the "
                f"extra: {_command(name)}"
            )


def _command(name: str) -> str:
    return f"pip install 'gfx-compiler[{name}]'"
