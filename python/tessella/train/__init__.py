"""Training of embedding models: `Trainer`, `losses`, mined negatives, merged weights. Needs the extra `train`.

docs/howto/train.md walks through a run; docs/concepts/losses.md has the formulas.
"""

from tessella.train import losses, merge
from tessella.train.columns import Columns
from tessella.train.config import Config
from tessella.train.lora import add_lora, merge_lora
from tessella.train.mining import MarginPos, Mined, PercPos, consistent, mine_hard_negatives
from tessella.train.refresh import RefreshNegatives
from tessella.train.trainer import Trainer

__all__ = [
    "Columns",
    "Config",
    "MarginPos",
    "Mined",
    "PercPos",
    "RefreshNegatives",
    "Trainer",
    "add_lora",
    "consistent",
    "losses",
    "merge",
    "merge_lora",
    "mine_hard_negatives",
]
