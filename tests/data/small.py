"""Small tokenizers and the chat templates of the field, to test what turns messages into tokens."""

from __future__ import annotations

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizer, PreTrainedTokenizerFast

from keel.types import Conversation, Message

SPECIAL = (
    "<pad>",
    "<unk>",
    "<s>",
    "</s>",
    "<|im_start|>",
    "<|im_end|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
    "<|system|>",
    "<|user|>",
    "<|assistant|>",
    "<start_of_turn>",
    "<end_of_turn>",
)
TEXT = [
    "The bake sale is on Friday at 3 pm in the park; bring a plate.",
    "Write a short note for parents.\n\nThe note: Bake sale on Friday.\nThe end.\n\n",
    "Human: what is the capital of France?\n\nAssistant: The capital of France is Paris.",
    "user\nsystem\nassistant\nmodel\n [INST] and [/INST] text, naïve café, ½ 日本語",
] * 4

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
CHATML_MARKED = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% if m['role'] == 'assistant' %}"
    "{% generation %}{{ m['content'] }}<|im_end|>{% endgeneration %}"
    "{% else %}{{ m['content'] }}<|im_end|>{% endif %}{{ '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# The marker holds the content alone, or the header, EOS and newline too: both are in use.
CHATML_MARKED_NARROW = CHATML_MARKED.replace("<|im_end|>{% endgeneration %}", "{% endgeneration %}<|im_end|>")
CHATML_MARKED_WIDE = (
    "{% for m in messages %}{% if m['role'] == 'assistant' %}"
    "{% generation %}<|im_start|>assistant\n{{ m['content'] }}<|im_end|>{{ '\n' }}{% endgeneration %}"
    "{% else %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>{{ '\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAMA3 = (
    "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m['role'] }}<|end_header_id|>\n\n"
    "{{ m['content'] | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
ZEPHYR = (
    "{% for m in messages %}<|{{ m['role'] }}|>\n{{ m['content'] }}{{ eos_token }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{% set first = messages[0]['content'] + '\n\n' %}"
    "{% set turns = messages[1:] %}{% else %}{% set first = '' %}{% set turns = messages %}{% endif %}"
    "{% for m in turns %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant') }}{% endif %}"
    "<start_of_turn>{{ 'model' if m['role'] == 'assistant' else m['role'] }}\n"
    "{{ first if loop.first else '' }}{{ m['content'] | trim }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
MISTRAL = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'assistant' %} {{ m['content'] }}{{ eos_token }}"
    "{% else %}[INST] {{ m['content'] }} [/INST]{% endif %}{% endfor %}"
)
MISTRAL_MARKED = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'assistant' %}{{ ' ' }}"
    "{% generation %}{{ m['content'] }}{% endgeneration %}{{ eos_token }}"
    "{% else %}[INST] {{ m['content'] }} [/INST]{% endif %}{% endfor %}"
)
# Like Qwen3: the reasoning of earlier answers is left out, and the last answer always shows some.
REASONING = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% if m['role'] == 'assistant' %}"
    "{% if loop.last and '</think>' not in m['content'] %}<think>\n\n</think>\n\n{% endif %}"
    "{{ m['content'] if loop.last else m['content'].split('</think>')[-1] }}"
    "{% else %}{{ m['content'] }}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def byte_level(template: str | None = CHATML, eos: str = "<|im_end|>", regex: bool = True) -> PreTrainedTokenizerFast:
    """GPT-2's kind: bytes, merges, no normalisation. Without `regex` merges may cross words and lines."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=regex)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=420,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXT, trainer)
    return _wrapped(tokenizer, template, eos)


def sentence_piece(template: str | None, eos: str, scheme: str = "first") -> PreTrainedTokenizerFast:
    """Llama 2's kind: "▁" for a space, one put before the text, bytes for what is unknown."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=False)
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    bytes_ = [AddedToken(f"<0x{byte:02X}>", special=False, normalized=False) for byte in range(256)]
    trainer = trainers.BpeTrainer(
        vocab_size=600, special_tokens=[*SPECIAL, *(str(token.content) for token in bytes_)], show_progress=False
    )
    tokenizer.train_from_iterator(TEXT, trainer)
    return _wrapped(tokenizer, template, eos)


def _wrapped(tokenizer: Tokenizer, template: str | None, eos: str) -> PreTrainedTokenizerFast:
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token=eos, pad_token="<pad>", unk_token="<unk>"
    )
    wrapped.chat_template = template
    return wrapped


class Letters(PreTrainedTokenizer):
    """A slow tokenizer, in Python and without offsets: one token per character."""

    def __init__(self, template: str) -> None:
        self._letters = {chr(code): code for code in range(128)}
        super().__init__(eos_token="</s>", pad_token="<pad>", bos_token="<s>")
        self.chat_template = template

    @property
    def vocab_size(self) -> int:
        return len(self._letters)

    def get_vocab(self) -> dict[str, int]:
        return {**self._letters, **self.added_tokens_encoder}

    def _tokenize(self, text: str) -> list[str]:
        return list(text)

    def _convert_token_to_id(self, token: str) -> int:
        return self._letters[token]

    def _convert_id_to_token(self, index: int) -> str:
        return chr(index)

    def convert_tokens_to_string(self, tokens: list[str]) -> str:
        return "".join(tokens)


def talk(*turns: str, system: str | None = None) -> Conversation:
    """Turns of user and assistant by turns."""
    first = () if system is None else (Message("system", system),)
    return (*first, *(Message(("user", "assistant")[index % 2], text) for index, text in enumerate(turns)))
