"""Pure loss functions; they know tensors alone."""

from evlift.losses.alignment import cka_loss, linear_cka, reverse_gradient
from evlift.losses.task import mean_logit_loss, tet_loss, tet_per_step

__all__ = ["cka_loss", "linear_cka", "mean_logit_loss", "reverse_gradient", "tet_loss", "tet_per_step"]
