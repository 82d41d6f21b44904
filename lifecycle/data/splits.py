"""Which documents are trained on, which watch over the training, and which judge the result.

A document's own fingerprint decides, so the choice is random and yet always the same, wherever else the document
turns up: no run of `prepare` with these shares puts into training what another one put into the test.
"""

from dataclasses import dataclass

from handler.errors import InvalidRequestError
from lifecycle.data.fingerprints import RANGE


@dataclass(frozen=True, slots=True)
class Shares:
    """The shares of the documents, from above 0 to 0.5 each, that are held out.

    Attributes:
        validation: for choosing among models.
        test: for judging the one that was chosen.
    """

    validation: float = 0.05
    test: float = 0.05

    def __post_init__(self) -> None:
        for name in ("validation", "test"):
            if not 0 < (value := getattr(self, name)) <= 0.5:
                raise InvalidRequestError(f"{name}: must be above 0 and at most 0.5, got {value}", param=name)

    def split_of(self, fingerprint: int) -> str:
        """The split of a document: the lowest fingerprints are the test, the highest the validation."""
        place = fingerprint / RANGE
        if place < self.test:
            return "test"
        return "validation" if place >= 1 - self.validation else "training"
