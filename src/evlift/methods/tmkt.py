"""TMKT: time-step mixup knowledge transfer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import torch.nn.functional as F
from torch import Tensor, nn

from evlift.checks import check_choice, check_weight
from evlift.errors import ConfigError
from evlift.losses.alignment import reverse_gradient
from evlift.methods.base import METHODS, Progress, StepOutput
from evlift.methods.kt import PairedMethod
from evlift.methods.mixing import (
    Law,
    Mixed,
    Mixer,
    Mixing,
    RatioSchedule,
    Schedule,
    check_ratio,
)

if TYPE_CHECKING:
    from evlift.datasets.base import Batch

Mag = Literal["normal", "reversed", "off"]
Mrp = Literal["mse", "switch-point", "off"]
Tap = Literal["spikes", "potential"]


@METHODS.register("tmkt")
class TMKT(PairedMethod):
    """Mixes pictures into events along time (TSM) and guides the student by modality (MAG) and ratio (MRP).

    Example:
        >>> method = TMKT(student, steps=10, r_m=0.3)

    Loss: `L_cls(mixed) + L_cls(events) + alpha·L_DA + beta·L_MAG + gamma·L_MRP`. The classes are not mixed,
    since both partners share them; d_t and ρ are the mixed labels. MAG and MRP read the spikes and CKA the
    potentials by default: CKA pulls the modalities together, they make them decodable.

    Args:
        student: as in :class:`PairedMethod`. Inference needs its event head alone.
        steps: number T of time steps.
        r_m: expected share of event frames, at the end of the training where it has a schedule.
        schedule: of r_m over the training, see :class:`~evlift.methods.mixing.RatioSchedule`.
        start: where a `linear` or `cubic` schedule begins; 0 if not given.
        mixing: law of the mixture, see :class:`~evlift.methods.mixing.Mixer`.
        law: of the switch times, `defective` or `renormalised`.
        patch: side in pixels of the patches of mixing="spatio-temporal".
        alpha: weight of the CKA alignment; 0 switches it off.
        beta: weight of MAG; 0.1 if MAG is on and none is given.
        gamma: weight of MRP; 0.1 if MRP is on and none is given.
        mag: per frame, tell image from events (`normal`); `reversed` makes the features unlearn it.
        mag_tap: what MAG and MRP read, averaged over the picture.
        mrp: per clip, the share of events: `mse` of a sigmoid, or cross-entropy over the T+1 `switch-point`s.
        tet: every time step learns the label; otherwise the mean over time does.
        tet_lambda: share of TET's regulariser, in [0, 1].

    Raises:
        ConfigError: a student without taps, or options that contradict each other.

    Source: Xie et al., arXiv 2509.12959 and 2511.12150. TSM, MAG, MRP and CKA by the published summary; the
    heads of MAG and MRP and the total are inferred; start values, schedules and other laws are decided here.
    """

    def __init__(
        self,
        student: nn.Module,
        *,
        steps: int,
        r_m: float = 0.5,
        schedule: Schedule = "constant",
        start: float | None = None,
        mixing: Mixing = "timestep",
        law: Law = "defective",
        patch: int | None = None,
        alpha: float = 0.5,
        beta: float | None = None,
        gamma: float | None = None,
        mag: Mag = "normal",
        mag_tap: Tap = "spikes",
        mrp: Mrp = "mse",
        tet: bool = True,
        tet_lambda: float = 1e-3,
    ) -> None:
        super().__init__(student, steps=steps, alpha=alpha, tet=tet, tet_lambda=tet_lambda)
        self.schedule = RatioSchedule(schedule, r_m, start)
        self.mixer = Mixer(mixing, law, patch)
        check_ratio(r_m, steps, law)
        check_ratio(self.schedule(0.0), steps, law, name="start")
        check_choice("mag", mag, Mag)
        check_choice("mrp", mrp, Mrp)
        check_choice("mag_tap", mag_tap, Tap)
        _refuse_unlearnable(mixing, schedule, mag, mrp)
        self.beta = _head_weight("beta", beta, "mag", mag)
        self.gamma = _head_weight("gamma", gamma, "mrp", mrp)
        self.mag, self.mrp, self.mag_tap = mag, mrp, mag_tap
        width = self.tapped(*self.need_taps("MAG or MRP")).shape[2] if self.beta or self.gamma else 0
        answers = steps + 1 if mrp == "switch-point" else 1
        self.mag_head = nn.Linear(width, 1) if self.beta else None
        self.mrp_head = nn.Linear(width, answers) if self.gamma else None

    def step(self, batch: Batch, progress: Progress) -> StepOutput:
        """Loss of one batch of category pairs."""
        image, events, target = self.streams(batch)
        ratio = self.schedule(progress.fraction)
        mixed = self.mixer(image, events, ratio)
        mixed_out = self.student(mixed.clip, head="image", taps=True)
        event_out = self.student(events, head="event", taps=True)
        parts = {
            "label_mixed": self.label_loss(mixed_out.logits, target),
            "label_events": self.label_loss(event_out.logits, target),
            "alignment": self.alignment(mixed_out, event_out).mean(),
        }
        loss = parts["label_mixed"] + parts["label_events"] + self.alpha * parts["alignment"]
        if self.mag_head is not None or self.mrp_head is not None:
            guidance = self.guidance(mixed_out, mixed)
            loss = loss + self.beta * guidance.get("mag", 0.0) + self.gamma * guidance.get("mrp", 0.0)
            parts |= guidance
        parts |= {"r_m": loss.new_tensor(ratio), "ratio": mixed.ratio.mean()}
        return StepOutput(loss, parts, {"logits": event_out.logits, "target": target, "mixed": mixed.clip})

    def guidance(self, output: Any, mixed: Mixed) -> dict[str, Tensor]:
        """Losses of MAG and MRP on the mixed stream, and how often MAG is right."""
        feature = self.tapped(output.potential, output.spikes)  # [B, T, C]
        parts = {}
        if self.mag_head is not None:
            source = reverse_gradient(feature) if self.mag == "reversed" else feature
            logit = self.mag_head(source).squeeze(-1).float()  # [B, T, C] → [B, T]
            parts["mag"] = F.binary_cross_entropy_with_logits(logit, mixed.modality)
            parts["mag_accuracy"] = ((logit > 0) == (mixed.modality > 0.5)).float().mean()
        if self.mrp_head is not None:
            answer = self.mrp_head(feature.mean(dim=1)).float()  # [B, T, C] → [B, C] → [B, 1 | T+1]
            parts["mrp"] = self.ratio_loss(answer, mixed)
        return parts

    def ratio_loss(self, answer: Tensor, mixed: Mixed) -> Tensor:
        """MRP's loss of `answer` [B, 1] against ρ, or [B, T+1] against the number of image frames."""
        if self.mrp == "mse":
            return F.mse_loss(answer.squeeze(1).sigmoid(), mixed.ratio)
        image_frames = (1 - mixed.modality).sum(dim=1).round().long()  # [B, T] → [B], 0 to T
        return F.cross_entropy(answer, image_frames)

    def tapped(self, potential: Tensor, spikes: Tensor) -> Tensor:
        """The tapped feature, averaged over the picture, [B, T, C]; flat potentials (SCNN, ResNet) as is."""
        if self.mag_tap == "spikes":
            return spikes.mean(dim=(3, 4))  # [B, T, C, h, w] → [B, T, C]
        if potential[0, 0].numel() != spikes[0, 0].numel():
            return potential
        return potential.view(spikes.shape).mean(dim=(3, 4))  # [B, T, C·h·w] → [B, T, C]


def _refuse_unlearnable(mixing: Mixing, schedule: Schedule, mag: Mag, mrp: Mrp) -> None:
    if mixing == "none" and (mag != "off" or mrp != "off"):
        raise ConfigError(
            f"Expected mag='off' and mrp='off' with mixing='none', but got '{mag}' and '{mrp}'. Without "
            "mixing every frame is an image: there is nothing to tell apart."
        )
    if mixing == "none" and schedule != "constant":
        raise ConfigError(
            f"Expected schedule='constant' with mixing='none', but got '{schedule}'. Nothing is mixed: drop it."
        )
    if mrp == "switch-point" and mixing not in ("timestep", "whole-clip"):
        raise ConfigError(
            f"Expected mixing='timestep' or 'whole-clip' with mrp='switch-point', but got '{mixing}'. Only "
            "clips that switch once have a switch point: use mrp='mse'."
        )


def _head_weight(name: str, weight: float | None, switch: str, mode: str) -> float:
    """The weight of MAG or MRP, 0 where it is off; contradictions are refused."""
    if mode == "off":
        if weight:
            raise ConfigError(
                f"Expected `{name}` to be 0 with {switch}='off', but got {weight}. "
                f"Drop it, or switch {switch} on."
            )
        return 0.0
    if weight == 0 and mode == "reversed":
        raise ConfigError(
            f"Expected `{name}` above 0 with {switch}='{mode}', but got 0. Raise it, or use {switch}='off'."
        )
    return check_weight(name, 0.1 if weight is None else weight)
