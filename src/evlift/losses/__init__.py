"""Pure loss functions; they know tensors alone."""

from evlift.losses.adversarial import (
    gradient_penalty,
    lsgan_critic_loss,
    lsgan_generator_loss,
    wgan_critic_loss,
    wgan_generator_loss,
)
from evlift.losses.alignment import cka_loss, linear_cka, reverse_gradient, scale_gradient
from evlift.losses.distill import (
    activity_mask,
    affinity_loss,
    class_distribution_loss,
    class_histogram,
    confidence_weight,
    consistency_loss,
    entropy,
    kd_loss,
    mutual_loss,
)
from evlift.losses.task import mean_logit_loss, ohem_loss, tet_loss, tet_per_step

__all__ = [
    "activity_mask",
    "affinity_loss",
    "cka_loss",
    "class_distribution_loss",
    "class_histogram",
    "confidence_weight",
    "consistency_loss",
    "entropy",
    "gradient_penalty",
    "kd_loss",
    "linear_cka",
    "lsgan_critic_loss",
    "lsgan_generator_loss",
    "mean_logit_loss",
    "mutual_loss",
    "ohem_loss",
    "reverse_gradient",
    "scale_gradient",
    "tet_loss",
    "tet_per_step",
    "wgan_critic_loss",
    "wgan_generator_loss",
]
