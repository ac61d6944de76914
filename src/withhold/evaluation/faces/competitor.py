"""A competitor who trains face recognisers: its means, and training with them."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from withhold.evaluation.competitor import Labelled
from withhold.evaluation.faces.elsewhere import Elsewhere
from withhold.networks.classifier import Classifier
from withhold.networks.extractor import Extractor
from withhold.networks.recipe import Recipe, recipe_for
from withhold.networks.table import build
from withhold.networks.tensor_data import TensorData
from withhold.networks.training import EpochResult, train
from withhold.seeds import derive_seed

OnEpoch = Callable[[Classifier, EpochResult], None]

Trained = Classifier | Extractor
"""A recogniser: one that was trained here, or one that came from elsewhere as it is."""


@dataclass(frozen=True, slots=True)
class Means:
    """What is the same for every recogniser that a competitor trains.

    Attributes:
        network: Name that `build` knows.
        head: Its loss: `softmax`, `cosface` or `arcface`.
        side: Of the aligned faces.
        epochs: Of each training; by the recipe if None.
    """

    network: str
    head: str
    side: int
    seed: int
    device: torch.device
    epochs: int | None = None
    compiled: bool = False

    def new_network(self, people: int) -> Classifier:
        """Build an untrained recogniser of some people."""
        return build(
            self.network, people, input_size=self.side, head=self.head, seed=derive_seed(self.seed, "recogniser")
        )

    def recipe(self, pictures: int, *, fine_tuned: bool = False) -> Recipe:
        """Choose the recipe.

        Args:
            pictures: That it is trained on.
            fine_tuned: It has learnt to recognise people before.
        """
        return recipe_for(self.network, pictures, epochs=self.epochs, pretrained=fine_tuned)

    def train(
        self, network: Classifier, pictures: Labelled, *, fine_tuned: bool = False, on_epoch: OnEpoch | None = None
    ) -> Classifier:
        """Train a recogniser in place on pictures of the people it is to tell apart; return it in evaluation mode.

        Raises:
            Diverged: The loss is no longer finite.
        """

        def told(result: EpochResult) -> None:
            if on_epoch is not None:
                on_epoch(network.eval(), result)

        train(
            network,
            TensorData(pictures.images, pictures.labels, network.classes),
            self.recipe(len(pictures), fine_tuned=fine_tuned),
            seed=derive_seed(self.seed, "training"),
            device=self.device,
            on_epoch=told,
            compiled=self.compiled,
        )
        return network.eval()


@dataclass(frozen=True, slots=True, eq=False)
class FaceCompetitor:
    """What a competitor works with: neither test pictures nor pairs, nor the originals of what was published.

    Attributes:
        identities: The owner's people; their labels are in [0, identities).
        others: Clean pictures of other people, numbered from 0; empty where a scenario has none.
        old: Clean pictures of the owner's people that were published before; empty where a scenario has none.
        elsewhere: A recogniser that was trained elsewhere; None where a scenario has none.
        on_epoch: Called with each recogniser of the owner's people, in evaluation mode, after each epoch.
    """

    means: Means
    identities: int
    others: Labelled
    old: Labelled
    elsewhere: Elsewhere | None
    on_epoch: OnEpoch

    def train(self, pictures: Labelled, people: int | None = None) -> Classifier:
        """Train a new recogniser on pictures.

        Args:
            people: In the pictures, the owner's first; only these if absent.

        Raises:
            Diverged: The loss is no longer finite.
        """
        network = self.means.new_network(people or self.identities)
        return self.means.train(network, pictures, on_epoch=self.on_epoch)

    def fine_tune(self, pictures: Labelled) -> Classifier:
        """Give the recogniser that was trained elsewhere a new head over the owner's people, and train all of it.

        Raises:
            InvalidInput: It cannot be trained.
            Diverged: The loss is no longer finite.
        """
        assert self.elsewhere is not None
        head_seed = derive_seed(self.means.seed, "fine-tuned head")
        network = self.elsewhere.learner(self.identities, self.means.head, head_seed)
        return self.means.train(network, pictures, fine_tuned=True, on_epoch=self.on_epoch)

    def recogniser(self) -> Extractor:
        """Return the recogniser that was trained elsewhere, as it is."""
        assert self.elsewhere is not None
        return self.elsewhere.extractor(self.means.device)
