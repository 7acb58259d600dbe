"""EvDistill on toy pairs: one step, one update, and which networks a loss reaches."""

from __future__ import annotations

import torch
from torch import nn
from toy_pairs import CLASSES, SIZE, build, pairs, scenes, student

from evlift.datasets.base import Batch
from evlift.methods import Method, Progress, StepOutput

FIRST, LATER = Progress("joint", 0, 10), Progress("joint", 5, 10)
EVERYTHING = {"mutual": 1.0, "averaged": 1.0, "averaged_threshold": 0.0}
# The specification's table, one loss a row. T learns from none of them.
TRAINS = {
    "adversarial": {"G_I", "G_E"},
    "cycle": {"G_I", "G_E"},
    "critics": {"D_I", "D_E"},
    "task": {"S", "G_E"},
    "kd": {"S", "G_I", "G_E"},
    "ag": {"S", "G_I", "G_E"},
    "dsc": {"G_I", "G_E"},
    "meaning": {"G_I", "G_E"},
    "da": {"S"},
    "output_critic": {"D_o"},
    "mutual": {"S", "S_a"},
    "averaged": {"S"},
}


def evdistill(net: str = "convnet", **options) -> Method:
    """The same first weights at every call."""
    torch.manual_seed(3)
    teacher = {"teacher": "unet"} if net.endswith("unet") else {}
    return build("evdistill", student(net, width=0.25, image_head=False), **teacher | options)


def step(method: Method, progress: Progress = LATER, batch: Batch | None = None) -> StepOutput:
    torch.manual_seed(4)
    method.train()
    segments = method.student.task == "segmentation"
    return method.step(batch or (scenes() if segments else pairs()), progress)


def members(method: Method) -> dict[str, nn.Module]:
    """The networks by the names of the specification."""
    bmr = method.reconstruction
    found = {
        "T": method.teacher,
        "S": method.student,
        "D_o": method.output_critic,
        "S_a": method.frame_student,
    }
    found |= {"average": method.average}
    if bmr is not None:
        found |= {
            "G_I": bmr.to_picture,
            "G_E": bmr.to_events,
            "D_I": bmr.picture_critic,
            "D_E": bmr.event_critic,
        }
    return {name: module for name, module in found.items() if module is not None}


def gradients(loss: torch.Tensor, module: nn.Module) -> torch.Tensor:
    wanted = [p for p in module.parameters() if p.requires_grad]
    if not wanted:
        return torch.zeros(1)
    found = torch.autograd.grad(loss, wanted, retain_graph=True, allow_unused=True)
    flat = [(torch.zeros_like(p) if g is None else g).flatten() for p, g in zip(wanted, found, strict=True)]
    assert torch.cat(flat).isfinite().all()
    return torch.cat(flat)


def reached(loss: torch.Tensor, method: Method) -> set[str]:
    return {name for name, module in members(method).items() if gradients(loss, module).any()}


def snapshot(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def update(method: Method, progress: Progress, batch: Batch | None = None, optimizer=None) -> float:
    """One optimiser step over all groups of the phase, as the engine does it."""
    groups = method.parameter_groups(progress.phase)
    optimizer = optimizer or torch.optim.AdamW([p for g in groups for p in g.parameters], lr=1e-2)
    output = step(method, progress, batch)
    optimizer.zero_grad()
    output.loss.backward()
    optimizer.step()
    method.after_update(progress)
    return float(output.loss.detach())


class Linear(nn.Module):
    """Somebody's image network: pictures [B, 1, H, W] → logits [B, classes]."""

    def __init__(self, classes: int = CLASSES) -> None:
        super().__init__()
        self.layer = nn.Linear(SIZE * SIZE, classes)

    def forward(self, picture):
        return self.layer(picture.flatten(1))
