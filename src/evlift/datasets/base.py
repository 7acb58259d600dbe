"""`Batch`: what the data side hands to a method."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

from torch import Tensor

from evlift.errors import DataError


@dataclass(frozen=True)
class Batch:
    """One step's data; the image side and the event side may show different scenes.

    A target is a class [B], or for segmentation a mask [B, H, W] in which 255 is void. Picture, sequence and mask of
    a scene lie on one pixel grid (a moving picture is shown as it lies when its mask holds).

    Args:
        image: [B, T, C, H, W] float32, source pictures as event-like sequences (constant or set in motion), or None.
        picture: [B, P, H, W] float32 in 0..1, the same source pictures as an image network sees them, P = 1 or 3.
        image_target: int64, target of each picture.
        events: [B, T, C, H, W] float32, event frames of the target, or None.
        event_target: int64, target of each recording; None where the method may not see event labels.
        whole: [B, T, C, H, W] float32, the recordings of `events`, unaugmented and from end to end: for methods whose
            targets come from more than the student reads.
        labelled: [B', T, C, H, W] float32, the recordings of `event_target` where `events` have none: for methods
            that read labelled and unlabelled recordings in one step.
        frame: [B, P, H, W] float32 in 0..1, pictures aligned with `events`, where the recordings have them.
        names: the recordings' names, in the order of `events`.
    """

    image: Tensor | None = None
    picture: Tensor | None = None
    image_target: Tensor | None = None
    events: Tensor | None = None
    event_target: Tensor | None = None
    whole: Tensor | None = None
    labelled: Tensor | None = None
    frame: Tensor | None = None
    names: tuple[str, ...] = ()

    def to(self, device: object) -> Batch:
        """The same batch with its tensors on `device`."""
        moved = {}
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, Tensor):
                moved[item.name] = value.to(device, non_blocking=True)  # type: ignore[call-overload]
        return replace(self, **moved)

    def of_pictures(self) -> Batch:
        """The pictures alone, or the frames aligned with windows, as sequences of one step [B, 1, P, H, W].

        Raises:
            DataError: the batch has neither.
        """
        if self.picture is not None:
            return Batch(image=self.picture.unsqueeze(1), image_target=self.image_target, names=self.names)
        if self.frame is None:
            raise DataError("Expected a batch with pictures or aligned frames, but got neither.")
        return Batch(image=self.frame.unsqueeze(1), image_target=self.event_target, names=self.names)
