"""How long an image takes, from what was measured."""

FIRST_GUESS = 1.0
"""Seconds that an image is taken to need before the first was measured."""

OLD_SHARE = 0.9
"""Of the mean, kept when another image is measured."""


class RunningMean:
    """A mean in which a measurement counts the less the older it is.

    Attributes:
        seconds: The mean; a guess before the first measurement.
    """

    def __init__(self) -> None:
        self.seconds = FIRST_GUESS
        self._measured = False

    def add(self, seconds: float) -> None:
        """Take a measurement into account."""
        self.seconds = OLD_SHARE * self.seconds + (1 - OLD_SHARE) * seconds if self._measured else seconds
        self._measured = True
