"""The mathematics of crafting: tensors in, tensors out; no files, processes, printing or global state."""

from withhold.craft.alignment import Alignment, mean_direction, reverse_cross_entropy, with_margin
from withhold.craft.augment import Fixed, InColour, RandomResizedCrop, ShiftFlip, Unchanged
from withhold.craft.ball import Linf
from withhold.craft.faces import AlignedFaces, Square
from withhold.craft.folding import fold_batch_norm
from withhold.craft.gradient_norm import GradientNorm
from withhold.craft.loop import best_of, craft
from withhold.craft.objectives import (
    ClassTargeted,
    Ensemble,
    ErrorMaximising,
    ErrorMinimising,
    Margin,
    Objective,
    PerClass,
    no_margin,
)
from withhold.craft.penalties import Dissimilarity, Penalties, Penalty, SquaredL2, TotalVariation, Unpadded
from withhold.craft.steps import constant_steps, linear_steps, signed_adam, signed_gradient, stepwise_steps
from withhold.craft.training_batches import CraftedData

__all__ = [
    "AlignedFaces",
    "Alignment",
    "ClassTargeted",
    "CraftedData",
    "Dissimilarity",
    "Ensemble",
    "ErrorMaximising",
    "ErrorMinimising",
    "Fixed",
    "GradientNorm",
    "InColour",
    "Linf",
    "Margin",
    "Objective",
    "Penalties",
    "Penalty",
    "PerClass",
    "RandomResizedCrop",
    "ShiftFlip",
    "Square",
    "SquaredL2",
    "TotalVariation",
    "Unchanged",
    "Unpadded",
    "best_of",
    "constant_steps",
    "craft",
    "fold_batch_norm",
    "linear_steps",
    "mean_direction",
    "no_margin",
    "reverse_cross_entropy",
    "signed_adam",
    "signed_gradient",
    "stepwise_steps",
    "with_margin",
]
