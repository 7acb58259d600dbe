"""Two networks in a row: events become a picture, an image network reads it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from torch import Tensor, nn

from evlift.errors import ConfigError
from evlift.models import MODELS, create_model
from evlift.models.ann import check_frames
from evlift.models.base import SpikingOutput, State, checked_size
from evlift.models.reconstruction import Generator


@MODELS.register("reconstruct-then-run")
class ReconstructThenRun(nn.Module):
    """A reconstruction network and behind it an image network: the student of the method of the same name.

    Example:
        >>> net = create_model("reconstruct-then-run", classes=10, channels=2, steps=6, input_size=28)
        >>> net(torch.rand(8, 6, 2, 28, 28)).logits.shape
        torch.Size([8, 1, 10])

    Args:
        classes: K.
        image_model: name of the image network; it runs at its default options.
        generator_width, generator_blocks: of the reconstruction network.
        channels: C of a frame.
        picture_channels: P of a picture.
        steps: T.
        input_size: H = W, or (H, W).
    """

    smallest: ClassVar[int] = 8
    image_model: Any  # any network of evlift

    def __init__(
        self,
        classes: int = 10,
        *,
        image_model: str = "convnet",
        generator_width: int = 16,
        generator_blocks: int = 2,
        channels: int = 2,
        picture_channels: int = 1,
        steps: int = 1,
        input_size: int | Sequence[int] = 48,
    ) -> None:
        super().__init__()
        self.classes, self.channels, self.steps = classes, channels, steps
        self.input_size = checked_size(input_size, self)
        self.reconstruction = Generator(
            channels * steps, picture_channels, width=generator_width, blocks=generator_blocks
        )
        if image_model == "reconstruct-then-run":
            raise ConfigError(
                "Expected `image_model` to be a network that reads pictures. Use convnet or unet."
            )
        self.image_model = create_model(
            image_model, classes=classes, channels=picture_channels, steps=1, input_size=self.input_size
        )

    @property
    def task(self) -> str:
        """That of the image network."""
        return self.image_model.task

    @property
    def features(self) -> int:
        """That of the image network."""
        return self.image_model.features

    def picture(self, x: Tensor) -> Tensor:
        """[B, T, C, H, W] → pictures [B, P, H, W] in 0..1."""
        return self.reconstruction(x.flatten(1, 2))  # [B, T, C, H, W] → [B, T·C, H, W]

    def forward(
        self, x: Tensor, *, head: str = "event", state: State | None = None, taps: bool = False
    ) -> SpikingOutput:
        """[B, T, C, H, W] → the image network's answer to the reconstructed picture."""
        check_frames(self, x, head)
        return self.image_model(self.picture(x).unsqueeze(1), head=head, taps=taps)

    def strip(self) -> ReconstructThenRun:
        """The network itself: it has one head."""
        return self

    def inference_state_dict(self) -> dict[str, Tensor]:
        """All weights."""
        return self.state_dict()

    def event_parameters(self) -> Iterator[nn.Parameter]:
        """All parameters: both networks run at inference."""
        return self.parameters()
