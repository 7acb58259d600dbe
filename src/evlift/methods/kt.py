"""KT: knowledge transfer from still pictures to events, the baseline of TMKT, complete."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from evlift.checks import check_weight
from evlift.errors import ConfigError, DataError
from evlift.losses.alignment import cka_loss
from evlift.losses.task import tet_per_step
from evlift.methods.base import METHODS, Progress, StepOutput
from evlift.methods.baselines import LabelMethod
from evlift.methods.mixing import Mixer, RatioSchedule
from evlift.models.modes import evaluating

if TYPE_CHECKING:
    from evlift.datasets.base import Batch


class PairedMethod(LabelMethod):
    """Two streams through one student: a mixed clip to the image head, events to the event head.

    Args:
        student: `student(x, head=..., taps=True)` gives `.logits` [B, T, K], `.potential` [B, T, F] and
            `.spikes` [B, T, C, h, w]; `student.channels` and `student.input_size` tell its input.
        steps: number T of time steps.
        alpha: weight of the CKA alignment; 0 switches it off.
        tet: as in :class:`LabelMethod`.
        tet_lambda: as in :class:`LabelMethod`.
    """

    uses_images = True
    uses_events = True
    uses_event_labels = True
    pairing = "category"

    def __init__(
        self,
        student: nn.Module,
        *,
        steps: int,
        alpha: float = 0.5,
        tet: bool = True,
        tet_lambda: float = 1e-3,
    ) -> None:
        super().__init__(student, tet=tet, tet_lambda=tet_lambda)
        if steps < 1:
            raise ConfigError(f"Expected `steps` to be at least 1, but got {steps}.")
        self.steps = steps
        self.alpha = check_weight("alpha", alpha)
        if alpha:
            self.need_taps("alpha > 0")

    def need_taps(self, reason: str) -> tuple[Tensor, Tensor]:
        """Potential [1, T, F] and spikes [1, T, C, h, w] of an empty clip; refuses a student without them."""
        size, channels = getattr(self.student, "input_size", None), getattr(self.student, "channels", None)
        output = None
        if size is not None and channels is not None:
            like = next(self.student.parameters())
            with torch.no_grad(), evaluating(self.student):
                output = self.student(like.new_zeros(1, self.steps, channels, *size), taps=True)
        taps = output is not None and output.potential is not None and output.spikes is not None
        if output is None or not taps or output.logits.shape[1] != self.steps:
            raise ConfigError(
                f"Expected a spiking student, because {reason} reads potentials and spikes, but "
                f"got {type(self.student).__name__}. Use a spiking model, or the method 'events-only' or "
                "'fine-tune'."
            )
        return output.potential, output.spikes

    def streams(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Image sequences and events [B, T, C, H, W] and the classes [B] that they share."""
        names = ("image", "events", "event_target", "image_target")
        image, events, target, source = self.require(batch, *names)
        if events.shape[1] != self.steps:
            raise DataError(
                f"Expected `events` to have T = {self.steps} steps, but got {list(events.shape)}. Give the "
                "data and the method the same number of steps."
            )
        if not torch.equal(target, source):
            raise DataError(
                "Expected the picture and the recording of a row to be of one class, but got rows of two. "
                "Pair the data by category."
            )
        return image, events, target

    def alignment(self, mixed: Any, events: Any) -> Tensor:
        """CKA alignment loss of the potentials of both streams, [T]; zeros where it is off."""
        if not self.alpha:
            return events.logits.new_zeros(self.steps)
        return cka_loss(mixed.potential, events.potential)


@METHODS.register("kt")
class KT(PairedMethod):
    """Knowledge transfer by CKA alignment, TET, spatio-temporal regularisation and sliding training.

    Example:
        >>> method = KT(student, steps=10)

    Loss, with s_t = sigmoid(c_t) and c_t learnt from 1:
    `L_cls(static) + mean_t (1-s_t)·L_cls_e[t] + alpha·mean_t s_t·L_DA[t]`. While labels cost more than
    alignment it drives s_t to 1, and the events' label weight decays: the log shows `event_weight`, the mean
    of 1-s_t.

    Args:
        student: as in :class:`PairedMethod`.
        steps: number T of time steps.
        alpha: weight of the alignment, 0.5 in the paper; 0 switches it off.
        regularised: weigh the steps by the learnt s_t; otherwise both sums have weight 1.
        sliding: replace each static clip by its partner's events with P = progress³; otherwise never.
        tet: every time step learns the label; otherwise the mean over time does.
        tet_lambda: share of TET's regulariser, in [0, 1].

    Raises:
        ConfigError: a student without taps, `regularised` without `tet` or alignment, a weight under 0.

    Source: He et al., AAAI 2024 (released code).
    """

    def __init__(
        self,
        student: nn.Module,
        *,
        steps: int,
        alpha: float = 0.5,
        regularised: bool = True,
        sliding: bool = True,
        tet: bool = True,
        tet_lambda: float = 1e-3,
    ) -> None:
        super().__init__(student, steps=steps, alpha=alpha, tet=tet, tet_lambda=tet_lambda)
        if regularised and not (tet and alpha):
            raise ConfigError(
                "Expected `regularised` with tet=True and alpha > 0, because it weighs the label loss "
                f"of every step against its alignment, but got tet={tet} and alpha={alpha}. "
                "Set regularised=False."
            )
        self.schedule = RatioSchedule("cubic", r_m=1.0) if sliding else RatioSchedule(r_m=0.0)
        self.mixer = Mixer("whole-clip")
        self.step_logit = nn.Parameter(torch.ones(steps)) if regularised else None  # c_t

    def step(self, batch: Batch, progress: Progress) -> StepOutput:
        """Loss of one batch of category pairs."""
        image, events, target = self.streams(batch)
        ratio = self.schedule(progress.fraction)
        mixed = self.mixer(image, events, ratio)
        static = self.student(mixed.clip, head="image", taps=True)
        dynamic = self.student(events, head="event", taps=True)
        static_loss = self.label_loss(static.logits, target)
        alignment = self.alignment(static, dynamic)  # [T]
        parts = {"label_static": static_loss, "alignment": alignment.mean(), "ratio": mixed.ratio.mean()}
        if self.step_logit is None:
            event_loss = self.label_loss(dynamic.logits, target)
            loss = static_loss + event_loss + self.alpha * alignment.mean()
        else:
            share = self.step_logit.sigmoid()  # s_t, [T]
            per_step = tet_per_step(dynamic.logits, target, lam=self.tet_lambda)
            event_loss = per_step.mean()
            loss = static_loss + ((1 - share) * per_step).mean() + self.alpha * (share * alignment).mean()
            parts["event_weight"] = (1 - share).mean()
        parts["label_events"] = event_loss
        return StepOutput(loss, parts, {"logits": dynamic.logits, "target": target, "mixed": mixed.clip})
