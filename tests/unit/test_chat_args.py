"""The application's arguments: what the planner writes is read back, and mistakes are named."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from kairay_serve.args import ChatArgs, EngineKind


def written(**more: Any) -> dict[str, Any]:
    return {
        "name": "workspace-a",
        "preset": "smollm2-135m-instruct",
        "modelName": "smollm2-135m-instruct",
        "adapters": [{"name": "workspace-a", "source": "oci:/adapters:workspace-a"}],
        "defaultModel": "workspace-a",
        "contextLength": 2048,
        "kvCacheBytes": 2**30,
        **more,
    }


def test_every_served_name_is_listed_with_the_base_model_first() -> None:
    args = ChatArgs.model_validate(written())
    assert args.names == ("smollm2-135m-instruct", "workspace-a")
    assert args.engine is EngineKind.TRANSFORMERS


def test_arguments_survive_json() -> None:
    args = ChatArgs.model_validate(written(engine="vllm", engineConfig={"max-model-len": 1024}))
    assert ChatArgs.model_validate_json(args.model_dump_json(by_alias=True)) == args


@pytest.mark.parametrize(
    ("mistake", "sentence"),
    [
        ({"modelname": "x"}, "Extra inputs are not permitted"),
        ({"engine": "tgi"}, "Input should be 'transformers' or 'vllm'"),
        ({"contextLength": 0}, "greater than 0"),
        ({"defaultModel": "other"}, "defaultModel 'other' is not served; choose one of"),
        ({"adapters": [{"name": "smollm2-135m-instruct", "source": "/a"}]}, "two models have one name"),
        ({"adapters": [{"name": "a", "source": "/a", "strength": 2}]}, "Extra inputs are not permitted"),
    ],
)
def test_a_mistake_is_named(mistake: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        ChatArgs.model_validate(written(**mistake))
