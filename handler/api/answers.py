"""What the answers of completions and chat completions have in common."""

import time
import uuid
from typing import Any

from fastapi import Response
from pydantic import BaseModel

from handler.api.completion_schemas import Usage
from handler.completion import Choice, Completion, Piece
from handler.service import TextService
from handler.stream import TextStream


def about(answer: Completion | TextStream, service: TextService, kind: str) -> dict[str, Any]:
    """What every answer, and every chunk of one, begins with; `kind` begins its id."""
    return {
        "id": f"{kind}-{uuid.uuid4().hex}",
        "created": int(time.time()),
        "model": service.model.name,
        "system_fingerprint": service.fingerprint(answer.engine),
    }


def written(answer: BaseModel) -> Response:
    """An answer as JSON, written in the thread that made it: FastAPI writes what it is given on the event loop."""
    return Response(answer.model_dump_json(), media_type="application/json")


def finish_of(choice: Choice | Piece) -> dict[str, Any]:
    """Why a choice is finished: clients know two reasons, and the third is told in a field of its own."""
    late = choice.finish_reason == "deadline"
    return {"finish_reason": "length" if late else choice.finish_reason, "cut_by": "deadline" if late else None}


def usage_of(answer: Completion | TextStream) -> Usage:
    """Tokens read, and tokens given out."""
    return Usage(
        prompt_tokens=answer.prompt_tokens,
        completion_tokens=answer.completion_tokens,
        total_tokens=answer.prompt_tokens + answer.completion_tokens,
    )
