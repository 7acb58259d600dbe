"""`Batch`: what the data side hands to a method."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """One step's data; the image side and the event side may show different scenes.

    Args:
        image: [B, T, C, H, W] float32, source pictures as sequences (constant or set in motion), or None.
        image_target: [B] int64, class of each picture.
        events: [B, T, C, H, W] float32, event frames of the target, or None.
        event_target: [B] int64, class of each recording; None where the method may not see event labels.
        names: the recordings' names, in the order of `events`.
    """

    image: Tensor | None = None
    image_target: Tensor | None = None
    events: Tensor | None = None
    event_target: Tensor | None = None
    names: tuple[str, ...] = ()

    def to(self, device: object) -> Batch:
        """The same batch with its tensors on `device`."""
        moved = {}
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, Tensor):
                moved[item.name] = value.to(device, non_blocking=True)  # type: ignore[call-overload]
        return replace(self, **moved)
