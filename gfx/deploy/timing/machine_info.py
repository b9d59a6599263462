"""Describes the machine that times depend on: the processor, its cores, and the software."""

import os
import platform
import re
from dataclasses import asdict, dataclass
from functools import cache
from importlib import metadata
from pathlib import Path

import torch

__all__ = ["Machine", "machine"]


@dataclass(frozen=True)
class Machine:
    """A machine, as far as it affects times measured on it.

    Example: `print(machine())` → "Intel(R) Xeon(R) Processor (AVX512), 2 cores, Linux x86_64,
    torch 2.13.0".
    """

    cpu: str  # model and instruction set
    cores: int  # that this process may use
    system: str
    torch: str  # version

    def key(self, backend: str = "eager", threads: int | None = None, device: str = "cpu") -> str:
        """Returns a short text, fit for a file's name, that is equal where times are comparable.

        None threads are those that torch uses.

        Example:
            >>> Machine("A (AVX2)", 2, "Linux", "2.13.0").key("eager", 1)
            'A-AVX2-2-Linux-torch-2.13.0-eager-1-threads'
        """
        version = _version("onnxruntime") if backend == "onnxruntime" else ""
        count = torch.get_num_threads() if threads is None else threads
        where = "" if device == "cpu" else f"{device} {_gpu(device)}"
        parts = (self.cpu, self.cores, self.system, "torch", self.torch, backend, version, where)
        text = " ".join(str(part) for part in parts if part != "")
        return re.sub(r"[^A-Za-z0-9.]+", "-", f"{text} {count} threads").strip("-")

    def to_dict(self) -> dict[str, str | int]:
        """Returns the machine as plain data."""
        return asdict(self)

    def __str__(self) -> str:
        cores = "1 core" if self.cores == 1 else f"{self.cores} cores"
        return f"{self.cpu}, {cores}, {self.system}, torch {self.torch}"


@cache
def machine() -> Machine:
    """Returns the machine that this runs on.

    Example:
        >>> machine().torch == torch.__version__
        True
    """
    capability = torch.backends.cpu.get_cpu_capability()
    cpu = f"{_model()} ({capability})"
    system = f"{platform.system()} {platform.machine()}"
    return Machine(cpu, _cores(), system, str(torch.__version__))


def _model() -> str:
    """Returns the processor's name, from /proc/cpuinfo on Linux, else by platform."""
    info = Path("/proc/cpuinfo")
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", info.read_text("utf-8"), re.MULTILINE)
    except OSError:
        found = None
    return found[1].strip() if found else platform.processor() or platform.machine() or "unknown"


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def _gpu(device: str) -> str:
    return torch.cuda.get_device_name(device) if torch.cuda.is_available() else ""
