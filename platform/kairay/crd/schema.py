"""The structural schema of a Workspace, from its pydantic types. Pure.

Texts, lists and maps are bounded everywhere, since the API server weighs a CEL rule by the most that it may look at.
Formats that need our own words (names, images, addresses) are rules or conditions, not patterns: a pattern's refusal
tells nobody what to write.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from kairay.crd.rules import RULES
from kairay.workspace import Workspace

Schema = dict[str, Any]

MOST_TEXT, MOST_ITEMS, MOST_KEYS = 512, 32, 32
_URL_TEXT: Final = 4096
_KEPT: Final[tuple[str, ...]] = ("type", "enum", "minimum", "maximum", "description", "required")
_BOUNDS: Final[Mapping[str, Schema]] = {
    "spec.tuning.input.urls[]": {"maxLength": _URL_TEXT},
    "spec.inference.adapters": {"maxItems": 10},
    # KAITO takes any case.
    "spec.tuning.method": {"enum": ["lora", "qlora", "LoRA", "QLoRA", "LORA", "QLORA"]},
}
"""What the types do not say as the API server has to hear it."""


def workspace_schema() -> Schema:
    """`openAPIV3Schema`: the same for every version."""
    written = Workspace.model_json_schema(by_alias=True)
    convert = _Converter(written["$defs"])
    parts = {
        name: convert(written["properties"][name], f"spec.{name}")
        for name in ("resource", "inference", "tuning")
    }
    schema: Schema = {
        "type": "object",
        "description": "One model to serve or to tune.",
        "required": ["resource"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            **parts,
            "status": status_schema(),
        },
    }
    for rule in RULES:
        target = _at(schema, rule.path)
        check: Schema = {"rule": rule.expression, "message": rule.message}
        target.setdefault("x-kubernetes-validations", []).append(check)
    return schema


class _Converter:
    """JSON Schema as pydantic writes it, to what a CRD may hold: no references, no alternatives, no defaults."""

    def __init__(self, definitions: Mapping[str, Schema]) -> None:
        self._definitions = definitions

    def __call__(self, written: Schema, path: str) -> Schema:
        said = self._resolved(written)
        drawn = {key: said[key] for key in _KEPT if key in said}
        if "const" in said:
            drawn["enum"] = [said["const"]]
        if "exclusiveMinimum" in said:
            drawn |= {"minimum": said["exclusiveMinimum"], "exclusiveMinimum": True}
        match drawn.get("type"):
            case "string" if "enum" not in drawn:
                drawn["maxLength"] = MOST_TEXT
            case "array":
                drawn |= {"maxItems": MOST_ITEMS, "items": self(said["items"], f"{path}[]")}
            case "object":
                drawn |= self._mapping(said, path)
        return drawn | _BOUNDS.get(path, {})

    def _mapping(self, said: Schema, path: str) -> Schema:
        properties = said.get("properties")
        open_ended = said.get("additionalProperties")
        if properties is None and isinstance(open_ended, Mapping):
            return {"maxProperties": MOST_KEYS, "additionalProperties": self(dict(open_ended), f"{path}{{}}")}
        if properties is None:
            return {"x-kubernetes-preserve-unknown-fields": True}
        drawn = {name: self(each, f"{path}.{name}") for name, each in properties.items()}
        extra: Schema = {"x-kubernetes-preserve-unknown-fields": True} if open_ended is True else {}
        return {"properties": drawn, **extra}

    def _resolved(self, written: Schema) -> Schema:
        """Without references and without the alternative of null, which means "not given" all the same."""
        described = {key: written[key] for key in ("description",) if key in written}
        if "anyOf" in written:
            chosen = next(each for each in written["anyOf"] if each.get("type") != "null")
            return {**self._resolved(chosen), **described}
        if "$ref" in written:
            return {**self._resolved(self._definitions[written["$ref"].rpartition("/")[2]]), **described}
        return written


def status_schema() -> Schema:
    """What the controller reports."""
    text, number, whole = {"type": "string"}, {"type": "number"}, {"type": "integer"}
    texts = {"type": "array", "items": text}
    adapter = {"type": "object", "properties": {"image": text, "digest": text, "revision": text}}
    return {
        "type": "object",
        "properties": {
            "observedGeneration": {"type": "integer", "format": "int64"},
            "state": text, "message": text, "revision": text, "workerNodes": texts,
            "conditions": {
                "type": "array",
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["type"],
                "items": {
                    "type": "object",
                    "required": ["type", "status", "reason", "message", "lastTransitionTime"],
                    "properties": {
                        "type": text, "status": {"type": "string", "enum": ["True", "False", "Unknown"]},
                        "reason": text, "message": text,
                        "lastTransitionTime": {"type": "string", "format": "date-time"},
                        "observedGeneration": {"type": "integer", "format": "int64"},
                    },
                },
            },
            "tuning": {"type": "object", "properties": {
                **dict.fromkeys(("revision", "outcome", "jobName", "reason", "message", "retried"), text),
                **dict.fromkeys(("algorithm", "attempt", "progressPercent"), whole),
                **dict.fromkeys(("step", "totalSteps", "resumedFrom"), whole),
                **dict.fromkeys(("loss", "tokensPerSecond", "etaSeconds"), number),
                "adapter": adapter,
            }},
            "inference": {"type": "object", "properties": {
                "url": text, "models": texts, "replicas": whole, "readyReplicas": whole, "waitingRequests": whole,
                "adapterDigest": text,
            }},
            "plan": {"type": "object", "properties": {
                "instanceType": text, "nodes": whole, "gpusPerNode": whole, "memoryPerGpu": text,
                "headroomPercent": whole, "hourlyCostUSD": number, "priceRegion": text, "priceAsOf": text,
                "reasons": texts, "tokensPerSecond": number, "millionTokensUSD": number,
            }},
        },
    }  # fmt: skip


def _at(schema: Schema, path: str) -> Schema:
    """The schema of the field at a dotted path, `[]` for a list's items; empty: the whole."""
    found = schema
    for part in filter(None, path.split(".")):
        name = part.removesuffix("[]")
        found = found["properties"][name]
        if part.endswith("[]"):
            found = found["items"]
    return found
