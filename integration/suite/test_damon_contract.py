"""The contract tests of DAMON on the host VM's real kernel: the same file that holds the fake to account."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from integration.lab import paths

if TYPE_CHECKING:
    from integration.suite.host import Host

pytestmark = pytest.mark.quick


def test_the_real_kernel_keeps_the_contract(host: Host) -> None:
    """Every refusal and every effect that the program relies on."""
    found = host.damon()
    host.shell("rm -rf /var/tmp/contract && mkdir -p /var/tmp/contract/tests")
    host.lab.put(paths.CHECKOUT / "tests/contract", "/var/tmp/contract/tests/contract")
    # The mark lets the tests take DAMON; no host keeps it that is not the lab's.
    result = host.lab.run(
        "cd /var/tmp/contract && [ -e /etc/overcommit-lab ] || trap 'rm -f /etc/overcommit-lab' EXIT; "
        "touch /etc/overcommit-lab; python3 -m pytest -p no:cacheprovider "
        "--import-mode=importlib --rootdir . -q --real-damon tests/contract",
        check=False,
        timeout=600,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert host.damon() == found
