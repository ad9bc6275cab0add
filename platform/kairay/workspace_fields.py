"""What the types of a written document share: the strict base class, and texts with Kubernetes' rules.

`Written` reports every fault of a mapping at once, in our words: unknown and missing fields, choices, rules
between fields, and whatever pydantic finds in the values. As in Kubernetes, null, "" and [] mean "not given".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, ClassVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    PlainSerializer,
    PlainValidator,
    Strict,
    StrictBool,
    StrictInt,
    ValidationError,
    WithJsonSchema,
    model_validator,
)
from pydantic.alias_generators import to_camel
from pydantic_core import InitErrorDetails

from kairay.errors import InputError
from kairay.references import ImageReference
from kairay.workspace_messages import (
    describe_error,
    describe_value,
    exactly_one,
    nearest,
    problem,
    unknown_field,
)

Location = tuple[int | str, ...]
Problem = tuple[Location, str]
"""Where, from the mapping it was found in, and what."""


class Written(BaseModel):
    """A mapping that people write: strict, frozen, in camelCase."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        alias_generator=to_camel,
        validate_by_alias=True,
        validate_by_name=False,
        defer_build=True,  # importing stays fast; the first document builds all types at once
    )

    one_of: ClassVar[tuple[str, ...]] = ()
    """Fields of which exactly one must be given."""
    server_fields: ClassVar[frozenset[str]] = frozenset()
    """Fields that only the API server writes: read over."""

    @classmethod
    def field_names(cls) -> dict[str, bool]:
        """Every field as it is written, and whether it must be."""
        return {info.alias or name: info.is_required() for name, info in cls.model_fields.items()}

    @classmethod
    def problems(cls, written: Mapping[str, Any]) -> Iterator[Problem]:
        """Rules between fields; `written` has no empty fields, and values that may still be of any kind."""
        del written
        return iter(())

    def to_dict(self) -> dict[str, Any]:
        """What was written, ready for JSON; parsing it again gives an equal value."""
        return self.model_dump(mode="json", by_alias=True, exclude_unset=True)

    @model_validator(mode="wrap")
    @classmethod
    def _collect(cls, value: Any, validate: ModelWrapValidatorHandler[Any]) -> Any:
        found: list[Problem] = []
        if isinstance(value, dict):
            value = {k: v for k, v in value.items() if v not in (None, "", []) and k not in cls.server_fields}
            value, found = cls._sort_out(value)
        try:
            result = validate(value)
        except ValidationError as error:
            faults = (each for each in error.errors() if each["type"] != "missing")
            found += [(each["loc"], describe_error(each)) for each in faults]
        if found:
            details = [InitErrorDetails(type=problem(text), loc=loc, input=value) for loc, text in found]
            raise ValidationError.from_exception_data(cls.__name__, details)
        return result

    @classmethod
    def _sort_out(cls, written: dict[str, Any]) -> tuple[dict[str, Any], list[Problem]]:
        """The fields that exist, and what is wrong with the set of those that were given."""
        names = cls.field_names()
        takes_any = cls.model_config["extra"] == "allow"
        known = {key: value for key, value in written.items() if takes_any or key in names}
        found: list[Problem] = []
        meant = dict(known)
        for key in (key for key in written if key not in known):
            found.append(((key,), unknown_field(key, names)))
            # A misspelt field counts as given: one mistake, one message.
            meant.setdefault(nearest(key, names) or key, written[key])
        missing = (name for name, required in names.items() if required and name not in meant)
        found += [((name,), f"required; give {cls._meaning(name)}") for name in missing]
        chosen = [name for name in cls.one_of if name in meant]
        if cls.one_of and len(chosen) != 1:
            found.append(((), exactly_one(cls.one_of, chosen)))
        return known, found + list(cls.problems(meant))

    @classmethod
    def _meaning(cls, written_name: str) -> str:
        fields = {info.alias or name: info for name, info in cls.model_fields.items()}
        return fields[written_name].description or "a value"


def dig(written: object, *path: str) -> Any:
    """The value at `path` in nested mappings that may be of any kind; None when it is not there."""
    for key in path:
        written = written.get(key) if isinstance(written, Mapping) else None
    return written


def _checked(pattern: str, most: int, remedy: str) -> Callable[[str], str]:
    compiled = re.compile(pattern)

    def check(text: str) -> str:
        if len(text) > most or not compiled.fullmatch(text):
            raise problem(f"give {remedy}, found {describe_value(text)}")
        return text

    return check


def _image(value: object) -> ImageReference:
    if isinstance(value, ImageReference):
        return value
    if not isinstance(value, str):
        raise problem(f"give an image, found {describe_value(value)}")
    try:
        return ImageReference.parse(value)
    except InputError as error:
        raise problem(error.message) from error


_LABEL_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?"
_SUBDOMAIN = r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*"

WorkspaceName = Annotated[str, AfterValidator(_checked(
    r"[a-z](?:[a-z0-9-]*[a-z0-9])?", 63,
    "lower-case letters, digits and -, at most 63, a letter first (its Service has the same name)",
))]  # fmt: skip
"""A DNS-1035 label."""
NamespaceName = Annotated[str, AfterValidator(_checked(
    r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?", 63, "lower-case letters, digits and -, at most 63",
))]  # fmt: skip
ObjectName = Annotated[str, AfterValidator(_checked(
    _SUBDOMAIN, 253, "a name of lower-case letters, digits, - and ., at most 253",
))]  # fmt: skip
"""The name of a secret, a ConfigMap, a claim: a DNS-1123 subdomain."""
LabelKey = Annotated[str, AfterValidator(_checked(
    rf"(?:{_SUBDOMAIN}/)?{_LABEL_NAME}", 317, "a label's key such as app or example.com/app",
))]  # fmt: skip
LabelValue = Annotated[str, AfterValidator(_checked(
    rf"(?:{_LABEL_NAME})?", 63, "a label's value: letters, digits, - _ and ., at most 63",
))]  # fmt: skip

Whole = StrictInt
Flag = StrictBool
Count = Annotated[StrictInt, Field(ge=1)]
Number = Annotated[float, Strict(), Field(allow_inf_nan=False)]
Image = Annotated[
    ImageReference,
    PlainValidator(_image),
    PlainSerializer(str, return_type=str),
    WithJsonSchema({"type": "string"}),
]
