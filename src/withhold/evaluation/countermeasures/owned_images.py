"""The clean images that a competitor needs for some countermeasures."""

from withhold.errors import InvalidInput
from withhold.evaluation.competitor import Competitor, Labelled


def owned_images(competitor: Competitor, count: int) -> Labelled:
    """Take the first `count` of the competitor's own clean images.

    Raises:
        InvalidInput: The competitor has fewer, or none are asked for.
    """
    if not 1 <= count <= len(competitor.clean):
        msg = (
            f"this countermeasure takes {count} clean images of the competitor's own, at least one; "
            f"the competitor has {len(competitor.clean)}."
        )
        raise InvalidInput(msg)
    return Labelled(competitor.clean.images[:count], competitor.clean.labels[:count])
