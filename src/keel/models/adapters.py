"""Low-rank adapters (LoRA, 2106.09685) of several roles on one frozen base, through peft."""

import copy
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from keel.errors import UserError
from keel.models.backbone import stack_of

_WEIGHTS = "adapter_model.safetensors"  # the names that peft gives its files and tensors
_PREFIX = "base_model.model."
_BASE = "keel_base.json"


@dataclass(frozen=True)
class Lora:
    """W + (alpha/rank)·BA on linear layers, without dropout; B starts at 0.

    `target_modules` are the names of the layers, such as q_proj; none = every linear layer of the decoder stack.
    """

    rank: int = 16
    alpha: float = 32.0
    target_modules: tuple[str, ...] = ()


class Adapters:
    """The named adapters on one base model, which is changed in place and frozen.

    peft moves `requires_grad` along with the active adapter. Here the two are apart: `read` chooses the adapter that
    the next forward goes through, and whether an adapter trains is settled when it is added, so that the gradients of
    several can gather for one optimizer step.
    """

    def __init__(self, base: PreTrainedModel) -> None:
        base.requires_grad_(False)
        self._base = base
        self._path, self._stack = stack_of(base)
        self._configs: dict[str, LoraConfig] = {}
        self._trains: dict[str, bool] = {}
        self._own: dict[str, dict[str, nn.Parameter]] = {}  # an adapter's weights, by their names in a file
        self._layers: list[tuple[str, LoraLayer]] = []
        self._reading: tuple[str | None] | None = None  # which adapter is on; None = nobody has said yet

    def add(self, name: str, lora: Lora, seed: int) -> None:
        """A new adapter, to be trained. Its A is drawn from `seed`, its B is 0: at first it changes nothing."""
        config = LoraConfig(
            r=lora.rank,
            lora_alpha=lora.alpha,
            target_modules=list(lora.target_modules) or "all-linear",
            lora_dropout=0.0,
            fan_in_fan_out=any(isinstance(module, Conv1D) for module in self._stack.modules()),
        )
        device = self._base.device
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(seed)
            self._inject(name, config)
        self._trains[name] = True
        self.read(None)

    def join(self, name: str, of: Sequence[str]) -> None:
        """A new adapter, to be trained, that changes the base by the mean of what these change.

            1/E·Σ_e (α/r)·B_e·A_e = (α/r)·[B_1 … B_E]/E·[A_1; …; A_E]

        It is of rank E·r, and so exact: the mean of the factors would not be the mean of their products.
        """
        config = copy.deepcopy(self._configs[of[0]])
        config.r, config.lora_alpha = len(of) * config.r, len(of) * config.lora_alpha
        self._inject(name, config)
        with torch.no_grad():
            for key, parameter in self._own[name].items():
                parts = [self._own[one][key].detach() for one in of]
                parameter.copy_(torch.cat(parts, 0) if ".lora_A." in key else torch.cat(parts, 1) / len(of))
        self._trains[name] = True
        self.read(None)

    def fits(self, path: Path) -> bool:
        """Whether there is an adapter in the folder that was trained on this very base."""
        return self.is_in(path) and json.loads((path / _BASE).read_text())["fingerprint"] == self.fingerprint()

    @staticmethod
    def is_in(path: Path) -> bool:
        """Whether there is an adapter of keel's in the folder, whatever base it was trained on."""
        return (path / _BASE).is_file()

    def load(self, name: str, path: Path, *, trains: bool) -> None:
        """An adapter from a folder that `save` wrote, to be trained on or frozen.

        Raises UserError if there is none, or if it was trained on another base.
        """
        if not self.is_in(path):
            raise UserError(f"{path} holds no adapter of keel's ({_BASE} is missing); train that role with LoRA first.")
        if not self.fits(path):
            raise UserError(f"the adapter in {path} was trained on another base model; train it again on this one.")
        self._inject(name, LoraConfig.from_pretrained(str(path)))
        saved = load_file(path / _WEIGHTS)
        with torch.no_grad():
            for key, parameter in self._own[name].items():
                parameter.copy_(saved[_PREFIX + key])
        self._trains[name] = trains
        self.read(None)

    def save(self, name: str, path: Path) -> None:
        """Write one adapter in peft's format, and a fingerprint of the base it belongs to, into an existing folder."""
        self._configs[name].save_pretrained(str(path))
        tensors = {_PREFIX + key: tensor.detach().contiguous() for key, tensor in self._own[name].items()}
        save_file(tensors, path / _WEIGHTS, metadata={"format": "pt"})
        (path / _BASE).write_text(json.dumps({"fingerprint": self.fingerprint()}))

    def read(self, name: str | None) -> None:
        """Read through this adapter from now on; None = the base alone."""
        if self._reading == (name,):  # switching takes 7 ms where there are 24 layers, and every pass asks for it
            return
        for _, layer in self._layers:
            layer.enable_adapters(name is not None)
            if name is not None:
                layer.set_adapter([name])
        for adapter, trains in self._trains.items():
            for parameter in self._own[adapter].values():
                parameter.requires_grad_(trains)
        self._reading = (name,)

    def parameters(self, name: str) -> list[tuple[str, nn.Parameter]]:
        """The adapter's weights and their names, in a fixed order."""
        return list(self._own[name].items())

    def merged(self, name: str | None) -> dict[str, Tensor]:
        """The state of a model without adapters: the base's, with this adapter added to its weights (in a copy)."""
        state = {
            key.replace(".base_layer.", "."): tensor
            for key, tensor in self._base.state_dict().items()
            if ".lora_" not in key
        }
        for path, layer in self._layers:
            if name not in layer.lora_A:
                continue
            weight = state[f"{path}.weight"]
            delta = layer.get_delta_weight(name).to(torch.promote_types(weight.dtype, torch.float32))
            state[f"{path}.weight"] = (weight + delta).to(weight.dtype)
        return state

    def fingerprint(self) -> str:
        """A digest of the decoder stack's weights (the ends of each, in bfloat16, so that a cast leaves it alone)."""
        digest = hashlib.sha256()
        for key, tensor in self.merged(None).items():
            if not key.startswith(f"{self._path}."):
                continue
            flat = tensor.detach().flatten()
            ends = torch.cat([flat[:256], flat[-256:]]).to(torch.bfloat16).cpu()
            digest.update(f"{key} {tuple(tensor.shape)}".encode())
            digest.update(ends.view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    def _inject(self, name: str, config: LoraConfig) -> None:
        if name in self._configs:
            raise ValueError(f"the base has an adapter named {name} already")
        if self._configs:
            del self._stack.peft_config  # peft warns of every further adapter; here several are meant
        inject_adapter_in_model(config, self._stack, adapter_name=name)
        self._configs[name] = config
        self._reading = None
        layers = [(path, module) for path, module in self._stack.named_modules() if isinstance(module, LoraLayer)]
        self._layers = [(f"{self._path}.{path}", layer) for path, layer in layers]
        mark = f".{name}."
        self._own[name] = {
            key.replace(mark, "."): parameter
            for key, parameter in self._base.named_parameters()
            if ".lora_" in key and mark in key
        }
