"""How many tokens a pass takes: hand arithmetic, and every reader says the same."""

from types import SimpleNamespace

import pytest
import torch

from keel.data.forest import Branch, Tree
from keel.models.heads import ScalarHead
from keel.models.passes import pass_tokens
from keel.models.roles import language_role, scalar_role
from keel.training.batches import micro_batches
from tests.models.small import CONFIGS, build


@pytest.mark.parametrize(
    ("width", "tokens"), [(64, 2048), (256, 2048), (320, 1310), (362, 1024), (418, 768), (512, 768), (4096, 768)]
)
def test_a_pass_on_a_processor_has_a_thousand_million_products(width: int, tokens: int) -> None:
    assert pass_tokens(width, torch.device("cpu")) == tokens


@pytest.mark.parametrize(
    ("width", "gigabytes", "tokens"),
    [
        (64, 24, 16384),
        (724, 24, 16384),
        (896, 24, 10699),
        (896, 80, 16384),
        (1024, 39, 8192),
        (1024, 40, 16384),
        (1536, 24, 3640),
        (1536, 141, 7281),
        (4096, 141, 2048),
    ],
)
def test_on_a_gpu_it_is_longer(width: int, gigabytes: int, tokens: int, monkeypatch: pytest.MonkeyPatch) -> None:
    properties = SimpleNamespace(total_memory=gigabytes * 10**9)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    assert pass_tokens(width, torch.device("cuda")) == tokens


def test_a_role_reads_as_much_as_it_likes_unless_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    config = CONFIGS["llama"]
    likes = {config.hidden_size: 10}
    monkeypatch.setattr("keel.models.backbone.pass_tokens", lambda width, device: likes[width])
    language = language_role(build(config), None, 0)
    scalar = scalar_role(build(config), ScalarHead.zero(config.hidden_size), None, 0)
    trees = [Tree((1,), (Branch((2, 3, 4), (True,) * 3),))] * 5
    assert [micro.places for micro in micro_batches(trees, None, language)] == [(0, 1), (2, 3), (4,)]
    assert [micro.places for micro in micro_batches(trees, None, scalar)] == [(0, 1), (2, 3), (4,)]
    assert [micro.places for micro in micro_batches(trees, 12, scalar)] == [(0, 1, 2), (3, 4)]
