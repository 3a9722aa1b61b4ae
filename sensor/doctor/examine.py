"""All checks in the order in which a person would mend what they find."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sensor.doctor import engines, kernel, software

if TYPE_CHECKING:
    from sensor.doctor.finding import Finding, Host


def examine(host: Host) -> list[Finding]:
    """Every check once. None of them raises: what cannot be read is a finding."""
    return [
        kernel.check_root(host),
        kernel.check_kernel(host),
        kernel.check_btf(host),
        *kernel.check_libbpf_and_bpf(host),
        kernel.check_preemption(host),
        kernel.check_failed_execs(host),
        kernel.check_lockdown(host),
        kernel.check_cgroup(host),
        kernel.check_memlock(host),
        software.check_bcc(host),
        software.check_user(host),
        *engines.check_engines(host),
    ]
