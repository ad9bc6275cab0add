"""The ConfigMap with the file that a tuning job's driver reads. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from kairay.objects.metadata import Manifest, Owner

TUNE_FILE = "tune.json"


def tune_config_map(owner: Owner, name: str, config: Mapping[str, Any]) -> Manifest:
    """`config` is `kairay_train.config.TuneConfig` as JSON."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": owner.metadata(name),
        "data": {TUNE_FILE: json.dumps(config, indent=2, sort_keys=True) + "\n"},
    }
