"""Makes a pretrained face generator smaller, and repairs it without training.

The generator is the DCGAN of the package gan-face-generate (MIT licence, 3.6 M parameters, trained
on DigiFace-1M). Fetch it without its dependencies, which it needs for training only:

    pip install --no-deps gan-face-generate==1.1.1
    pip install 'gfx-compiler[images]'

Then

    python examples/faces.py --out out

writes to the folder `out`

    model.pt    the generator, pickled the way torch.save does it
    small.gfx   half of it, repaired by least squares on latents that gfx draws itself
    faces.png   the same latents: the generator, half of it, their difference ten times enlarged

The recipe is `half-refit`. No training follows; it would bring the two nearer still.
"""

import argparse
import math
from importlib import resources
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, fx, nn

import gfx

LATENT = 100  # channels of the generator's input
PEOPLE = 8  # faces a row


def pretrained() -> nn.Module:
    """Builds the generator of gan-face-generate with its weights, in eval mode.

    Raises: SystemExit, with the command to run, if the package is not installed.
    """
    try:
        from gan_face_generate.models import Generator
    except ImportError as error:
        raise SystemExit(
            "faces.py needs the package gan-face-generate, and none of its dependencies:\n"
            "    pip install --no-deps gan-face-generate==1.1.1"
        ) from error
    weights = resources.files("gan_face_generate") / "weights.tar"
    with weights.open("rb") as file:
        state = torch.load(file, map_location="cpu", weights_only=True)["netG_state_dict"]
    model = Generator(ngpu=0, nc=3, nz=LATENT, ngf=64)
    model.load_state_dict(state)
    return model.eval()


def halve(model: nn.Module, latents: Tensor, path: Path) -> fx.GraphModule:
    """Halves the generator, repairs it and saves it; the model passed in stays as it is."""
    small = gfx.apply("half-refit", model, example_inputs=(latents[:1],))
    gfx.save(small, path)
    return small


def psnr(before: Tensor, after: Tensor) -> float:
    """Returns the peak signal-to-noise ratio of pictures in [-1, 1], in dB."""
    error = float((after - before).square().mean())
    return 10 * math.log10(2**2 / error)


def picture(before: Tensor, after: Tensor) -> Image.Image:
    """Draws three rows of faces: before, after, and their difference times ten.

    Shapes: before and after are (N, 3, H, W) in [-1, 1]; the picture is 3 H high and N W wide.
    """
    # both are in [-1, 1]; a grey pixel of the last row is one that did not change
    rows = [before, after, (after - before) * 10]
    grid = torch.cat([torch.cat(list(row), dim=2) for row in rows], dim=1)
    pixels = ((grid.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())


def run(out: Path, seed: int) -> float:
    """Does all of it and returns how near the pictures are, in dB."""
    out.mkdir(parents=True, exist_ok=True)
    model = pretrained()
    torch.save(model, out / "model.pt")
    latents = torch.randn(PEOPLE, LATENT, 1, 1, generator=torch.Generator().manual_seed(seed))

    small = halve(model, latents, out / "small.gfx")
    print(gfx.report(small))
    with torch.no_grad():
        before, after = model(latents), small(latents)
    picture(before, after).save(out / "faces.png")
    near = psnr(before, after)
    print(f"PSNR between the generator and half of it: {near:.1f} dB, with no training")
    print(f"wrote {out / 'faces.png'}")
    return near


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description="Make a pretrained face generator smaller.")
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder to write to")
    parser.add_argument("--seed", type=int, default=0, help="seed of the latents")
    arguments = parser.parse_args()
    run(arguments.out, arguments.seed)


if __name__ == "__main__":
    main()
