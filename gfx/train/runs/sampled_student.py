"""Makes a supernet of a student whose stage samples subnets, and what samples them."""

from torch import fx, nn

from gfx.compression.selection.width_choices import SUPERNET
from gfx.errors import RecipeError
from gfx.train.loop.devices import Devices
from gfx.train.loop.sampled_nets import SampledNets
from gfx.train.loop.synced_norms import alone
from gfx.train.schedule.find_masks import has_masks
from gfx.train.supernet import supernet
from gfx.train.systems import SystemStage
from gfx.train.tasks import Batch, Task

__all__ = ["sampled_student"]


def sampled_student(
    stage: SystemStage,
    student: fx.GraphModule,
    critic: nn.Module | None,
    task: Task,
    first: Batch,
    devices: Devices,
    seed: int,
) -> SampledNets | None:
    """Returns the supernet of a student with its sampler; None if the stage samples nothing.

    The nets of a step are spread over the processes where these come out even, and no BatchNorm
    would see another batch by it.

    Raises: RecipeError if the passes say no widths, or leave masks.
    """
    assert stage.fit is not None
    sampler = stage.fit.sample
    if sampler is None:
        return None
    where = f"stage {stage.name}: sample: {sampler.name}"
    if SUPERNET not in student.meta:
        raise RecipeError(
            f"{where} trains subnets, and nothing says which widths they may have; add the pass "
            "`widths` to `do:`, behind `sort_channels`"
        )
    if has_masks(student):
        raise RecipeError(
            f"{where} trains subnets, and the student has masks or penalties, which choose "
            "channels too; train them in a stage of their own"
        )
    net = supernet(student, task.inputs(first.rows(slice(0, 1))), verify=False)
    net.train(student.training)
    ranks = devices.ranks
    # each process has gradients of what its nets have: forms of their own would not come together
    alike = not net.options
    even = alike and ranks > 1 and sampler.count is not None and sampler.count % ranks == 0
    parts = [student, *([] if critic is None else [critic])]
    spread = even and not any(True for part in parts for _ in alone(part))
    return SampledNets(net, sampler, task, devices, seed, spread=spread)
