"""Losses as pure functions of embeddings, by named columns. docs/concepts/losses.md has the formulas.

>>> import torch
>>> from tessella.train.losses import InfoNCE, Matryoshka, SpreadOut
>>> loss = Matryoshka(InfoNCE(hardness=9.0, focal=0.5, margin=0.1), dims=(8, 4)) + 0.1 * SpreadOut()
>>> x = torch.eye(8)
>>> float(loss(query=x, positive=x)) < 0.01
True
"""

from tessella.train.losses._loss import Loss, Sum
from tessella.train.losses.contrast import InfoNCE, SimCSE, Temperature
from tessella.train.losses.distill import LEAF, MarginMSE, ScoreDistillation, Stella
from tessella.train.losses.graded import CoSENT, RankNet, Triplet
from tessella.train.losses.negatives import CLP, MixedNegatives, SpreadOut
from tessella.train.losses.nested import Matryoshka, Matryoshka2D, Starbucks
from tessella.train.losses.quantized import QuantizationAware

__all__ = [
    "CLP",
    "LEAF",
    "CoSENT",
    "InfoNCE",
    "Loss",
    "MarginMSE",
    "Matryoshka",
    "Matryoshka2D",
    "MixedNegatives",
    "QuantizationAware",
    "RankNet",
    "ScoreDistillation",
    "SimCSE",
    "SpreadOut",
    "Starbucks",
    "Stella",
    "Sum",
    "Temperature",
    "Triplet",
]
