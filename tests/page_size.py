"""A pytest plugin that stands in for a kernel with other pages: ``pytest -p tests.page_size``.

The program asks the kernel once, on its first import. It is for tests on fakes: the real kernel of this
machine keeps its own pages.
"""

from __future__ import annotations

import mmap
import os

mmap.PAGESIZE = int(os.environ["PAGE_SIZE_UNDER_TEST"])  # type: ignore[misc]
