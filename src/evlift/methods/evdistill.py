"""EvDistill: from an image teacher and unlabelled, unpaired events to an event network."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from copy import deepcopy
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from evlift.checks import check_weight
from evlift.errors import ConfigError
from evlift.losses.alignment import scale_gradient
from evlift.losses.distill import (
    activity_mask,
    affinity_loss,
    confidence_weight,
    consistency_loss,
    kd_loss,
    mutual_loss,
)
from evlift.losses.task import ohem_loss
from evlift.methods.answer_mixup import answer_mixup
from evlift.methods.base import METHODS, ParameterGroup, Phase, Progress, StepOutput
from evlift.methods.bmr import GAN_BETAS, GAN_LR, Crafted, Generation, Reconstruction, kept_meaning, watch
from evlift.methods.matching import Matching, matching_kind, matching_losses, output_critic
from evlift.methods.self_training import AveragedTeacher, check_whole, distil_own, targets_from
from evlift.methods.teacher import TEACH, Seen, TaughtMethod, feature_map, frozen
from evlift.models.modes import evaluating
from evlift.models.reconstruction import check_counts

if TYPE_CHECKING:
    from evlift.datasets.base import Batch

Nodes = Literal["locations", "samples"]


@METHODS.register("evdistill")
class EvDistill(TaughtMethod):
    """Crafted pairs in both directions, distilled by logits, affinity graphs and matched distributions.

    Example:
        >>> method = EvDistill(student, steps=1, picture_channels=3, teacher="unet")  # doctest: +SKIP

    Phases: the teacher on the labelled pictures; the generators alone; everything together. In the last one

    - P1, image-anchored: T sees the picture x, S its crafted events ê with the label: task, KD, affinity;
    - P2, event-anchored: S sees real events e, T their crafted picture x̂: KD, affinity;
    - P3, where recordings have aligned frames and `mutual` > 0: S and a copy of T that reads frames teach each other.

    Two traps are guarded. S and G_I together could make T(x̂) constant: the gradient of P2 into G_I is scaled by
    `kd_to_generator`, and the log shows `teacher_entropy`, the entropy of the classes T sees in x̂. Crafted events fill
    more pixels than real ones: the student should have statistics of its own for them (the model's `separate_bn`), and
    the log shows the occupancy of both.

    Args:
        student: a network of evlift; inference needs it alone.
        steps: number T of time steps.
        picture_channels: P, 1 for grey and 3 for colour.
        teacher: a name (``convnet``, ``unet``, ``timm:NAME``, ``smp:NAME``), the folder of a run, or a module.
        teacher_share: share of the optimiser steps that train the teacher, if it does not come trained.
        teacher_pretrained: start a named teacher from published weights.
        teacher_map: the student's class for each class of the teacher, 255 for none.
        reconstruction_share: share of the other steps that train the generators alone.
        generation: pictures become events ``learned``, by ``physics`` (the simulator), or ``mixed``.
        bmr: generators at all; without them P1 has simulated events and P2 does not exist.
        task: weight of the label loss on crafted events.
        ohem: in the place of TET, the mean logits of a segmentation learn only from locations whose true class has at
            most this probability, the hardest sixteenth of them at least; 0 counts all alike.
        kd: weight of the logit distillation on both pairs.
        temperature: of the distillation; default 4 for recognition, 1 for segmentation.
        ag: weight of the affinity graph.
        nodes: largest number of its nodes.
        affinity: nodes are ``locations`` of the feature map, or the ``samples`` of the batch.
        da: weight of distribution matching.
        matching: critic on ``scores`` (segmentation), class distributions (``classes``), critic on ``features``, or
            ``off``; default: scores for segmentation, classes for recognition.
        matching_start: share of the joint phase before it sets in.
        dsc: weight of dynamic semantic consistency, which trains the generators.
        adversarial: weight of the generators' GAN losses.
        cycle: weight of their cycle.
        kd_to_generator: factor on the gradient of P2 into G_I.
        confidence: P2 counts locations in proportion to the teacher's probability, none below this, and with `averaged`
            none where the averaged student says another class; 0 counts all alike. Of the logit distillation alone.
        active_only: P2 of a segmentation counts only pixels within 4 of an event.
        mutual: weight of mutual distillation with aligned frames.
        averaged: weight of the targets of an averaged student on real events (decided here); 0 switches it off.
        averaged_threshold: its answers below this probability do not count.
        averaged_start: share of the joint phase before it sets in.
        whole_targets: the averaged student answers for the whole recording, whatever window of it the student reads
            (decided here, classes only).
        mixup: weight of time-step mixup of crafted and real events, paired by the averaged student's answers.
        r_m: expected share of real frames in it.
        generator_width, generator_blocks: of both generators; the critic of scores is twice as wide.
        generator_lr: of the generators and their critics; the critic of scores or features has CycleGAN's 0.0002.
        tet: as in :class:`~evlift.methods.baselines.LabelMethod`.
        tet_lambda: as there.

    Raises:
        ConfigError: options that contradict each other.

    Source: Wang et al., CVPR 2021 (arXiv 2111.12341; published summary). Weights 10, 20, 0.1, 0.01 and 10: released
    configuration. DSC, critics and score maps: the public code that the configuration matches. Guards, phases,
    temperature, recognition's forms and what is marked so above: decided here.
    """

    uses_events = True

    def __init__(
        self,
        student: nn.Module,
        *,
        steps: int,
        picture_channels: int = 1,
        teacher: str | nn.Module = "convnet",
        teacher_share: float = 0.2,
        teacher_pretrained: bool = False,
        teacher_map: Sequence[int] | None = None,
        reconstruction_share: float = 0.25,
        generation: Generation = "learned",
        bmr: bool = True,
        task: float = 10.0,
        ohem: float = 0.0,
        kd: float = 20.0,
        temperature: float | None = None,
        ag: float = 0.1,
        nodes: int = 512,
        affinity: Nodes = "locations",
        da: float = 0.01,
        matching: Matching | None = None,
        matching_start: float = 0.125,
        dsc: float = 1.0,
        adversarial: float = 0.2,
        cycle: float = 10.0,
        kd_to_generator: float = 0.1,
        confidence: float = 0.0,
        active_only: bool = False,
        mutual: float = 0.0,
        averaged: float = 0.0,
        averaged_threshold: float = 0.8,
        averaged_start: float = 0.2,
        whole_targets: bool = False,
        mixup: float = 0.0,
        r_m: float = 0.3,
        generator_width: int = 16,
        generator_blocks: int = 2,
        generator_lr: float = 0.003,
        tet: bool = True,
        tet_lambda: float = 1e-3,
    ) -> None:
        super().__init__(
            student,
            picture_channels=picture_channels,
            teacher=teacher,
            teacher_share=teacher_share,
            teacher_pretrained=teacher_pretrained,
            teacher_map=teacher_map,
            tet=tet,
            tet_lambda=tet_lambda,
        )
        names = ("task", "kd", "ag", "da", "dsc", "mutual", "averaged")
        given = (task, kd, ag, da, dsc, mutual, averaged)
        self.weights = {name: check_weight(name, value) for name, value in zip(names, given, strict=True)}
        self.temperature = self.chosen_temperature(temperature)
        self.steps, self.nodes, self.affinity = steps, nodes, affinity
        self.kd_to_generator = check_weight("kd_to_generator", kd_to_generator)
        self.confidence, self.active_only, self.ohem = confidence, active_only, ohem
        kind = matching_kind(matching, self.segments)
        self.matching, self.matching_start = kind if da else "off", matching_start
        self.averaged_threshold, self.averaged_start = averaged_threshold, averaged_start
        self.mixup = answer_mixup(mixup, r_m, averaged_threshold)
        self.uses_whole = check_whole(whole_targets, student)
        self._check(bmr, generation, reconstruction_share)
        self._try()
        self.uses_images = self.simulates = generation != "learned"
        self.uses_frames = mutual > 0
        check_counts(generator_width=generator_width, generator_blocks=generator_blocks)
        self.reconstruction_share = reconstruction_share if bmr else 0.0
        self.reconstruction = (
            Reconstruction(
                self.student.channels * steps,
                picture_channels,
                tuple(self.student.input_size),
                generation=generation,
                adversarial=adversarial,
                cycle=cycle,
                width=generator_width,
                blocks=generator_blocks,
                lr=generator_lr,
            )
            if bmr
            else None
        )
        self.output_critic = output_critic(self.matching, self.student, 2 * generator_width)
        self.average = AveragedTeacher(student, 0.99) if averaged else None
        self.frame_student = deepcopy(self.teacher).requires_grad_() if mutual else None

    def _check(self, bmr: bool, generation: str, reconstruction_share: float) -> None:
        if not 0 <= reconstruction_share < 1:
            raise ConfigError(f"Expected `reconstruction_share` in [0, 1), but got {reconstruction_share}.")
        if not bmr and generation != "physics":
            raise ConfigError(
                f"Expected generation='physics' with bmr=False: nothing else crafts events, but got '{generation}'."
            )
        for name in ("confidence", "averaged_threshold", "averaged_start", "matching_start"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"Expected `{name}` in [0, 1), but got {getattr(self, name)}.")
        if self.uses_whole and not self.weights["averaged"]:
            raise ConfigError("Expected whole_targets=False with averaged=0: no averaged student answers.")
        if self.mixup is not None:
            self.mixup.check(self.steps, self.weights["averaged"], self.segments)
        if not 0 <= self.ohem <= 1 or (self.ohem and not self.segments):
            raise ConfigError(
                f"Expected `ohem` in [0, 1], for recognition 0, but got {self.ohem}. The released value is 0.7."
            )
        if self.active_only and not self.segments:
            raise ConfigError(
                "Expected active_only=False for recognition, which has no pixels to choose from."
            )

    def _try(self) -> None:
        """Show the student empty events: both networks must have what their losses compare."""
        with torch.no_grad(), evaluating(self.student):
            shape = (1, self.steps, self.student.channels, *self.student.input_size)
            answer = self.student(next(self.student.parameters()).new_zeros(shape), taps=True)
        if self.weights["ag"]:
            self._graphs(answer, self.look())
        if self.matching == "features":
            feature_map(answer)

    @property
    def phases(self) -> tuple[Phase, ...]:
        """Teacher (if it is not trained), generators alone (if there are any), everything."""
        alone = self.reconstruction_share
        rest = [Phase("reconstruction", alone, student=False)] if alone else []
        return self.with_teacher_phase(*rest, Phase("joint", 1 - alone))

    @property
    def networks(self) -> Iterable[nn.Module]:
        """All of them."""
        yield from super().networks
        yield from () if self.reconstruction is None else self.reconstruction.networks
        more = (self.output_critic, self.frame_student, self.average and self.average.network)
        yield from (network for network in more if network is not None)

    def parameter_groups(self, phase: str) -> Sequence[ParameterGroup]:
        """Who is trained in a phase; generators and critics have Adam with CycleGAN's betas."""
        if phase == TEACH:
            return super().parameter_groups(phase)
        crafted = [] if self.reconstruction is None else list(self.reconstruction.parameter_groups())
        if phase == "reconstruction":
            return crafted
        groups = [*super().parameter_groups(phase), *crafted]
        if self.output_critic is not None:
            critic = tuple(self.output_critic.parameters())
            groups.append(
                ParameterGroup("output_critic", critic, lr=GAN_LR, betas=GAN_BETAS, weight_decay=0.0)
            )
        if self.frame_student is not None:
            groups.append(ParameterGroup("frame_student", tuple(self.frame_student.parameters())))
        return groups

    def learn(self, batch: Batch, progress: Progress) -> StepOutput:
        """One step of the generators alone, or of everything."""
        picture, events = self.require(batch, "picture", "events")
        simulated = self.require(batch, "image")[0].flatten(1, 2) if self.uses_images else None
        flat = events.flatten(1, 2)  # [B, T, C, H, W] → [B, T·C, H, W]
        if self.reconstruction is None:
            parts = self._distil(batch, None, None, progress)
            return StepOutput(torch.stack(list(parts.values())).sum(), parts, {"events": events})
        crafted = self.reconstruction.craft(picture, flat, simulated)
        parts = self.reconstruction.losses(picture, flat, crafted)
        if self.weights["dsc"]:
            parts["meaning"] = self.weights["dsc"] * kept_meaning(self.teacher, picture, crafted)
        joint = progress.phase == "joint"
        with frozen(self.teacher), torch.set_grad_enabled(joint):
            view = self.teacher(crafted.picture)
        if joint:
            parts |= self._distil(batch, crafted, view, progress)
        loss = torch.stack(list(parts.values())).sum()
        shown = {"events": events, "picture": picture, "reconstruction": crafted.picture.detach()}
        shown |= {"crafted": crafted.events.detach().view_as(events), "seen": view.logits.detach().argmax(1)}
        return StepOutput(loss, parts | watch(view, crafted, flat), shown)

    def _distil(
        self, batch: Batch, crafted: Crafted | None, view: Seen | None, progress: Progress
    ) -> dict[str, Tensor]:
        """Weighted losses of the joint phase; `view` is T(x̂)."""
        picture, events = self.require(batch, "picture", "events")
        partner = self.require(batch, "image")[0] if crafted is None else crafted.events.view(events.shape)
        with torch.no_grad():
            seen = self.teacher(picture)
        on_crafted = self.student(partner, head="image", taps=True)
        on_real = self.student(events, head="event", taps=True)
        parts = self._anchored_by_images(batch, seen, on_crafted)
        taught = self.average is not None and progress.fraction >= self.averaged_start
        own = None
        if self.average is not None and (taught or self.confidence):
            own = self.average.logits(targets_from(self, batch))
        if crafted is not None and view is not None:
            parts |= self._anchored_by_events(view, on_real, parts, self._trust(events, view, own))
            if self.weights["dsc"]:
                parts["dsc"] = self._consistency(seen, view, crafted, on_real)
        parts |= self._match(seen, on_crafted, on_real, progress)
        if self.frame_student is not None:
            if progress.step == 0:
                self.frame_student.load_state_dict(self.teacher.state_dict())
            (frame,) = self.require(batch, "frame")
            seen = self.frame_student(frame)
            parts["mutual"] = self.weights["mutual"] * mutual_loss(on_real.logits.mean(1), seen.logits)
        if own is not None and taught:
            loss, _ = distil_own(own, self.student, events, self.averaged_threshold)
            parts["averaged"] = self.weights["averaged"] * loss
            if self.mixup is not None:
                parts["mixup"] = self.mixup.loss(self, partner, batch.image_target, events, own)
        return parts

    def _anchored_by_images(self, batch: Batch, seen: Seen, answer: Any) -> dict[str, Tensor]:
        """P1: S(ê) learns the label and T(x)."""
        (target,) = self.require(batch, "image_target")
        kd = kd_loss(answer.logits.mean(1), seen.logits, temperature=self.temperature)
        label = (
            ohem_loss(answer.logits, target, threshold=self.ohem)
            if self.ohem
            else self.label_loss(answer.logits, target)
        )
        parts = {"task": self.weights["task"] * label, "kd": self.weights["kd"] * kd}
        if self.weights["ag"]:
            parts["ag"] = self.weights["ag"] * self._graphs(answer, seen)
        return parts

    def _trust(self, events: Tensor, view: Seen, own: Tensor | None) -> Tensor | None:
        """How much each answer T(x̂) counts in P2, [B, ...]; None where all count alike."""
        weight = confidence_weight(view.logits, threshold=self.confidence) if self.confidence else None
        if self.active_only:
            active = activity_mask(events, radius=4)
            weight = active if weight is None else weight * active
        if self.confidence and weight is not None and own is not None:
            weight = weight * (view.logits.argmax(1) == own.argmax(1))
        return weight

    def _anchored_by_events(
        self, view: Seen, answer: Any, before: dict[str, Tensor], weight: Tensor | None
    ) -> dict[str, Tensor]:
        """P2: S(e) and T(x̂) meet; G_I feels it, scaled. Adds to the sums `before` of P1."""
        features = None if view.features is None else scale_gradient(view.features, self.kd_to_generator)
        seen = Seen(scale_gradient(view.logits, self.kd_to_generator), features)
        kd = kd_loss(answer.logits.mean(1), seen.logits, temperature=self.temperature, weight=weight)
        if weight is not None:
            kd = kd * weight.mean()  # a few confident answers must not weigh as much as a batch of them
        parts = {"kd": before["kd"] + self.weights["kd"] * kd}
        if self.weights["ag"]:
            parts["ag"] = before["ag"] + self.weights["ag"] * self._graphs(answer, seen)
        return parts

    def _graphs(self, answer: Any, seen: Seen) -> Tensor:
        """Affinity loss of the student's and the teacher's last feature maps."""
        if seen.features is None:
            raise ConfigError(
                "Expected a teacher with a feature map, which ag > 0 compares, but it has none. Set method.ag to 0."
            )
        return affinity_loss(feature_map(answer), seen.features, nodes=self.nodes, kind=self.affinity)

    def _consistency(self, seen: Seen, view: Seen, crafted: Crafted, answer: Any) -> Tensor:
        """DSC: translations keep their meaning for the networks of now; trains the generators alone."""
        said = seen.logits
        if crafted.learned is not None:
            # [B, T·C, H, W] → [B, T, C, H, W]
            sequence = crafted.learned.events.unflatten(1, (self.steps, -1))
            with frozen(self.student):
                said = self.student(sequence, head="image").logits.mean(1)
        real = answer.logits.mean(1).detach()
        return self.weights["dsc"] * consistency_loss(seen.logits, said, real, view.logits)

    def _match(self, seen: Seen, on_crafted: Any, on_real: Any, progress: Progress) -> dict[str, Tensor]:
        """DA: the distributions of both modalities' predictions."""
        if self.matching == "off" or progress.fraction < self.matching_start:
            return {}
        parts = matching_losses(self.matching, self.output_critic, seen.logits, on_crafted, on_real)
        return parts | {"da": self.weights["da"] * parts["da"]}

    def after_update(self, progress: Progress) -> None:
        """Move the averaged student."""
        if self.average is not None and progress.phase == "joint":
            self.average.update(self.student)
