"""Models and tokenizers from a folder, or from the hub by name; whatever is wrong with them is said in one sentence."""

import re
from pathlib import Path

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, StrictDataclassError
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from keel.data.template import read_template
from keel.data.tokenizer import require_pad
from keel.errors import UserError

_HUB_NAME = re.compile(r"[\w-][\w.-]*/[\w.-]+")
_FILES = ("*.json", "*.safetensors", "*.model", "*.jinja", "*.txt")
_VOCABULARIES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model", "tekken.json")


def load_tokenizer(path: str | Path, template: str | None = None) -> PreTrainedTokenizerBase:
    """The tokenizer of a model, whose pad token is never its EOS.

    `template` is as in `keel.data.template.read_template`; where it is given, the tokenizer carries that chat template
    from then on, so the models that are saved with it do too. Raises UserError when there are no tokenizer files, or
    for a tokenizer that cannot be trained with.
    """
    folder = _folder(path)
    tokenizer = _tokenizer(folder)
    require_pad(tokenizer)
    if template is not None:
        tokenizer.chat_template = read_template(tokenizer, template)
    return tokenizer


def inspect_language_model(path: str | Path) -> Path:
    """The folder of a causal language model, found to be one by its configuration and files; no weights are read.

    Raises UserError as `load_language_model` does, as far as that can be known without the weights.
    """
    folder = _folder(path)
    config = _config(folder)
    built = _architecture(config)
    if (
        config.is_encoder_decoder
        or config.model_type not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
        or (config.architectures and built not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values())
    ):
        raise UserError(
            f"{path} holds a model of type {built}, which is no causal language model; name a decoder-only model with "
            "its output head, such as Llama, Qwen, Gemma or GPT-2."
        )
    _require_safetensors(folder)
    return folder


def load_language_model(path: str | Path, dtype: torch.dtype, device: torch.device) -> PreTrainedModel:
    """A causal language model with its weights in `dtype`. No code of the model's own is ever run.

    Raises UserError when it is not there, is no causal language model, has no safetensors weights or not all of them,
    or when the tokenizer beside it has tokens that the model has no embedding for.
    """
    return _load(AutoModelForCausalLM, inspect_language_model(path), dtype).to(device)


def inspect_reward_model(path: str | Path) -> Path:
    """The folder of a sequence classifier with one label, found to be one by its configuration and files.

    Raises UserError as `load_reward_model` does, as far as that can be known without the weights.
    """
    folder = _folder(path)
    config = _config(folder)
    built = _architecture(config)
    if not built.endswith("ForSequenceClassification") or config.num_labels != 1:
        labels = f" with {config.num_labels} labels" if built.endswith("ForSequenceClassification") else ""
        raise UserError(
            f"{path} holds a model of type {built}{labels}, which is no reward model; name a sequence classifier with "
            "one label, such as `keel reward` writes."
        )
    _require_safetensors(folder)
    return folder


def load_reward_model(path: str | Path, dtype: torch.dtype, device: torch.device) -> PreTrainedModel:
    """A sequence classifier with one label: a decoder stack and its `score`, with its weights in `dtype`.

    Raises UserError as `load_language_model` does, and for a model with another number of labels or without a score.
    """
    model = _load(AutoModelForSequenceClassification, inspect_reward_model(path), dtype)
    if getattr(model, "score", None) is None:
        raise UserError(
            f"{path}: {type(model).__name__} has no score layer on a decoder, so keel cannot read it; name a reward "
            "model that was made from a causal language model."
        )
    return model.to(device)


def context_length(path: str | Path) -> int | None:
    """How many tokens the model in a folder can read, from its config; None where it names no limit."""
    return context_of(configuration(path))


def configuration(path: str | Path) -> PreTrainedConfig:
    """The configuration of a model in a folder or on the hub. Raises UserError where there is none to be read."""
    return _config(_folder(path))


def context_of(config: PreTrainedConfig) -> int | None:
    """How many tokens a model of this config can read; None where it names no limit."""
    length: int | None = getattr(config.get_text_config(), "max_position_embeddings", None)
    return length


def _folder(path: str | Path) -> Path:
    """The folder itself, or that of the hub's copy."""
    folder = Path(path).expanduser()
    if folder.is_dir():
        return folder
    if folder.exists():
        raise UserError(f"{path} is a file; name the folder of a model.")
    if not _HUB_NAME.fullmatch(str(path)):
        raise UserError(f"there is no folder {path}; name the folder of a model, or its name on the hub (owner/name).")
    try:
        return Path(snapshot_download(str(path), allow_patterns=list(_FILES)))
    except (HfHubHTTPError, LocalEntryNotFoundError, HFValidationError, OSError) as error:
        raise UserError(
            f"there is no folder {path}, and the hub has none to give ({_first_line(error)}); correct the path."
        ) from error


def _config(folder: Path) -> PreTrainedConfig:
    if not (folder / "config.json").is_file():
        adapter = (folder / "adapter_config.json").is_file()
        remedy = "merge the adapter into its base and save that" if adapter else "name the folder of a model"
        raise UserError(f"{folder} holds no model (config.json is missing); {remedy}.")
    try:
        return AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError, StrictDataclassError) as error:
        raise UserError(
            f"{folder / 'config.json'} is not a configuration that transformers can read without running the model's "
            f"own code ({_first_line(error)}); correct it or use another model."
        ) from error


def _architecture(config: PreTrainedConfig) -> str:
    return str(config.architectures[0] if config.architectures else config.model_type)


def _require_safetensors(folder: Path) -> None:
    if not any(folder.glob("*.safetensors")):
        pickled = sorted(folder.glob("*.bin")) + sorted(folder.glob("*.pt")) + sorted(folder.glob("*.pth"))
        reason = f"{pickled[0].name} is a pickle, which can run code" if pickled else "there is no *.safetensors file"
        raise UserError(f"{folder} has no safetensors weights ({reason}); save the model anew with save_pretrained.")


def _load(
    auto: type[AutoModelForCausalLM | AutoModelForSequenceClassification], folder: Path, dtype: torch.dtype
) -> PreTrainedModel:
    try:
        model, info = auto.from_pretrained(
            folder,
            dtype=dtype,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise UserError(
            f"the weights in {folder} cannot be read ({_first_line(error)}); save or copy them anew."
        ) from error
    if info["missing_keys"]:
        missing = sorted(info["missing_keys"])
        others = f" and {len(missing) - 1} others" if len(missing) > 1 else ""
        raise UserError(f"{folder} lacks the weights {missing[0]}{others}; save or copy the model anew.")
    _check_vocabulary(folder, model)
    return model


def _check_vocabulary(folder: Path, model: PreTrainedModel) -> None:
    if not _has_tokenizer(folder):
        return
    rows = model.get_input_embeddings().num_embeddings
    token, last = max(_tokenizer(folder).get_vocab().items(), key=lambda item: item[1])
    if last >= rows:
        raise UserError(
            f"{folder}: the tokenizer's token {token!r} has the id {last}, but the model has embeddings for {rows} "
            "tokens only; use the tokenizer that it was trained with, or call "
            "model.resize_token_embeddings(len(tokenizer)) and save it."
        )


def _has_tokenizer(folder: Path) -> bool:
    return any((folder / name).is_file() for name in _VOCABULARIES)


def _tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    if not _has_tokenizer(folder):
        raise UserError(
            f"{folder} holds no tokenizer ({_VOCABULARIES[0]} is missing); save the model's tokenizer there."
        )
    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"the tokenizer in {folder} cannot be read ({_first_line(error)}); save it anew with save_pretrained."
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
