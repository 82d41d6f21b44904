"""Reads a form with a file in it, as OpenAI's clients send files."""

from collections.abc import Collection

from fastapi import Request
from python_multipart.multipart import parse_options_header
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException

from handler.api.validation import printable
from handler.errors import InvalidRequestError


async def read_form(
    request: Request, file_field: str, text_fields: Collection[str] = ()
) -> tuple[str, bytes, dict[str, str]]:
    """A form's file and its other fields.

    Args:
        request: the request.
        file_field: the field that holds the file.
        text_fields: the other fields there may be.

    Returns:
        The file's name and content, and the text of each other field that is there.

    Raises:
        InvalidRequestError: the body is no form, there is no file, or a field is unknown or of the wrong kind.
    """
    # Python knows encodings that make no text, or break in ways the parser does not expect.
    charset = parse_options_header(request.headers.get("content-type"))[1].get(b"charset", b"utf-8").decode("latin-1")
    if charset.lower() != "utf-8":
        raise InvalidRequestError(f"The body must be UTF-8; given: the charset `{printable(charset)}`.")
    try:
        async with request.form(max_files=1, max_fields=len(text_fields) + 1) as form:
            unknown = sorted(set(form) - {file_field, *text_fields})
            if unknown:
                name = printable(unknown[0])
                raise InvalidRequestError(f"Unknown field: `{name}`.", param=name)
            if file_field not in form:
                raise InvalidRequestError(f"`{file_field}` is required.", param=file_field)
            upload = form[file_field]
            if not isinstance(upload, UploadFile):
                raise InvalidRequestError(
                    f"`{file_field}` must be a file with a name; given: a text.", param=file_field
                )
            texts = {}
            for name in text_fields:
                text = form.get(name)
                if isinstance(text, UploadFile):
                    raise InvalidRequestError(f"`{name}` must be a text; given: a file.", param=name)
                if text is not None:
                    texts[name] = text
            return upload.filename or "file", await upload.read(), texts
    except HTTPException as error:
        raise InvalidRequestError(f"The body must be multipart/form-data: {printable(error.detail)}") from error
