"""Write the manual pages of overcommitctl and its verbs, from the program's own help, into a directory.

python3 debian/manual_pages.py DIRECTORY
"""

from __future__ import annotations

import sys
from pathlib import Path

from click_man.core import write_man_pages

from overcommit import __version__
from overcommit.cli.main import overcommitctl

SECTION = 8
"""For commands of the administrator. click-man writes section 1."""


def main(target: Path) -> None:
    """Write one page for the program and one for each verb."""
    write_man_pages("overcommitctl", overcommitctl, version=__version__, target_dir=str(target))
    for page in target.glob("*.1"):
        title, *rest = page.read_text().split("\n")
        text = "\n".join([title.replace('"1"', f'"{SECTION}"', 1), *rest])
        page.with_suffix(f".{SECTION}").write_text(text)
        page.unlink()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
