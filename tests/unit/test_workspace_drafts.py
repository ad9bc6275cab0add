"""A file with KAITO's placeholders can be planned, and never run."""

from __future__ import annotations

from pathlib import Path

import pytest

from kairay.errors import InputError
from kairay.workspace import parse_documents

SEED = (
    (Path(__file__).resolve().parents[2] / "examples" / "tuning-phi-3.yaml")
    .read_text()
    .replace("contoso.azurecr.io/phi-3-tuned", "ACR_REPO_HERE.azurecr.io/IMAGE_NAME_HERE")
    .replace("contoso-push", "ACR_REGISTRY_SECRET_HERE")
)


def test_a_draft_parses_and_lists_what_is_left_to_fill_in() -> None:
    documents = parse_documents(SEED, "seed.yaml", drafts=True)
    assert documents.unfilled == (
        "tuning.output.image: ACR_REPO_HERE",
        "tuning.output.image: IMAGE_NAME_HERE",
        "tuning.output.imagePushSecret: ACR_REGISTRY_SECRET_HERE",
    )


def test_the_same_file_is_refused_where_it_would_run() -> None:
    with pytest.raises(InputError, match=r"tuning\.output\.image"):
        parse_documents(SEED, "seed.yaml")


def test_a_finished_file_has_nothing_left_and_other_capitals_are_not_placeholders() -> None:
    text = (
        SEED.replace("ACR_REPO_HERE", "contoso")
        .replace("IMAGE_NAME_HERE", "phi")
        .replace("ACR_REGISTRY_SECRET_HERE", "push")
    )
    assert parse_documents(text, "seed.yaml", drafts=True).unfilled == ()
