"""`python -m kairay.crd`: write the generated files of kuberay and docs/admission.md of this checkout."""

from __future__ import annotations

import sys
from pathlib import Path

from kairay.crd.install import COPIED, GENERATED, copy_of, text_of


def main(folder: Path) -> int:
    """Write them below `folder`, the project's root."""
    texts = {name: text_of(name) for name in GENERATED}
    texts |= {name: copy_of(source, (folder / source).read_text("utf-8")) for name, source in COPIED.items()}
    for name, text in texts.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
        print(path.relative_to(folder))  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main(Path.cwd()))
