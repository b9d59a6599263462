"""Defines what every reference discriminator states about itself, and how its weights start."""

from abc import abstractmethod
from collections.abc import Iterable
from typing import Final

from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from gfx.zoo.spec import Spec, nearest_choice, normal

INITS: Final = ("normal", "xavier", "orthogonal", "default")
WEIGHTED: Final = (nn.Conv2d, nn.Linear, nn.Embedding)


class DiscriminatorSpec(Spec):
    """Describes one discriminator: its options, how to build it, its inputs.

    Every discriminator has the option `init`, because it is trained from scratch:

        normal      N(0, 0.02) for weights, N(1, 0.02) for the scales of norms, biases 0
        xavier      N with Xavier's spread times 0.02, norms and biases as above
        orthogonal  orthogonal weights, biases 0
        default     torch's own

    It draws from torch's random numbers: seed torch first for the same weights each time.
    The scores are logits: there is no sigmoid, the loss has it.

    Raises: InputError if an option has the wrong type or is out of range.
    Source: Radford et al. 2016, arXiv:1511.06434, section 4 (normal); Park et al. 2019,
    arXiv:1903.07291, appendix A (xavier); Brock et al. 2019, arXiv:1809.11096, section 3
    (orthogonal).
    """

    # fields of every discriminator; init is the last
    input_nc: int
    image_size: int  # pixels
    init: str

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_choice("init", INITS)

    @abstractmethod
    def network(self) -> nn.Module:
        """Makes the layers, without spectral norms and with torch's initialisation."""

    def normalised(self, network: nn.Module) -> Iterable[nn.Module]:
        """Lists the layers that get a spectral norm: none, unless a discriminator says so."""
        return ()

    def build(self) -> nn.Module:
        """Builds the discriminator, initialised as `init` says, in training mode."""
        network = self.network()
        # a spectral norm starts from the weights, so that they are drawn first
        initialise(network, self.init)
        for layer in list(self.normalised(network)):
            spectral_norm(layer)
        return network

    def image(self, batch: int) -> Tensor:
        """Makes what it judges: an image, or several in the channels of one."""
        return normal(batch, self.input_nc, self.image_size, self.image_size)

    def inputs(self, batch: int) -> tuple[Tensor, ...]:
        """Makes an image."""
        return (self.image(batch),)

    def require_choice(self, option: str, known: Iterable[str]) -> None:
        """Refuses a word that an option does not know."""
        value = getattr(self, option)
        if not isinstance(value, str) or value not in known:
            raise self.error(f"{option} is {value!r}{nearest_choice(str(value), known)}")

    def require_count_or_none(self, option: str) -> None:
        """Refuses anything but None and a whole number of at least 1."""
        value = getattr(self, option)
        counts = isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 1_000_000
        if value is not None and not counts:
            raise self.error(
                f"{option} is {value!r}; give a whole number from 1 to 1,000,000, or leave it out"
            )


def initialise(network: nn.Module, init: str) -> None:
    """Draws the weights of convolutions, linears, embeddings and norms in place.

    Example:
        >>> layer = nn.Linear(4, 4)
        >>> initialise(layer, "orthogonal")
        >>> (layer.weight @ layer.weight.T).round(decimals=3).diagonal().tolist()
        [1.0, 1.0, 1.0, 1.0]
    """
    if init == "default":
        return
    for layer in network.modules():
        if isinstance(layer, WEIGHTED):
            if init == "normal":
                nn.init.normal_(layer.weight, 0.0, 0.02)
            elif init == "xavier":
                nn.init.xavier_normal_(layer.weight, 0.02)
            else:
                nn.init.orthogonal_(layer.weight)
        elif isinstance(layer, nn.BatchNorm2d) and layer.affine and init != "orthogonal":
            nn.init.normal_(layer.weight, 1.0, 0.02)
        bias = getattr(layer, "bias", None)
        if isinstance(bias, nn.Parameter):
            nn.init.zeros_(bias)
