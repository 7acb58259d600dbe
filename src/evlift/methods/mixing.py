"""Time-step mixup and its rivals: which part of an image sequence becomes events.

A law draws, for every clip and frame, the weight of the event side; its mean over a clip is the ratio ρ, and
every law but "none" has E[ρ] = r_m. Schedules move r_m over the training.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from evlift.checks import check_choice
from evlift.errors import ConfigError, DataError

Law = Literal["defective", "renormalised"]
Mixing = Literal["timestep", "whole-clip", "independent", "blend", "spatio-temporal", "none"]
Schedule = Literal["constant", "linear", "cubic"]


def expected_ratio(p: float, steps: int, law: Law = "defective") -> float:
    """E[ρ], the expected share of event frames where every step switches with probability `p`.

    Example:
        >>> round(expected_ratio(0.1312, 10), 3)
        0.5

    `defective`: `1 - q(1-q^T)/(pT)` with q = 1-p; a clip never switches with probability q^T.
    `renormalised`: every clip switches, P(t) = p q^(t-1)/(1-q^T), hence
    `(T+1)/T - 1/(pT) + q^T/(1-q^T)`; at p = 0 all T switch times are equally likely and E[ρ] = (T+1)/(2T).
    Both are evaluated as sums over t, which do not cancel at small p.

    Source: the switch is TMKT's (published summary); the formulas are derived here and checked by simulation.
    """
    _check_steps(steps)
    if not 0 <= p <= 1:
        raise ConfigError(f"Expected `p` to be a probability in [0, 1], but got {p}.")
    if law == "renormalised":
        weights = [(1 - p) ** t for t in range(steps)]
        return sum(w * (steps - t) for t, w in enumerate(weights)) / (steps * sum(weights))
    if p == 1:
        return 1.0
    return sum(-math.expm1(t * math.log1p(-p)) for t in range(1, steps + 1)) / steps


@functools.lru_cache(maxsize=4096)
def solve_p(r_m: float, steps: int, law: Law = "defective") -> float:
    """The per-step switch probability whose expected ratio is `r_m`, by bisection.

    Example:
        >>> round(solve_p(0.5, 10), 4)
        0.1312

    Raises:
        ConfigError: `r_m` outside [0, 1], or under (T+1)/(2T) with `law="renormalised"`.

    Source: TMKT (published summary) solves p from r_m; the equation is :func:`expected_ratio`.
    """
    check_ratio(r_m, steps, law)
    if r_m == 1:
        return 1.0
    low, high = 0.0, 1.0
    for _ in range(60):  # the interval ends at 2^-60, under the resolution of a float near 1
        middle = (low + high) / 2
        low, high = (middle, high) if expected_ratio(middle, steps, law) < r_m else (low, middle)
    return low


def check_ratio(r_m: float, steps: int, law: Law = "defective", *, name: str = "r_m") -> None:
    """Raise :class:`~evlift.errors.ConfigError` unless `r_m` can be reached in `steps` steps of `law`."""
    _check_steps(steps)
    if not 0 <= r_m <= 1:
        raise ConfigError(f"Expected `{name}` to be in [0, 1], but got {r_m}.")
    least = (steps + 1) / (2 * steps)
    if law == "renormalised" and r_m < least:
        raise ConfigError(
            f"Expected `{name}` to be at least (T+1)/(2T) = {least:.4g} with law='renormalised' and "
            f"T = {steps}, but got {r_m}. Every clip switches under this law: raise {name}, "
            "or use law='defective'."
        )


def _check_steps(steps: int) -> None:
    if steps < 1:
        raise ConfigError(f"Expected `steps` to be at least 1, but got {steps}.")


@dataclass(frozen=True)
class RatioSchedule:
    """The mix ratio over the training: `start + (r_m - start)·f^k` at progress f in [0, 1].

    Example:
        >>> RatioSchedule("cubic", r_m=1.0)(0.5)  # KT's sliding training
        0.125

    Args:
        kind: `constant` (always r_m), `linear` (k = 1) or `cubic` (k = 3).
        r_m: the ratio at the end, in [0, 1].
        start: the ratio at the beginning, in [0, 1]; 0 if not given; not for `constant`.

    Source: the cube is KT's (released code); the rest is decided here.
    """

    kind: Schedule = "constant"
    r_m: float = 0.5
    start: float | None = None

    def __post_init__(self) -> None:
        check_choice("schedule", self.kind, Schedule)
        check_ratio(self.r_m, 1)
        if self.start is not None and self.kind == "constant":
            raise ConfigError(
                f"Expected no `start` with schedule='constant', but got {self.start}. Use schedule='linear' "
                "or 'cubic', which run from `start` to `r_m`."
            )
        if self.start is not None and not 0 <= self.start <= 1:
            raise ConfigError(f"Expected `start` to be in [0, 1], but got {self.start}.")

    def __call__(self, fraction: float) -> float:
        """The ratio at training progress `fraction`."""
        power = {"constant": 0, "linear": 1, "cubic": 3}[self.kind]
        start = self.start or 0.0
        value = start + (self.r_m - start) * fraction**power
        return min(max(value, min(start, self.r_m)), max(start, self.r_m))  # rounding stays within the ends


@dataclass(frozen=True)
class Mixed:
    """A mixed batch.

    Args:
        clip: [B, T, C, H, W].
        modality: [B, T] float, share of each frame that is events: 0 image, 1 events (the d_t of the papers).
        ratio: [B] float, mean of `modality` over T (the papers' ρ).
    """

    clip: Tensor
    modality: Tensor
    ratio: Tensor


@dataclass(frozen=True)
class Mixer:
    """Mixes image sequences with event sequences by a law of the share of events.

    Example:
        >>> mixed = Mixer("timestep")(image, events, ratio=0.5)
        >>> mixed.clip.shape == image.shape, mixed.modality.shape
        (True, torch.Size([8, 10]))

    Args:
        mixing: the law, each with E[ρ] = ratio:
            `timestep`: at most one switch from image to events a clip (TSM of TMKT);
            `whole-clip`: the clip is all image or all events (KT);
            `independent`: every frame is drawn by itself;
            `blend`: `(1-w)·image + w·events` with one `w = u^((1-r)/r)` a clip, u uniform;
            `spatio-temporal`: every square patch of the picture has its own switch time;
            `none`: always the image.
        law: of the switch times of `timestep` and `spatio-temporal`, see :func:`expected_ratio`.
        patch: side of the patches of `spatio-temporal`, in pixels; 7 if not given.

    Raises:
        ConfigError: an unknown name, or an option that the chosen mixing does not have.

    Source: TSM is TMKT's (published summary), `whole-clip` KT's (released code); TMKT names spatio-temporal
    mixup as future work; the laws beside these are decided here.
    """

    mixing: Mixing = "timestep"
    law: Law = "defective"
    patch: int | None = None

    def __post_init__(self) -> None:
        check_choice("mixing", self.mixing, Mixing)
        check_choice("law", self.law, Law)
        if self.law != "defective" and self.mixing not in ("timestep", "spatio-temporal"):
            raise ConfigError(
                f"Expected law='defective' with mixing='{self.mixing}', but got '{self.law}'. The law is "
                "about switch times: drop it, or use mixing='timestep' or 'spatio-temporal'."
            )
        if self.patch is not None and self.mixing != "spatio-temporal":
            raise ConfigError(
                f"Expected no `patch` with mixing='{self.mixing}', but got {self.patch}. Drop it, or use "
                "mixing='spatio-temporal'."
            )
        if self.patch is not None and self.patch < 1:
            raise ConfigError(f"Expected `patch` to be at least 1 pixel, but got {self.patch}.")

    def __call__(
        self, image: Tensor, events: Tensor, ratio: float, generator: torch.Generator | None = None
    ) -> Mixed:
        """Mix `image` and `events`, both [B, T, C, H, W], with E[ρ] = `ratio`.

        `generator` lives on the tensors' device; without it the global generator draws. `ratio` 0 gives the
        image and 1 the events, bit for bit (0 needs law="defective").
        """
        if image.shape != events.shape or image.ndim != 5:
            raise DataError(
                "Expected `image` and `events` to be [B, T, C, H, W] of equal shape, but got "
                f"{list(image.shape)} and {list(events.shape)}."
            )
        check_ratio(ratio, image.shape[1], self.law)
        weight = self._draw(image, ratio, generator)  # [B, T, 1, 1 | H, 1 | W]
        clip = (
            torch.lerp(image, events, weight)
            if self.mixing == "blend"
            else torch.where(weight > 0, events, image)
        )
        modality = weight.float().mean(dim=(2, 3, 4))  # → [B, T]
        return Mixed(clip, modality, modality.mean(dim=1))

    def _draw(self, like: Tensor, ratio: float, generator: torch.Generator | None) -> Tensor:
        batch, steps, _, height, width = like.shape
        uniform = functools.partial(torch.rand, device=like.device, generator=generator)
        if self.mixing == "spatio-temporal":
            return self._draw_patches(batch, steps, (height, width), ratio, uniform)
        rows = _DRAWS[self.mixing](batch, steps, ratio, self.law, uniform)  # [B, T]
        return rows.to(like.dtype)[:, :, None, None, None]

    def _draw_patches(
        self, batch: int, steps: int, size: tuple[int, int], ratio: float, uniform: Callable[..., Tensor]
    ) -> Tensor:
        """Weights [B, T, 1, H, W]: one switch time a patch; the last row and column of patches may be cut."""
        side = self.patch or 7
        rows, columns = (math.ceil(length / side) for length in size)
        switched = _draw_timestep(batch * rows * columns, steps, ratio, self.law, uniform)  # [B·h·w, T]
        grid = switched.view(batch, rows, columns, steps).permute(0, 3, 1, 2)  # → [B, T, h, w]
        pixels = grid.repeat_interleave(side, dim=2).repeat_interleave(side, dim=3)
        return pixels[:, :, None, : size[0], : size[1]]  # → [B, T, 1, H, W]


def _draw_timestep(batch: int, steps: int, ratio: float, law: Law, uniform: Callable[..., Tensor]) -> Tensor:
    """[B, T], 1 from the switch on: the first step whose u_t < p, T+1 if there is none (defective)."""
    p = solve_p(ratio, steps, law)
    if law == "defective":
        return (uniform(batch, steps) < p).float().cummax(dim=1).values
    weights = torch.tensor([(1 - p) ** t for t in range(steps)], dtype=torch.float64)
    cumulative = (weights.cumsum(0) / weights.sum()).float()
    draw = uniform(batch, 1)  # inverse of the distribution function: P(switch ≤ t) = cumulative[t]
    return (draw < cumulative.to(draw.device)).float()


def _draw_whole_clip(batch: int, steps: int, ratio: float, _: Law, uniform: Callable[..., Tensor]) -> Tensor:
    return (uniform(batch, 1) < ratio).float().expand(batch, steps)


def _draw_independent(batch: int, steps: int, ratio: float, _: Law, uniform: Callable[..., Tensor]) -> Tensor:
    return (uniform(batch, steps) < ratio).float()


def _draw_blend(batch: int, steps: int, ratio: float, _: Law, uniform: Callable[..., Tensor]) -> Tensor:
    """u^((1-r)/r) is Beta(r/(1-r), 1): its mean is r, it is uniform at r = 1/2 and constant at 0 and 1."""
    power = (1 - ratio) / ratio if ratio > 0 else math.inf
    return (uniform(batch, 1) ** power).expand(batch, steps)


def _draw_none(batch: int, steps: int, ratio: float, _: Law, uniform: Callable[..., Tensor]) -> Tensor:
    return torch.zeros_like(uniform(batch, steps))


_DRAWS: dict[str, Callable[[int, int, float, Law, Callable[..., Tensor]], Tensor]] = {
    "timestep": _draw_timestep,
    "whole-clip": _draw_whole_clip,
    "independent": _draw_independent,
    "blend": _draw_blend,
    "none": _draw_none,
}
