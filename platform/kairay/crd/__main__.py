"""`python -m kairay.crd`: write the generated files of kuberay/install and docs/admission.md of this checkout."""

from __future__ import annotations

import sys
from pathlib import Path

from kairay.crd.install import GENERATED, text_of


def main(folder: Path) -> int:
    """Write what differs below `folder`, the project's root."""
    for name in GENERATED:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text_of(name), "utf-8")
        print(path.relative_to(folder))  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main(Path.cwd()))
