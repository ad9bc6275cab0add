"""Data for a run: fetched, checked, tokenised and packed, on a CPU, before any worker is asked for."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kairay.errors import DataError
from kairay_train.config import TuneConfig
from kairay_train.data import DataReport, check, read_examples
from kairay_train.fetch import display_url, fetch
from kairay_train.formats import ColumnMapping
from kairay_train.pack_table import PackTable, build_table
from kairay_train.packing import pack
from kairay_train.settings import Settings
from kairay_train.tokens import EncodedRow, encode_examples


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedData:
    """Files that were read to their end without a fault."""

    paths: tuple[Path, ...]
    names: dict[Path, str]
    mapping: ColumnMapping
    report: DataReport


def check_data(config: TuneConfig, settings: Settings, into: Path) -> CheckedData:
    """Bring the data here (downloads go to `into`) and read all of it; DataError names the first broken
    row."""
    names: dict[Path, str] = {}
    for source in config.data:
        url = "://" in source
        for path in fetch([source], into):
            names[path] = display_url(source) if url else str(path)
    mapping = ColumnMapping(**settings.columns)
    report = check(list(names), names=names, mapping=mapping)
    if report.problem_count:
        more = f" (and {report.problem_count - 1} more)" if report.problem_count > 1 else ""
        raise DataError(report.problems[0] + more)
    if not report.rows:
        raise DataError(f"{', '.join(names.values())}: there are no rows; add at least one")
    return CheckedData(paths=tuple(names), names=names, mapping=mapping, report=report)


def tokenise(data: CheckedData, settings: Settings, model: Path, say: Callable[[str], None]) -> PackTable:
    """Rows as packs of at most `sequence_length` tokens; without packing, a pack a row."""
    examples = list(read_examples(data.paths, names=data.names, mapping=data.mapping))
    if settings.train_share < 1:
        kept = max(1, round(len(examples) * settings.train_share))
        chosen = sorted(random.Random(settings.shuffle_seed).sample(range(len(examples)), kept))  # noqa: S311
        examples = [examples[i] for i in chosen]
    encoded = encode_examples(examples, _tokenizer(model, settings), sequence_length=settings.sequence_length)
    rows = encoded.rows if settings.assistant_only_loss else [_learn_all(row) for row in encoded.rows]
    if settings.packing:
        packs = pack(rows, capacity=settings.sequence_length)
    else:
        packs = [pack([row], capacity=len(row))[0] for row in rows]
    report = encoded.report
    cut = f", {report.truncated} cut, {report.dropped} left out" if report.truncated or report.dropped else ""
    say(
        f"data: {report.rows} rows{cut}, {report.tokens} tokens, {report.loss_tokens} in the loss, "
        f"{len(packs)} packs"
    )
    return build_table(packs)


def _learn_all(row: EncodedRow) -> EncodedRow:
    return replace(row, labels=list(row.input_ids))


def _tokenizer(model: Path, settings: Settings) -> Any:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model, trust_remote_code=settings.trust_remote_code)
    if settings.chat_template is not None:
        tokenizer.chat_template = settings.chat_template
    return tokenizer
