"""Losses as pure functions of embeddings, by named columns. docs/concepts/losses.md has the formulas.

>>> import torch
>>> from tessella.train.losses import InfoNCE, Matryoshka, SpreadOut
>>> loss = Matryoshka(InfoNCE(hardness=9.0, focal=0.5, margin=0.1), dims=(8, 4)) + 0.1 * SpreadOut()
>>> query, positive = torch.randn(16, 8), torch.randn(16, 8)
>>> loss(query, positive).shape, sorted(name for name, needed in loss.columns().items() if needed)
(torch.Size([]), ['positive', 'query'])
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
