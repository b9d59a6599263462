"""Writes and reads the nets that a stage leaves beside its generator."""

import io
from collections.abc import Callable, Container
from pathlib import Path

import torch
from torch import fx, nn

from gfx.io.archive import load, save
from gfx.io.atomic_writes import write_files
from gfx.io.guards import reading_file
from gfx.train.loop.player import Player
from gfx.train.runs.critic_source import CriticSource
from gfx.train.runs.nets import Nets

__all__ = ["endings_of", "read_critic", "read_partners", "write_partners"]

FileOf = Callable[[str], Path]  # by ending


def _write_critic(critic: nn.Module, path: Path) -> None:
    """Writes the weights of a discriminator."""
    buffer = io.BytesIO()
    torch.save(critic.to("cpu").state_dict(), buffer)
    write_files({path: lambda file: file.write(buffer.getvalue())})


def read_critic(critic: nn.Module, path: Path) -> nn.Module:
    """Returns a discriminator with the weights of a file.

    Raises: ArchiveError if it does not hold them.
    """
    with reading_file(path, "give another run folder"):
        critic.load_state_dict(torch.load(path, weights_only=True, map_location="cpu"))
    return critic


def endings_of(student: Player | None) -> list[str]:
    """Returns how the files end that a student leaves: its own, and those of its partners."""
    found = [".gfx"]
    if student is not None:
        found += [".critic.pt"] * (student.critic is not None)
        for name, player in student.partners.items():
            found += [f".{name}.gfx", *[f".{name}.critic.pt"] * (player.critic is not None)]
    return found


def write_partners(student: Player, file_of: FileOf) -> None:
    """Writes the discriminator of a student, its partners and theirs."""
    critic = student.plain_critic
    if critic is not None:
        _write_critic(critic, file_of(".critic.pt"))
    for name, player in student.partners.items():
        assert isinstance(player.net, fx.GraphModule)
        save(player.net.to("cpu"), file_of(f".{name}.gfx"))
        if player.critic is not None:
            _write_critic(player.critic, file_of(f".{name}.critic.pt"))


def read_partners(names: list[str], endings: Container[str], file_of: FileOf, nets: Nets,
                  source: Callable[[], CriticSource]) -> None:  # fmt: skip
    """Takes what `write_partners` wrote; `source` makes discriminators of the way back."""
    for name in names:
        net = load(file_of(f".{name}.gfx"))
        assert isinstance(net, fx.GraphModule)
        nets.partners[name] = net
        if (ending := f".{name}.critic.pt") in endings:
            nets.partner_critics[name] = read_critic(source().shell(), file_of(ending))
