"""Models and tokenizers from a folder, or from the hub by name; whatever is wrong with them is said in one sentence.

Nothing in a folder is ever run: no code of the model's own, no pickle, no kernel that it names.
"""

import json
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, StrictDataclassError
from safetensors import SafetensorError, safe_open
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    logging,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from keel.data.place import neighbour, place, short
from keel.data.template import read_template
from keel.data.tokenizer import require_pad
from keel.errors import UserError

_HUB_NAME = re.compile(r"[\w-][\w.-]*/[\w.-]+")
_WEIGHTS, _INDEX = "model.safetensors", "model.safetensors.index.json"
_FILES = ("*.json", "*.safetensors", "*.model", "*.jinja", "*.txt")
_OWN_CODE = (None, "eager", "sdpa", "flex_attention", "batched_mm", "grouped_mm")  # transformers' own
_LAYER = re.compile(r"\.(?:layers|h|blocks)\.(\d+)\.")
# How transformers fails on files that are damaged or mean nothing to it.
_REFUSALS = (
    OSError,
    ValueError,
    RuntimeError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    ImportError,
    AssertionError,
    SafetensorError,
    StrictDataclassError,
)
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
    """The folder of a causal language model, found to be one that can be loaded; only the weights' names are read.

    Raises UserError as `load_language_model` does.
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
    _require_whole(AutoModelForCausalLM, folder, config)
    return folder


def load_language_model(path: str | Path, dtype: torch.dtype, device: torch.device) -> PreTrainedModel:
    """A causal language model with its weights in `dtype`. No code of the model's own is ever run.

    Raises UserError when it is not there, is no causal language model, has no safetensors weights or not all of them,
    or when the tokenizer beside it has tokens that the model has no embedding for.
    """
    return _read(AutoModelForCausalLM, inspect_language_model(path), dtype=dtype)[0].to(device)


def inspect_reward_model(path: str | Path) -> Path:
    """The folder of a sequence classifier with one label: a decoder stack and its `score`; only names are read.

    Raises UserError as `load_reward_model` does.
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
    model = _require_whole(AutoModelForSequenceClassification, folder, config)
    if getattr(model, "score", None) is None:
        raise UserError(
            f"{path}: {type(model).__name__} has no score layer on a decoder, so keel cannot read it; name a reward "
            "model that was made from a causal language model."
        )
    return folder


def load_reward_model(path: str | Path, dtype: torch.dtype, device: torch.device) -> PreTrainedModel:
    """A sequence classifier with one label: a decoder stack and its `score`, with its weights in `dtype`.

    Raises UserError as `load_language_model` does, and for a model with another number of labels or without a score.
    """
    return _read(AutoModelForSequenceClassification, inspect_reward_model(path), dtype=dtype)[0].to(device)


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
    folder = place(path)
    if folder.is_dir():
        return folder
    if folder.exists():
        raise UserError(f"{path} is a file; name the folder of a model.")
    if not _HUB_NAME.fullmatch(str(path)):
        hint = neighbour(folder)
        raise UserError(
            f"there is no folder {path}{hint}; name the folder of a model, or its name on the hub (owner/name)."
        )
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
    file = folder / "config.json"
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        text = config.get_text_config()
        names = config.architectures or []
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise TypeError("architectures is no list of names")
        if not isinstance(text, PreTrainedConfig):
            raise TypeError("text_config is no configuration")
    except _REFUSALS as error:
        raise UserError(
            f"{file} is not a configuration that transformers can read without running the model's own code "
            f"({_first_line(error)}); correct it or use another model."
        ) from error
    for each in (config, text):
        for part in (each._attn_implementation, each._experts_implementation):
            if part not in _OWN_CODE:
                raise UserError(
                    f"{file} asks for {part}, which is code from elsewhere and is not run; remove that line, keel has "
                    "its own."
                )
    window = getattr(text, "sliding_window", None)
    if not (window is None or (type(window) is int and 0 < window < 2**31)):
        raise UserError(
            f"{file}: sliding_window is {short(repr(window))}, which is no number of tokens; correct it, or save the "
            "model anew."
        )
    if getattr(config, "quantization_config", None) is not None:
        raise UserError(f"{folder} is a quantised model, which cannot be trained; use the model that it was made from.")
    return config


def _architecture(config: PreTrainedConfig) -> str:
    return str(config.architectures[0] if config.architectures else config.model_type)


def _require_whole(
    auto: type[AutoModelForCausalLM | AutoModelForSequenceClassification], folder: Path, config: PreTrainedConfig
) -> PreTrainedModel:
    """The model without its numbers. UserError unless its weights are safetensors, all there, and fit its tokenizer."""
    _require_layers(folder, _require_safetensors(folder, config), config)
    with _no_reports():  # they are sentences below
        model, info = _read(auto, folder, device_map="meta", ignore_mismatched_sizes=True)
    for name, found, wanted in sorted(info["mismatched_keys"]):
        raise UserError(
            f"{folder}: the weights {name} have the shape {list(found)}, but config.json asks for {list(wanted)}; "
            "correct it, or save the model anew."
        )
    if info["missing_keys"]:
        missing = sorted(info["missing_keys"])
        others = f" and {len(missing) - 1} others" if len(missing) > 1 else ""
        raise UserError(f"{folder} lacks the weights {missing[0]}{others}; save or copy the model anew.")
    layers = config.get_text_config().num_hidden_layers
    for name in sorted(info["unexpected_keys"]):
        found = _LAYER.search(name)
        if found and int(found[1]) >= layers:
            raise UserError(
                f"{folder} has weights that its config.json, of {layers} layers, has no place for ({name}); correct "
                "num_hidden_layers, or save the model anew."
            )
    _check_special_tokens(folder, model)
    _check_vocabulary(folder, model)
    return model


def _check_special_tokens(folder: Path, model: PreTrainedModel) -> None:
    generation = getattr(model, "generation_config", None)
    for file, settings in (("config.json", model.config.get_text_config()), ("generation_config.json", generation)):
        for name in ("pad_token_id", "bos_token_id", "eos_token_id"):
            said = getattr(settings, name, None)
            ids = said if isinstance(said, list) and name == "eos_token_id" else [] if said is None else [said]
            if not all(type(id) is int and -1 <= id < 2**31 for id in ids):
                raise UserError(
                    f"{folder / file}: {name} is {short(repr(said))}, which is no token's number; correct it, or save "
                    "the model anew."
                )


def _require_safetensors(folder: Path, config: PreTrainedConfig) -> list[Path]:
    """The files of the weights. UserError where transformers would read a pickle, or an adapter on top of the model.

    It takes model.safetensors, or else the files in model.safetensors.index.json, whatever their kind.
    """
    if getattr(config, "transformers_weights", None) is not None:
        raise UserError(f"{folder / 'config.json'} names transformers_weights; remove it and save the model anew.")
    if (folder / "adapter_config.json").is_file():
        raise UserError(f"{folder} holds an adapter beside the model; merge it into the model and save that.")
    if (folder / _WEIGHTS).is_file():
        return [folder / _WEIGHTS]
    index = folder / _INDEX
    if not index.is_file():
        pickled = sorted(folder.glob("*.bin")) + sorted(folder.glob("*.pt")) + sorted(folder.glob("*.pth"))
        reason = f"{pickled[0].name} is a pickle, which can run code" if pickled else "there is no *.safetensors file"
        raise UserError(f"{folder} has no safetensors weights ({reason}); save the model anew with save_pretrained.")
    try:
        files = json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
        wrong = [file for file in files if Path(file).name != file or not file.endswith(".safetensors")]
    except _REFUSALS as error:
        raise UserError(f"{index} is damaged ({_first_line(error)}); save or copy the model anew.") from error
    if wrong:
        raise UserError(
            f"{index} names '{short(wrong[0])}', which is no safetensors file beside it; save the model anew."
        )
    return [folder / file for file in sorted(set(files))]


def _require_layers(folder: Path, files: list[Path], config: PreTrainedConfig) -> None:
    """UserError where the configuration asks for more layers than there are tensors: to build them would never end."""
    try:
        tensors = 0
        for file in files:
            with safe_open(file, framework="pt") as opened:
                tensors += len(opened.keys())
        layers = int(getattr(config.get_text_config(), "num_hidden_layers", 0))
    except _REFUSALS as error:
        raise UserError(
            f"the weights in {folder} cannot be read ({_first_line(error)}); save or copy them anew."
        ) from error
    if layers > tensors:
        raise UserError(
            f"{folder / 'config.json'} asks for {layers} layers, but there are only {tensors} weights in {folder}; "
            "correct num_hidden_layers, or save the model anew."
        )


def _read(
    auto: type[AutoModelForCausalLM | AutoModelForSequenceClassification],
    folder: Path,
    dtype: torch.dtype = torch.float32,
    device_map: str | None = None,
    ignore_mismatched_sizes: bool = False,
) -> tuple[PreTrainedModel, dict[str, Any]]:
    """A model and what the library says of its weights. On the device "meta" it has shapes and no numbers."""
    try:
        model, info = auto.from_pretrained(
            folder,
            dtype=dtype,
            device_map=device_map,
            ignore_mismatched_sizes=ignore_mismatched_sizes,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
        )
    except _REFUSALS as error:
        raise UserError(
            f"the weights in {folder} cannot be read ({_first_line(error)}); save or copy them anew."
        ) from error
    return model, info


@contextmanager
def _no_reports() -> Iterator[None]:
    """Without what the libraries say of weights that do not fit, and without a bar."""
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _check_vocabulary(folder: Path, model: PreTrainedModel) -> None:
    if not _has_tokenizer(folder):
        return
    rows = model.get_input_embeddings().num_embeddings
    token, last = max(_tokenizer(folder).get_vocab().items(), key=lambda item: item[1])
    if last >= rows:
        raise UserError(
            f"{folder}: the tokenizer's token {short(repr(token))} has the id {last}, but the model has embeddings for "
            f"{rows} tokens only; use the tokenizer that it was trained with, or call "
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
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        tokenizer("a")  # only then some settings turn out to be of the wrong type
        return tokenizer
    except Exception as error:
        if not isinstance(error, _REFUSALS) and type(error) is not Exception:  # `tokenizers` raises Exception itself
            raise
        raise UserError(
            f"the tokenizer in {folder} cannot be read ({_first_line(error)}); save it anew with save_pretrained."
        ) from error


def _first_line(error: Exception) -> str:
    return short((str(error).strip() or type(error).__name__).splitlines()[0].rstrip("."), 300)
