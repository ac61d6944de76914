"""Recognisers that were trained elsewhere: given by the user, or trained here on other people for all materials."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import torch
from torch import Tensor

from withhold.networks.checkpoint import load
from withhold.networks.classifier import Classifier
from withhold.networks.extractor import Extractor, of_network, open_extractor, recogniser_from
from withhold.networks.margins import add_head
from withhold.networks.training import Diverged

Learnt = Literal["others", "others and their releases"]
"""What a recogniser was trained on elsewhere: other people's clean pictures, or also their released versions."""


DECIMALS = 3
"""Of embeddings of unit length, by which a recogniser is known again."""


class Elsewhere(Protocol):
    """A recogniser that was trained elsewhere."""

    def extractor(self, device: torch.device) -> Extractor:
        """Return it as it is."""
        ...

    def learner(self, people: int, head: str, seed: int) -> Classifier:
        """Return it with a new head over some people, to be trained.

        Raises:
            InvalidInput: It cannot be trained.
        """
        ...


@dataclass(frozen=True, slots=True)
class Given:
    """A recogniser that the user gave.

    Attributes:
        source: As in `networks.extractor.open_extractor`.
        side: Of the aligned faces.
    """

    source: str
    side: int

    def extractor(self, device: torch.device) -> Extractor:
        """Open it."""
        return open_extractor(self.source, device=device)

    def learner(self, people: int, head: str, seed: int) -> Classifier:
        """Open it and give it a head."""
        return recogniser_from(self.source, people, input_size=self.side, head=head, seed=seed)

    def digest(self, embeddings: Tensor) -> str:
        """Return a SHA-256, in hexadecimal digits, of its file, where it is one, and of what it does.

        A file may leave weights to other files, and a function may treat pixels otherwise than before.

        Args:
            embeddings: That it gives for some pictures; they are rounded, as the last bits depend on the batch.
        """
        held = Path(self.source).read_bytes() if Path(self.source).is_file() else b""
        rounded = embeddings.double().round(decimals=DECIMALS) + 0.0  # no negative zeros
        return hashlib.sha256(held + rounded.numpy().tobytes()).hexdigest()


@dataclass(frozen=True, slots=True)
class Pretrained:
    """A recogniser that was trained here and kept as a weights file; there is none if that training diverged.

    Attributes:
        architecture: Name that `build` knows; a file that names one outside of the package is not believed.
    """

    path: Path
    architecture: str

    def _network(self) -> Classifier:
        if not self.path.is_file():
            msg = "its training on other people diverged"
            raise Diverged(msg)
        return load(self.path, classes=None, architecture=self.architecture).networks[-1]

    def extractor(self, device: torch.device) -> Extractor:
        """Load it."""
        return of_network(self._network().to(device), self.architecture)

    def learner(self, people: int, head: str, seed: int) -> Classifier:
        """Load it and replace its head."""
        network = self._network()
        add_head(network, head, classes=people, seed=seed)
        return network


@dataclass(frozen=True, slots=True, order=True)
class Pretraining:
    """One training on other people.

    Attributes:
        learnt: On what.
    """

    learnt: Learnt
    head: str
    network: str
    seed: int

    @property
    def name(self) -> str:
        """Name it in messages."""
        return f"trained on {self.learnt}, {self.head}, {self.network}, seed {self.seed}"

    @property
    def parts(self) -> tuple[str, ...]:
        """Give the parts of its file's name."""
        return self.learnt, self.head, self.network, f"seed{self.seed}"
