"""Rules between fields that the API server checks itself (CEL), each with the sentence that a person gets.

They keep the substance of KAITO's webhook. What needs a look-up (a secret, a ConfigMap's content, nodes) is a condition
in status; what looks at annotations is an admission policy, since CEL in a CRD sees of metadata only the name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule."""

    name: str
    """For the table in docs/admission.md."""
    path: str
    """The field it is attached to: dotted, `[]` for items; empty: the Workspace."""
    expression: str
    message: str


_SAME = "self == oldSelf"
_IMAGE = "(has(self.image) && self.image != '')"
"""Given: as in the types, an empty text is not."""
_IS_IMAGE = "!has(self.image) || !self.image.matches('^[A-Za-z][A-Za-z0-9+.-]*://|[[:space:]]')"
"""Placeholders pass: what a reference is exactly, the controller says in status."""
_NOT_AN_IMAGE = "image: give registry/name:tag, without a scheme in front and without spaces"

RULES: Final[tuple[Rule, ...]] = (
    Rule(
        name="name",
        path="",
        expression="self.metadata.name.matches('^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$')",
        message="metadata.name: give lower-case letters, digits and -, at most 63, a letter first; its Service has the"
        " same name",
    ),
    Rule(
        name="inference-or-tuning",
        path="",
        expression="has(self.inference) != has(self.tuning)",
        message="give exactly one of inference and tuning",
    ),
    Rule(
        name="not-toggled",
        path="",
        expression="has(self.inference) == has(oldSelf.inference) && has(self.tuning) == has(oldSelf.tuning)",
        message="inference cannot become tuning, or the other way round; delete the Workspace and apply it anew",
    ),
    Rule(
        name="no-partition-for-tuning",
        path="",
        expression="!has(self.tuning) || !has(self.resource.partition)",
        message="resource.partition: leave it out; it is for serving, not for tuning",
    ),
    Rule(
        name="count-immutable",
        path="resource",
        expression="has(self.count) == has(oldSelf.count) && (!has(self.count) || self.count == oldSelf.count)",
        message="count cannot be changed; delete the Workspace and apply it anew",
    ),
    Rule(
        name="instance-type-immutable",
        path="resource",
        expression="!has(oldSelf.instanceType) || oldSelf.instanceType == '' || (has(self.instanceType) &&"
        " self.instanceType == oldSelf.instanceType)",
        message="instanceType cannot be changed once set; delete the Workspace and apply it anew",
    ),
    Rule(
        name="partition-immutable",
        path="resource",
        expression="has(self.partition) == has(oldSelf.partition) && (!has(self.partition) || self.partition =="
        " oldSelf.partition)",
        message="partition cannot be changed; delete the Workspace and apply it anew",
    ),
    Rule(
        name="label-selector-immutable",
        path="resource.labelSelector",
        expression=_SAME,
        message="labelSelector cannot be changed; delete the Workspace and apply it anew",
    ),
    Rule(
        name="own-label",
        path="resource.labelSelector",
        expression="(has(self.matchLabels) && self.matchLabels.exists(k,"
        " !k.matches('^([a-z0-9.-]+[.])?(kaito[.]sh|kairay[.]dev)/'))) || (has(self.matchExpressions) &&"
        " self.matchExpressions.exists(e, !e.key.matches('^([a-z0-9.-]+[.])?(kaito[.]sh|kairay[.]dev)/')))",
        message="give at least one label of your own under matchLabels, such as app: my-model",
    ),
    Rule(
        name="mig-profile",
        path="resource.partition",
        expression="self.mode != 'mig' || (has(self.profile) && self.profile.matches('^[1-7]g[.][0-9]+gb([+]me)?$'))",
        message="profile: give a MIG profile such as 1g.10gb",
    ),
    Rule(
        name="mig-without-count",
        path="resource.partition",
        expression="self.mode != 'mig' || !has(self.count)",
        message="count: leave it out with mode mig; it belongs to mode accelerator",
    ),
    Rule(
        name="accelerator-count",
        path="resource.partition",
        expression="self.mode != 'accelerator' || has(self.count)",
        message="count: give the number of GPUs of each node to use, 1 or more",
    ),
    Rule(
        name="accelerator-without-profile",
        path="resource.partition",
        expression="self.mode != 'accelerator' || !has(self.profile)",
        message="profile: leave it out with mode accelerator; it belongs to mode mig",
    ),
    Rule(
        name="preset-or-template",
        path="inference",
        expression="has(self.preset) != has(self.template)",
        message="give exactly one of preset and template",
    ),
    Rule(
        name="inference-preset-immutable",
        path="inference",
        expression="has(self.preset) == has(oldSelf.preset) && (!has(self.preset) || self.preset == oldSelf.preset)",
        message="preset cannot be changed, and template not set or unset; delete the Workspace and apply it anew",
    ),
    Rule(
        name="adapter-names",
        path="inference",
        expression="!has(self.adapters) || self.adapters.all(a, self.adapters.exists_one(b, b.source.name =="
        " a.source.name))",
        message="adapters: two have the same name; give each its own",
    ),
    Rule(
        name="replica-bounds",
        path="inference.scaling",
        expression="!has(self.minReplicas) || !has(self.maxReplicas) || self.minReplicas <= self.maxReplicas",
        message="give maxReplicas that is minReplicas or more",
    ),
    Rule(
        name="adapter-strength",
        path="inference.adapters[]",
        expression="!has(self.strength) || self.strength == '' ||"
        " (self.strength.matches('^([0-9]+[.]?[0-9]*|[.][0-9]+)([eE][-+]?[0-9]{1,3})?$') && double(self.strength)"
        " <= 1.0)",
        message="strength: give a number from 0 to 1 in quotes",
    ),
    Rule(
        name="adapter-source",
        path="inference.adapters[].source",
        expression=f"{_IMAGE} != has(self.volumeSource)",
        message="give exactly one of image and volumeSource",
    ),
    Rule(
        name="adapter-image", path="inference.adapters[].source", expression=_IS_IMAGE, message=_NOT_AN_IMAGE
    ),
    Rule(
        name="adapter-urls",
        path="inference.adapters[].source",
        expression="!has(self.urls) || size(self.urls) == 0",
        message="urls: leave it out; an adapter comes from image or volumeSource",
    ),
    Rule(
        name="inference-preset-name",
        path="inference.preset",
        expression="self.name != ''",
        message="name: give a model such as phi-3-mini-128k-instruct; `kairay presets` lists them",
    ),
    Rule(
        name="tuning-preset-name",
        path="tuning.preset",
        expression="self.name != ''",
        message="name: give a model such as phi-3-mini-128k-instruct; `kairay presets` lists them",
    ),
    Rule(
        name="tuning-preset-immutable",
        path="tuning.preset",
        expression=_SAME,
        message="preset cannot be changed; delete the Workspace and apply it anew",
    ),
    Rule(
        name="method-immutable",
        path="tuning",
        expression="self.method.lowerAscii() == oldSelf.method.lowerAscii()",
        message="method cannot be changed; delete the Workspace and apply it anew",
    ),
    Rule(
        name="input",
        path="tuning.input",
        expression="[has(self.urls) && size(self.urls) > 0, has(self.volumeSource),"
        f" {_IMAGE}].filter(x, x).size() == 1",
        message="give exactly one of urls, volumeSource and image",
    ),
    Rule(
        name="input-name-immutable",
        path="tuning.input",
        expression="!has(oldSelf.name) || (has(self.name) && self.name == oldSelf.name)",
        message="name cannot be changed once set; delete the Workspace and apply it anew",
    ),
    Rule(
        name="input-urls",
        path="tuning.input",
        expression="!has(self.urls) || self.urls.all(u, isURL(u) && url(u).getScheme() in ['http', 'https'])",
        message="urls: give http(s) addresses",
    ),
    Rule(name="input-image", path="tuning.input", expression=_IS_IMAGE, message=_NOT_AN_IMAGE),
    Rule(name="output-image", path="tuning.output", expression=_IS_IMAGE, message=_NOT_AN_IMAGE),
    Rule(
        name="output",
        path="tuning.output",
        expression=f"{_IMAGE} != has(self.volumeSource)",
        message="give exactly one of image and volumeSource",
    ),
    Rule(
        name="push-secret",
        path="tuning.output",
        expression=f"!{_IMAGE} || (has(self.imagePushSecret) && self.imagePushSecret != '')",
        message="imagePushSecret: required with image; name the registry secret that may push to it",
    ),
)
