"""One log line and one sample of the metrics for each request; 500 for what nobody caught."""

from time import perf_counter

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app import errors, logs
from app.http import metrics, problems
from app.http.rate_limits import BYTES_OF_AN_ANSWER

CLIENT_LEFT = 499  # nginx's number: logged and counted when the client closed the connection first; never sent


class AccessLog:
    """Writes one line and one sample per request, by route template; responds with 500 to what nobody caught."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one connection; other protocols than HTTP pass."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        started = perf_counter()
        status = CLIENT_LEFT
        sent = 0

        async def watch(message: Message) -> None:
            nonlocal status, sent
            if message["type"] == "http.response.start":
                status = message["status"]
            sent += len(message.get("body", b""))
            await send(message)

        metrics.IN_PROGRESS.inc()
        try:
            await self.app(scope, receive, watch)
        except ClientDisconnect:
            pass  # nobody is there to respond to
        except Exception as exception:  # the last place where a fault of ours becomes a 500 and a line
            request_id = scope["state"]["request_id"]
            logs.error("unexpected", exception, request_id=request_id, route=_template(scope))
            if status == CLIENT_LEFT:  # no response has begun: after the first byte it is too late for another
                await problems.respond(errors.Internal(), request_id)(scope, receive, watch)
        finally:
            metrics.IN_PROGRESS.dec()
            if sent >= BYTES_OF_AN_ANSWER:
                scope["state"]["charge"](sent // BYTES_OF_AN_ANSWER)
            _record(scope, status, perf_counter() - started, sent)


def _template(scope: Scope) -> str | None:
    """The matched route as it was declared; FastAPI keeps an included router's, with its prefix, apart.

    The address itself names patients and records, and goes neither to the log nor to the metrics.
    """
    route = scope.get("fastapi", {}).get("effective_route_context") or scope.get("route")
    return getattr(route, "path_format", None)


def _record(scope: Scope, status: int, seconds: float, sent: int) -> None:
    route = _template(scope)
    metrics.observe(scope["method"], route, status, seconds)
    logs.info(
        "request",
        request_id=scope["state"]["request_id"],
        method=scope["method"],
        route=route,
        status=status,
        milliseconds=round(seconds * 1000, 2),
        bytes=sent,
    )
