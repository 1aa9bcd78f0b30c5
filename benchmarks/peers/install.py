"""One environment a peer, under ``benchmarks/peers/.venvs``: what the main environment has, and the peer on top.

    python benchmarks/peers/install.py [captum dattri opacus kronfluence bergson]

Each sees the packages of the environment this runs in, so that a peer is measured on the same torch, transformers and
peft, and installs only what that lacks. ``constraints.txt`` applies: a peer that asks for another version is an error
here, not another torch there. What is already installed is left alone.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

HERE = Path(__file__).resolve().parent
ENVIRONMENTS = HERE / ".venvs"
PEERS = tuple(sorted(path.stem for path in HERE.glob("*.txt")))


def python_of(peer: str) -> Path:
    """The interpreter of a peer's environment, which may not be there yet."""
    return ENVIRONMENTS / peer / "bin" / "python"


def install(peer: str) -> None:
    """Make or complete the environment of one peer.

    Raises:
        subprocess.CalledProcessError: pip cannot install it under the constraints.
    """
    folder, requirements = ENVIRONMENTS / peer, HERE / f"{peer}.txt"
    stamp = folder / ".installed"
    if stamp.exists() and stamp.read_text() == requirements.read_text():
        return
    venv.EnvBuilder(with_pip=False, clear=True).create(folder)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    shared = folder / "lib" / version / "site-packages" / "shared.pth"
    shared.write_text(sysconfig.get_paths()["purelib"] + "\n")
    # The pip of the main environment, run by the peer's interpreter: it installs there and sees what is shared.
    command = [str(python_of(peer)), "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps"]
    subprocess.run([*command, "-c", str(HERE.parents[1] / "constraints.txt"), "-r", str(requirements)], check=True)
    stamp.write_text(requirements.read_text())


def main() -> None:
    """Install the peers named, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peers", nargs="*", default=PEERS, help=", ".join(PEERS))
    for peer in parser.parse_args().peers:
        if peer not in PEERS:
            parser.error(f"no peer {peer!r}; known: {', '.join(PEERS)}")
        print(f"{peer} -> {ENVIRONMENTS / peer}", flush=True)
        install(peer)


if __name__ == "__main__":
    main()
