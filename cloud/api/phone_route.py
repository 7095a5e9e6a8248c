"""A route that is asked so often that FastAPI's general way to find a function's arguments, three
times as long as the work itself, is left out; documented and ruled by like any other route."""

import inspect
from collections.abc import Callable, Coroutine
from typing import Any, Final

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError

from cloud.api.access import presented_session, signed_in_attendee

_ARGUMENTS: Final = frozenset({"request", "session", "body"})


class PhoneRoute(APIRoute):
    """Of a coroutine that takes the `request`, the presented `session`, perhaps a JSON `body`, and
    answers with a `Response`. A function of any other shape is FastAPI's own business."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        endpoint: Callable[..., Any] = self.endpoint
        parameters = inspect.signature(endpoint).parameters
        if not (inspect.iscoroutinefunction(endpoint) and parameters.keys() <= _ARGUMENTS):
            return super().get_route_handler()
        model = parameters["body"].annotation if "body" in parameters else None
        assert model is None or issubclass(model, BaseModel), "a body is one model"

        async def handle(request: Request) -> Response:
            arguments: dict[str, Any] = {
                "request": request,
                "session": await presented_session(request),
            }
            if model is not None:
                try:
                    arguments["body"] = await _read(request, model)
                except RequestValidationError:
                    # Whoever is not signed in hears that, and nothing of what a body should be.
                    await signed_in_attendee(request)
                    raise
            return await endpoint(**arguments)

        return handle


async def _read(request: Request, model: type[BaseModel]) -> BaseModel:
    """The body, in the form that the document gives it; raises RequestValidationError otherwise.

    Nothing but JSON: another site's page can send forms and plain text without asking.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        said = {"type": "not_json", "loc": ("body",), "msg": "not sent as application/json"}
        raise RequestValidationError([said])
    try:
        return model.model_validate_json(await request.body())
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
        raise RequestValidationError(
            [{**each, "loc": ("body", *each["loc"])} for each in found]
        ) from error
