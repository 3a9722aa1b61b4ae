"""What checkov finds in the manifests, held against the findings that are known and the reasons why they stay.

A finding without a reason here fails, and so does a reason whose finding is gone.

usage: checkov_findings.py CHECKOV
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import kubernetes_tools

KUBERNETES = Path(__file__).parents[2] / "deploy/kubernetes"

PRIVILEGED = "the base only, for runtimes that do not know CAP_BPF: least-privilege does without"
ROOT = "loading a program needs root's capabilities; it becomes nobody itself, which nobody can see from outside"
REGISTRY = "the registry is the user's: where its digest is named, this is decided"
EVERYWHERE = {
    "CKV_K8S_15": REGISTRY,
    "CKV_K8S_17": "the kernel tells process ids of the host, and those who ran before are looked up by them",
    "CKV_K8S_23": ROOT,
    "CKV_K8S_40": ROOT,
    "CKV_K8S_43": REGISTRY,
}
REASONS = {
    "base": EVERYWHERE
    | dict.fromkeys(
        (f"CKV_K8S_{number}" for number in (16, 20, 28, 29, 31, 37)),
        PRIVILEGED,
    ),
    "overlays/least-privilege": EVERYWHERE
    | {"CKV_K8S_25": "the six named capabilities, which are dropped after the start"},
}


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")


def findings(checkov: str, folder: Path) -> dict[str, str]:
    """Each failed check of a kustomization: its number and what it wants."""
    kubectl = kubernetes_tools.find("kubectl")
    if kubectl is None:
        sys.exit(kubernetes_tools.MISSING.format("kubectl"))
    rendered = subprocess.run([kubectl, "kustomize", folder], stdout=subprocess.PIPE, check=True)
    with tempfile.NamedTemporaryFile(suffix=".yaml") as file:
        file.write(rendered.stdout)
        file.flush()
        ran = subprocess.run(
            [
                *(checkov, "--file", file.name, "--framework", "kubernetes"),
                *("--output", "json", "--quiet", "--compact", "--soft-fail"),
                "--skip-download",  # it would ask its maker for descriptions
            ],
            stdout=subprocess.PIPE,
            check=True,
        )
    result = json.loads(ran.stdout)
    assert result["summary"]["parsing_errors"] == 0
    assert result["summary"]["passed"] > 0
    return {each["check_id"]: each["check_name"] for each in result["results"]["failed_checks"]}


def main(checkov: str) -> int:
    good = True
    for name, reasons in REASONS.items():
        found = findings(checkov, KUBERNETES / name)
        say(f"{name}: {len(found)} findings")
        for check in sorted(found.keys() | reasons.keys()):
            if check not in reasons:
                good = False
                say(f"  {check}  NEW: {found[check]}")
            elif check not in found:
                good = False
                say(f"  {check}  is found no more: its reason can go")
            else:
                say(f"  {check}  {found[check]}: {reasons[check]}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
