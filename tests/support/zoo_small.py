"""The reference generators in configurations that run in a moment."""

from typing import Any

import torch
from torch import nn

from gfx import zoo

__all__ = ["SMALL", "small"]

SMALL: dict[str, dict[str, Any]] = {
    "resnet_9blocks": {"ngf": 4, "n_blocks": 1, "image_size": 16},
    "mobile_resnet_9blocks": {"ngf": 4, "n_blocks": 1, "image_size": 16},
    "unet_256": {"ngf": 2, "n_down": 5, "image_size": 32},
    "spade": {"ngf": 2, "hidden": 4, "labels": 5, "height": 64, "width": 64},
    "pix2pixhd_global": {"ngf": 2, "n_blocks": 1, "n_down": 2, "image_size": 16},
    "stargan": {"ngf": 4, "n_blocks": 1, "image_size": 16},
    "srresnet": {"ngf": 4, "n_blocks": 1, "image_size": 8},
    "dcgan": {"ngf": 4},
    "sagan": {"ngf": 8},
    "biggan_128": {"ch": 8, "image_size": 16, "z_dim": 12},
}


def small(name: str) -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return zoo.build(name, **SMALL[name]).eval(), zoo.example_inputs(name, **SMALL[name])
