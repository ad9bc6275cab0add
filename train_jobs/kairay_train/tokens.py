"""Examples as token ids and labels: loss on the assistant's tokens only, the one that ends its turn included.

The text is exactly what the tokenizer's chat template writes. Where the assistant speaks in it is told by the
template's own `{% generation %}` blocks if it has them, else by rendering the conversation up to each answer:
the prompt that the model will see at that point has to be how the whole rendering begins, which is checked,
not assumed.

The tokenizer comes as an argument (a transformers fast tokenizer fits `Tokenizer`); this module imports none.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from jinja2 import TemplateError

from kairay.errors import DataError, InputError
from kairay_train.formats import Example, Role

IGNORED = -100
"""The label that cross entropy skips."""

GENERATION = re.compile(r"\{%-?\s*generation\s*-?%\}")


class Tokenizer(Protocol):
    """What is used of a transformers fast tokenizer."""

    @property
    def is_fast(self) -> bool:
        """Whether it can say which characters a token covers."""

    @property
    def eos_token_id(self) -> int | None:
        """Ends a text."""

    @property
    def all_special_ids(self) -> list[int]:
        """Tokens with a named role."""

    @property
    def added_tokens_decoder(self) -> Mapping[int, Any]:
        """Added tokens by id; `.special` tells those that are no text."""

    def get_chat_template(self) -> str:
        """The template in use; raises ValueError without one."""

    def apply_chat_template(self, conversation: list[dict[str, str]], **options: Any) -> Any:
        """The rendered text, or its tokens."""

    def __call__(self, text: str, **options: Any) -> Any:
        """Maps `input_ids`, and `offset_mapping` where asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedRow:
    """One row; `labels[i]` is `input_ids[i]` where that is to be learnt, else IGNORED. Not shifted."""

    input_ids: list[int]
    labels: list[int]

    def __len__(self) -> int:
        return len(self.input_ids)


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedReport:
    """What became of the examples: `rows` kept, `truncated` of them, `dropped` besides; tokens as kept.

    `longest` is the longest row in tokens before it was cut.
    """

    rows: int
    truncated: int
    dropped: int
    tokens: int
    loss_tokens: int
    longest: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """The rows in the order of the examples, and the account of them."""

    rows: list[EncodedRow]
    report: EncodedReport


def training_template(tokenizer: Tokenizer) -> str:
    """The chat template that rows are written with, verbatim: what has to be stored with the adapter.

    Raises InputError if the tokenizer has none.
    """
    try:
        return tokenizer.get_chat_template()
    except ValueError as error:
        raise InputError(
            "the model's tokenizer has no chat template, so conversations cannot be written for it; "
            "take an instruction-tuned model, or data with a text column"
        ) from error


def encode_examples(examples: Iterable[Example], tokenizer: Tokenizer, *, sequence_length: int) -> Encoded:
    """Tokens and labels of every example that has something to learn within `sequence_length` tokens.

    Longer rows lose their end; those without an assistant's token in what is left are dropped, and both are
    counted. Text rows are learnt whole, end-of-text token included.

    Raises DataError for a conversation that the template refuses and if no row is left, InputError for a
    tokenizer or template that cannot be used.
    """
    encoder = _Encoder(tokenizer)
    rows: list[EncodedRow] = []
    truncated = dropped = longest = 0
    for example in examples:
        whole = encoder.encode(example)
        longest = max(longest, len(whole))
        row = EncodedRow(input_ids=whole.input_ids[:sequence_length], labels=whole.labels[:sequence_length])
        if not _learnt(row):
            dropped += 1
            continue
        truncated += len(row) < len(whole)
        rows.append(row)
    if not rows:
        raise DataError(
            f"no row has an answer within {sequence_length} tokens (rows: {dropped}); "
            "raise the sequence length or shorten the prompts"
        )
    report = EncodedReport(
        rows=len(rows),
        truncated=truncated,
        dropped=dropped,
        tokens=sum(len(r) for r in rows),
        loss_tokens=sum(_learnt(r) for r in rows),
        longest=longest,
    )
    return Encoded(rows=rows, report=report)


def _learnt(row: EncodedRow) -> int:
    return len(row.labels) - row.labels.count(IGNORED)


class _Encoder:
    """One tokenizer with what was found out about it."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        if not tokenizer.is_fast:
            raise InputError("the model's tokenizer is a slow one without character offsets; take a fast one")
        added = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
        self._special = frozenset(tokenizer.all_special_ids) | added
        self._tokenizer = tokenizer
        self._template: str | None = None

    def encode(self, example: Example) -> EncodedRow:
        """The whole row, however long."""
        if example.text is not None:
            return self._text(example.text)
        return self._conversation(example)

    def _text(self, text: str) -> EncodedRow:
        ids = list(self._tokenizer(text)["input_ids"])
        end = self._tokenizer.eos_token_id
        if end is None:
            raise InputError("the model's tokenizer has no end-of-text token, so texts cannot be ended")
        if ids[-1:] != [end]:
            ids.append(end)
        return EncodedRow(input_ids=ids, labels=[IGNORED, *ids[1:]])  # nothing foretells the first token

    def _conversation(self, example: Example) -> EncodedRow:
        if self._template is None:
            self._template = training_template(self._tokenizer)
            self._check_rendering(example)
        marked = GENERATION.search(self._template)
        ids, runs = self._by_blocks(example) if marked else self._by_prefixes(example)
        labels = [IGNORED] * len(ids)
        for run in runs:
            labels[run.start : run.stop] = ids[run.start : run.stop]
        return EncodedRow(input_ids=ids, labels=labels)

    def _check_rendering(self, example: Example) -> None:
        """Text and tokens must be the same thing to this tokenizer; seen once on a real row."""
        direct = self._apply(example, _said(example), tokenize=True, return_dict=True)["input_ids"]
        if list(direct) != self._tokens(self._render(example, _said(example)))[0]:
            raise InputError(
                "the model's tokenizer writes chat tokens that differ from its chat template's text"
            )

    def _by_blocks(self, example: Example) -> tuple[list[int], list[range]]:
        found = self._apply(
            example, _said(example), tokenize=True, return_dict=True, return_assistant_tokens_mask=True
        )
        ids, mask = list(found["input_ids"]), list(found["assistant_masks"])
        skipped = sum(m.role is Role.ASSISTANT for m in example.messages[: example.loss_from])
        return ids, [self._to_end_of_turn(ids, run) for run in list(_runs(mask))[skipped:]]

    def _to_end_of_turn(self, ids: Sequence[int], run: range) -> range:
        """A block may stop right before the token that ends the turn, which has to be learnt."""
        more = run.stop < len(ids) and ids[run.stop] in self._special
        return range(run.start, run.stop + 1) if more and ids[run.stop - 1] not in self._special else run

    def _by_prefixes(self, example: Example) -> tuple[list[int], list[range]]:
        said = _said(example)
        whole = self._render(example, said)
        ids, offsets = self._tokens(whole)
        runs = []
        for i, message in enumerate(example.messages):
            if message.role is Role.ASSISTANT and i >= example.loss_from:
                start = self._start_of(example, said, i, whole)
                until = self._end_of(example, said, i, whole)
                after = _words_end(message.content, whole, start, until)
                runs.append(self._run(example, ids, offsets, start, after, until))
        return ids, runs

    def _start_of(self, example: Example, said: list[dict[str, str]], turn: int, whole: str) -> int:
        """The character at which the model takes over in this turn."""
        prompt = self._render(example, said[:turn], add_generation_prompt=True)
        if whole.startswith(prompt):
            return len(prompt)
        raise InputError(
            f"{example.where}: the model's chat template writes the start of a conversation differently once "
            f"turn {turn} is answered, so the answer cannot be found in it; "
            "a template with {% generation %} around the answers would tell"
        )

    def _end_of(self, example: Example, said: list[dict[str, str]], turn: int, whole: str) -> int:
        """The character before which this turn ends.

        A template may end a last turn in its own way (phi-3 adds an end of text), so only what both
        renderings have in common is certain to belong to the turn.
        """
        if turn + 1 == len(said):
            return len(whole)
        alone = self._render(example, said[: turn + 1])
        pairs = enumerate(zip(whole, alone, strict=False))
        return next((i for i, (a, b) in pairs if a != b), min(len(whole), len(alone)))

    def _run(
        self,
        example: Example,
        ids: Sequence[int],
        offsets: Sequence[tuple[int, int]],
        start: int,
        after: int,
        until: int,
    ) -> range:
        """The tokens from character `start` to the first special one between `after` and `until`."""
        first = next((k for k, (a, _) in enumerate(offsets) if a >= start), len(ids))
        for k in range(first, len(ids)):
            a, b = offsets[k]
            if ids[k] in self._special and a >= after and b <= until:
                return range(first, k + 1)
        raise InputError(
            f"{example.where}: the model's chat template writes no end-of-turn token after the assistant's "
            "words, so the model could not learn to stop; take a template that does"
        )

    def _tokens(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        found = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        return list(found["input_ids"]), list(found["offset_mapping"])

    def _render(self, example: Example, said: list[dict[str, str]], **options: Any) -> str:
        return str(self._apply(example, said, tokenize=False, **options))

    def _apply(self, example: Example, said: list[dict[str, str]], **options: Any) -> Any:
        try:
            return self._tokenizer.apply_chat_template(said, **options)
        except TemplateError as error:
            raise DataError(
                f"{example.where}: the model's chat template refuses this conversation: {error.message}"
            ) from error


def _said(example: Example) -> list[dict[str, str]]:
    return [{"role": m.role.value, "content": m.content} for m in example.messages]


def _words_end(content: str, whole: str, start: int, until: int) -> int:
    """Where the answer's words end in the rendering; `start` if the template rewrote them."""
    for words in (content, content.strip()):
        at = whole.find(words, start, until)
        if at >= 0:
            return at + len(words)
    return start


def _runs(mask: Sequence[int]) -> Iterator[range]:
    start: int | None = None
    for i, marked in enumerate([*mask, 0]):
        if marked and start is None:
            start = i
        elif not marked and start is not None:
            yield range(start, i)
            start = None
