"""TRL's losses and gradients on given tensors; run by the Python of TRL's own environment, and by nothing else.

    python trl_side.py FOLDER

reads FOLDER/cases.json, and the models FOLDER/{policy,old,reference}; writes FOLDER/NAME.safetensors for each case: the
`loss` that the trainer's own method gives for `policy`, its gradient by the weights' names, and the `advantages` that
the trainer made of the rewards.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

for _name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE", "TRL_EXPERIMENTAL_SILENCE"):
    os.environ.setdefault(_name, "1")

import torch  # noqa: E402
from datasets import Dataset  # noqa: E402
from safetensors.torch import save_file  # noqa: E402
from transformers import AutoTokenizer, LlamaForCausalLM  # noqa: E402
from trl import DPOConfig, DPOTrainer, GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer  # noqa: E402
from trl.experimental.cpo import CPOConfig, CPOTrainer  # noqa: E402
from trl.experimental.orpo import ORPOConfig, ORPOTrainer  # noqa: E402
from trl.trainer.dpo_trainer import DataCollatorForPreference  # noqa: E402
from trl.trainer.kto_config import KTOConfig  # noqa: E402
from trl.trainer.kto_trainer import DataCollatorForUnpairedPreference, KTOTrainer  # noqa: E402

Rows = Sequence[dict[str, Any]]
Found = tuple[torch.Tensor, dict[str, torch.Tensor]]
PAD = 0


class Side:
    """The models of the folder, and the arguments that all trainers share."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.tokenizer = AutoTokenizer.from_pretrained(folder / "policy")

    def model(self, name: str) -> Any:
        """One of the folder's models, in fp32."""
        return LlamaForCausalLM.from_pretrained(self._folder / name, dtype=torch.float32)

    def options(self, rows: int, given: dict[str, Any]) -> dict[str, Any]:
        """All of `rows` in one step."""
        shared = {
            "output_dir": str(self._folder / "out"),
            "use_cpu": True,
            "bf16": False,
            "gradient_checkpointing": False,
            "per_device_train_batch_size": rows,
            "report_to": "none",
        }
        return shared | given


def raw(trainer: type) -> type:
    """The trainer on rows that are tokens already."""

    class Raw(trainer):  # type: ignore[misc]
        def _prepare_dataset(self, dataset: Dataset, *_: Any, **__: Any) -> Dataset:
            return dataset

    return Raw


def dpo(side: Side, rows: Rows, given: dict[str, Any]) -> Found:
    """`DPOTrainer._compute_loss`; rows of prompt_ids, chosen_ids, rejected_ids."""
    trainer = raw(DPOTrainer)(
        model=side.model("policy"),
        ref_model=side.model("reference"),
        args=DPOConfig(**side.options(len(rows), given)),
        train_dataset=Dataset.from_list(list(rows)),
        processing_class=side.tokenizer,
    )
    batch = DataCollatorForPreference(pad_token_id=PAD)(list(rows))
    return trainer._compute_loss(trainer.model, batch, False), gradient_source(trainer)


def kto(side: Side, rows: Rows, given: dict[str, Any]) -> Found:
    """`KTOTrainer._compute_loss`; rows of prompt_ids, completion_ids, KL_completion_ids, label."""
    trainer = raw(KTOTrainer)(
        model=side.model("policy"),
        ref_model=side.model("reference"),
        args=KTOConfig(**side.options(len(rows), given)),
        train_dataset=Dataset.from_list(list(rows)),
        processing_class=side.tokenizer,
    )
    batch = DataCollatorForUnpairedPreference(pad_token_id=PAD)(list(rows))
    return trainer._compute_loss(trainer.model, batch, False), gradient_source(trainer)


def without_reference(trainer: type, config: type) -> Callable[[Side, Rows, dict[str, Any]], Found]:
    """`get_batch_loss_metrics` of ORPO's or CPO's trainer; rows as in `dpo`."""

    def measured(side: Side, rows: Rows, given: dict[str, Any]) -> Found:
        texts = Dataset.from_list([{"prompt": "w5", "chosen": "w6", "rejected": "w7"}] * len(rows))
        made = trainer(
            model=side.model("policy"),
            args=config(**side.options(len(rows), given)),
            train_dataset=texts,
            processing_class=side.tokenizer,
        )
        loss, _ = made.get_batch_loss_metrics(made.model, _concatenated(rows), "train")
        return loss, gradient_source(made)

    return measured


def _concatenated(rows: Rows) -> dict[str, torch.Tensor]:
    """Padded on the right; a label of −100 is no part of the answer."""
    batch: dict[str, torch.Tensor] = {}
    for side in ("chosen", "rejected"):
        whole = [row["prompt_ids"] + row[f"{side}_ids"] for row in rows]
        labels = [[-100] * len(row["prompt_ids"]) + row[f"{side}_ids"] for row in rows]
        longest = max(map(len, whole))
        batch[f"{side}_input_ids"] = torch.tensor([ids + [PAD] * (longest - len(ids)) for ids in whole])
        batch[f"{side}_attention_mask"] = torch.tensor([[1] * len(ids) + [0] * (longest - len(ids)) for ids in whole])
        batch[f"{side}_labels"] = torch.tensor([ids + [-100] * (longest - len(ids)) for ids in labels])
    return batch


def online(trainer: type, config: type) -> Callable[[Side, Rows, dict[str, Any]], Found]:
    """The trainer's own way from sampled tokens (which are given) and rewards to the loss; rows of prompt_ids,
    completion_ids, reward, the answers to one prompt side by side. Sampled by the model named `sampler`."""

    def measured(side: Side, rows: Rows, given: dict[str, Any]) -> Found:
        given = dict(given)
        sampler = given.pop("sampler")
        texts = Dataset.from_list([{"prompt": "w5"}] * len(rows))
        made = trainer(
            model=side.model(sampler),
            args=config(**side.options(len(rows), given)),
            train_dataset=texts,
            processing_class=side.tokenizer,
            reward_funcs=lambda **_: [row["reward"] for row in rows],
        )
        if made.ref_model is not None:  # there is one where β is above 0: another copy of the sampler
            made.ref_model.load_state_dict(side.model("reference").state_dict())
        made.current_gradient_accumulation_steps = 1
        made._tokenize_prompts = lambda prompts: ([row["prompt_ids"] for row in rows], None, {})
        answers = [row["completion_ids"] for row in rows]
        if trainer is GRPOTrainer:
            made._generate_single_turn = lambda *_: (answers, None)
        else:
            made._generate_single_turn = lambda *_: answers
        made.model.train()
        batch = made._generate_and_score_completions([{"prompt": "w5"}] * len(rows))
        made.model.load_state_dict(side.model("policy").state_dict())
        loss = made._compute_loss(made.model, batch)
        return loss, gradient_source(made) | {"advantages": batch["advantages"].detach().clone()}

    return measured


def gradient_source(trainer: Any) -> dict[str, torch.Tensor]:
    """The trained weights, by name."""
    return dict(trainer.accelerator.unwrap_model(trainer.model).named_parameters())


TRAINERS: dict[str, Callable[[Side, Rows, dict[str, Any]], Found]] = {
    "dpo": dpo,
    "kto": kto,
    "orpo": without_reference(ORPOTrainer, ORPOConfig),
    "cpo": without_reference(CPOTrainer, CPOConfig),
    "grpo": online(GRPOTrainer, GRPOConfig),
    "rloo": online(RLOOTrainer, RLOOConfig),
}


def main(folder: Path) -> None:
    """All cases, one file each."""
    side = Side(folder)
    for case in json.loads((folder / "cases.json").read_text(encoding="utf-8")):
        with contextlib.redirect_stdout(sys.stderr):
            loss, known = TRAINERS[case["trainer"]](side, case["rows"], case["config"])
        loss.backward()
        found = {"loss": loss.detach().reshape(1)}
        for name, tensor in known.items():
            if not isinstance(tensor, torch.nn.Parameter):
                found[name] = tensor
            elif tensor.grad is not None:
                found[name] = tensor.grad.clone()
        save_file(found, folder / f"{case['name']}.safetensors")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
