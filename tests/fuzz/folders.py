"""Model folders with something wrong: files damaged, missing, of another model, or with code in them."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from .files import damaged, junk

CODE = """\
from pathlib import Path
Path(__file__).with_name("ran").write_text("")
Path({marker!r}).write_text("")
from transformers import LlamaConfig as Mine, LlamaForCausalLM as Model
Words = None
"""
"""A module of the model's own, as `auto_map` names them."""

KEYS = (
    "architectures",
    "model_type",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "vocab_size",
    "max_position_embeddings",
    "rope_parameters",
    "rope_theta",
    "hidden_act",
    "rms_norm_eps",
    "tie_word_embeddings",
    "pad_token_id",
    "bos_token_id",
    "eos_token_id",
    "dtype",
    "torch_dtype",
    "num_labels",
    "id2label",
    "label2id",
    "attention_bias",
    "use_cache",
    "quantization_config",
    "is_encoder_decoder",
    "pruned_heads",
    "auto_map",
    "transformers_weights",
    "attn_implementation",
    "_attn_implementation",
    "experts_implementation",
    "sliding_window",
    "layer_types",
    "text_config",
    "problem_type",
    "transformers_version",
    "_name_or_path",
    "base_model_tp_plan",
    "mlp_bias",
    "attention_dropout",
    "initializer_range",
    "pretraining_tp",
    "output_attentions",
    "return_dict",
    "gguf_file",
    "revision",
)
ODD = (
    None,
    True,
    False,
    0,
    1,
    -1,
    2,
    3,
    7,
    2**31,
    2**63,
    10**30,
    0.5,
    -1.5,
    float("nan"),
    float("inf"),
    "",
    "abc",
    "float32",
    "junk",
    "silu",
    "LlamaForCausalLM",
    "LlamaForSequenceClassification",
    "BertModel",
    "bert",
    "llama",
    "gpt2",
    "t5",
    "mamba",
    "no-such",
    "flash_attention_2",
    "kernels-community/flash-attn",
    "someone/their-kernel",
    "adapter_model.bin",
    "other.safetensors",
    "../x",
    [],
    [1],
    ["LlamaForCausalLM"],
    [None],
    {},
    {"a": 1},
    {"rope_type": "no-such"},
    {"rope_type": "linear", "factor": 0},
    {"": "x/y"},
    {"quant_method": "bitsandbytes", "load_in_4bit": True},
    {"quant_method": "gptq"},
    {"quant_method": 3},
    {"AutoConfig": "code.Mine"},
    {"AutoConfig": 3, "AutoModelForCausalLM": []},
)
TOKENIZER_KEYS = (
    "tokenizer_class",
    "auto_map",
    "pad_token",
    "eos_token",
    "unk_token",
    "bos_token",
    "chat_template",
    "model_max_length",
    "added_tokens_decoder",
    "additional_special_tokens",
    "extra_special_tokens",
    "backend",
    "clean_up_tokenization_spaces",
    "padding_side",
    "tokenizer_file",
    "name_or_path",
    "is_local",
    "processor_class",
    "fix_mistral_regex",
    "add_prefix_space",
)
TOKENS = (
    None,
    "",
    "w40",
    "<eos>",
    "<pad>",
    "never seen",
    3,
    [],
    ["<a>", "<b>"],
    {},
    {"content": "<eos>"},
    {"a": {"content": 3}},
    {"7": {"content": "w7", "special": True}},
    {"x": 1},
    True,
    "LlamaTokenizer",
    "BertTokenizer",
    "PreTrainedTokenizerFast",
    "NoSuch",
    ["code.Words", None],
    {"AutoTokenizer": ["code.Words", None]},
    10**30,
    -1,
    0.5,
    "tokenizers",
    "sentencepiece",
    "../x",
    "left",
    "{{ 1 / 0 }}",
    "{{ messages[9].content }}",
    "{% for m in messages %}",
    "{{ x }",
    "{{ messages | tojson }}",
    "plain text",
    "{{ [] | first }}",
    "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "{{ namespace }}",
    "{{ ''.join(3) }}",
    "{{ 'a'.encode('no-such') }}",
    "{{ (1).__class__ }}",
    "{{ {}['a'] }}",
    "{{ raise_exception('no') }}",
    "{{ 10 ** 10 ** 2 // 0 }}",
    "{% include 'x' %}",
    "{% import 'x' as y %}",
    "{{ messages.foo() }}",
    "{{ 'x' + 3 }}",
    "{{ lipsum() }}",
    "{% generation %}",
    "{{ strftime_now('%') }}",
    "{{ strftime_now(3) }}",
    "{{ 'abc'.__getitem__(9) }}",
    "{{ '%d' % 'x' }}",
    "{{ '{9}'.format(1) }}",
    [{"name": "default", "template": "{{ 1 }}"}],
    [{"name": "a", "template": "{{ 1 }}"}],
    [1],
    {"default": 3},
    {"tool": "x"},
)
WORDS = ("tokenizer.json", "tokenizer_config.json")
NAMES = ("config.json", "generation_config.json", "model.safetensors", *WORDS)


class Payload:
    """Unpickling it makes a file."""

    def __init__(self, marker: Path) -> None:
        self._marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self._marker,)


def plant(folder: Path, name: str, marker: Path) -> None:
    """A pickle under this name, which leaves the marker when it is loaded."""
    (folder / name).write_bytes(pickle.dumps({"model.norm.weight": Payload(marker)}))


def plant_code(folder: Path, marker: Path) -> None:
    """A Python file that leaves the marker when it is imported, and the keys that ask for that."""
    (folder / "code.py").write_text(CODE.format(marker=str(marker)))
    asks = {
        "AutoConfig": "code.Mine",
        "AutoModelForCausalLM": "code.Model",
        "AutoTokenizer": ["code.Words", "code.Words"],
    }
    for name in ("config.json", "tokenizer_config.json"):
        told = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps(told | {"auto_map": asks}))


@st.composite
def spoilt(draw: st.DrawFn, folder: Path, marker: Path) -> str:
    """Spoils the folder, and says how."""
    kind = draw(
        st.sampled_from(
            ("bytes", "remove", "config", "config", "config", "words", "words", "tokenizer", "pickle", "index", "empty")
        )
    )
    match kind:
        case "bytes":
            name = draw(st.sampled_from([name for name in NAMES if (folder / name).is_file()]))
            (folder / name).write_bytes(draw(damaged((folder / name).read_bytes())))
            return f"damaged {name}"
        case "remove":
            name = draw(st.sampled_from(NAMES))
            (folder / name).unlink(missing_ok=True)
            return f"no {name}"
        case "empty":
            name = draw(st.sampled_from(NAMES))
            (folder / name).write_bytes(draw(st.sampled_from((b"", b"{}", b"[]", b"null", b"\x00" * 64, b"[" * 5000))))
            return f"emptied {name}"
        case "config":
            name = draw(st.sampled_from(("config.json", "config.json", "generation_config.json")))
            key, value = draw(st.sampled_from(KEYS)), draw(st.sampled_from(ODD) | junk)
            return _set(folder / name, key, value)
        case "words":
            key, value = draw(st.sampled_from(TOKENIZER_KEYS)), draw(st.sampled_from(TOKENS) | junk)
            return _set(folder / "tokenizer_config.json", key, value)
        case "tokenizer":
            key = draw(
                st.sampled_from(
                    ("model", "pre_tokenizer", "decoder", "added_tokens", "normalizer", "version", "post_processor")
                )
            )
            return _set(folder / "tokenizer.json", key, draw(st.sampled_from(TOKENS) | junk))
        case "pickle":
            name = draw(
                st.sampled_from(
                    (
                        "pytorch_model.bin",
                        "adapter_model.bin",
                        "model.pt",
                        "model.safetensors",
                        "tokenizer.json",
                        "tokenizer.model",
                    )
                )
            )
            plant(folder, name, marker)
            if draw(st.booleans()):
                (folder / "model.safetensors").unlink(missing_ok=True)
            if draw(st.booleans()):
                (folder / "adapter_config.json").write_text(
                    '{"peft_type": "LORA", "base_model_name_or_path": ".", "r": 1}'
                )
            return f"pickle {name}"
        case "index":
            if (folder / "model.safetensors").is_file():
                (folder / "model.safetensors").rename(folder / "part.safetensors")
            shard = draw(st.sampled_from(("part.safetensors", "part.bin", "../part.bin", "nowhere.safetensors")) | junk)
            plant(folder, "part.bin", marker)
            index = draw(
                st.sampled_from(
                    ({"metadata": {}, "weight_map": {"model.norm.weight": shard}}, {"weight_map": shard}, shard)
                )
            )
            (folder / "model.safetensors.index.json").write_text(json.dumps(index))
            return f"index {index!r:.80}"
    raise AssertionError(kind)


def _set(path: Path, key: str, value: Any) -> str:
    if not path.is_file():
        return "nothing"
    try:
        told = json.loads(path.read_text())
    except (ValueError, RecursionError):
        return "nothing"
    if not isinstance(told, dict):
        return "nothing"
    path.write_text(json.dumps(told | {key: value}))
    return f"{path.name}: {key} = {value!r:.80}"
