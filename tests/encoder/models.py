"""Small models with random weights, one for each way that architectures treat positions and attention."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
WORDS = SPECIAL + [f"w{i}" for i in range(60)]
SIZES: dict[str, Any] = {
    "vocab_size": len(WORDS),
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
}
DECODER = {"num_key_value_heads": 2, "head_dim": 8, "bos_token_id": 2, "eos_token_id": 3}
MODERN = {"bos_token_id": 2, "eos_token_id": 3, "cls_token_id": 2, "sep_token_id": 3}
ARCHITECTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("BertConfig", {}),
    "roberta": ("XLMRobertaConfig", {}),
    "electra": ("ElectraConfig", {"embedding_size": 16}),
    "modernbert": ("ModernBertConfig", MODERN | {"local_attention": 48, "global_attn_every_n_layers": 2}),
    "qwen3": ("Qwen3Config", DECODER),
    "llama": ("LlamaConfig", {"num_key_value_heads": 4}),
    "distilbert": (
        "DistilBertConfig",
        {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 48},
    ),
    "mpnet": ("MPNetConfig", {}),
}
PADDED = {"mpnet"}  # which has an attention of its own


def tokenizer() -> Tokenizer:
    made = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return made


def write_transformer(folder: Path, architecture: str = "bert", **more: Any) -> Path:
    """A plain Hugging Face folder."""
    torch.manual_seed(5)
    name, special = ARCHITECTURES[architecture]
    sizes = SIZES if architecture != "distilbert" else {k: v for k, v in SIZES.items() if "hidden_size" not in k}
    config = getattr(transformers, name)(**(sizes | special | more))
    model = transformers.AutoModel.from_config(config)
    for parameter in model.parameters():
        if parameter.dim() == 2:  # large enough for every part of the model to show in its states
            torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(folder)
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer(), pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    ).save_pretrained(folder)
    return folder


def write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
