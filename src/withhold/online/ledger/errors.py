"""What a ledger refuses, and that it cannot be reached."""

from withhold.errors import InvalidInput, WithholdError


class LedgerUnavailable(WithholdError):
    """The database cannot be reached, or does not answer as it should; trying again later may help."""

    exit_code = 3


class UnknownClient(InvalidInput):
    """There is no client of this name, or its token was revoked."""


class QuotaExceeded(WithholdError):
    """A client asked for more images than it may have on one day; nothing was reserved.

    Attributes:
        used: Images of this day, reserved ones among them.
        images_per_day: What the client may have.
        retry_after: Whole seconds until the day ends, in UTC; at least 1.
    """

    def __init__(self, wanted: int, used: int, images_per_day: int, retry_after: int) -> None:
        super().__init__(
            f"the quota is {images_per_day} images per day (UTC), {used} are used and {wanted} were asked for; "
            f"the next day begins in {retry_after} s"
        )
        self.used = used
        self.images_per_day = images_per_day
        self.retry_after = retry_after


class PairLimitReached(WithholdError):
    """A client would hold more pairs of original and released image than it may; nothing was reserved.

    Attributes:
        held: Pairs that it could hold now, reserved ones among them.
        limit: What it may hold.
    """

    def __init__(self, wanted: int, held: int, limit: int) -> None:
        super().__init__(
            f"the limit is {limit} pairs of original and released image, {held} are held and {wanted} more were asked "
            "for; pairs undo protection, so whoever keeps this service decides whether to raise it"
        )
        self.held = held
        self.limit = limit


class IdempotencyConflict(WithholdError):
    """An idempotency key was used before, for other images, labels, speeds or another protector."""


class NotReserved(WithholdError):
    """What is to be recorded was never reserved, or was given back."""
