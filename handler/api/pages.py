"""Lists page by page, as OpenAI's clients read them."""

from collections.abc import Sequence
from typing import Annotated, Generic, Literal, Self, TypeVar

from fastapi import Query
from pydantic import BaseModel

from handler.kept.batches import Batch
from handler.kept.files import FileObject

# A page holds no more, whatever is asked for: each item is an object to read.
LARGEST_PAGE = 100

# The last id of the page before.
After = Annotated[str | None, Query(pattern=r"^[0-9A-Za-z_-]{1,80}$")]

_Item = TypeVar("_Item", FileObject, Batch)


class Page(BaseModel, Generic[_Item]):
    """A page of a list."""

    object: Literal["list"] = "list"
    data: list[_Item]
    first_id: str | None
    last_id: str | None
    has_more: bool

    @classmethod
    def of(cls, found: Sequence[_Item], limit: int) -> Self:
        """The first `limit` items of those found, which are one more where there are more."""
        page = list(found[:limit])
        return cls(
            data=page,
            first_id=page[0].id if page else None,
            last_id=page[-1].id if page else None,
            has_more=len(found) > limit,
        )
