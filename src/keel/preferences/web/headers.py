"""What browsers are told never to do with what we send."""

from collections.abc import Mapping

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

PAGE_POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "font-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types keel",  # the one place in our scripts that makes HTML: it takes what the server has cleaned
    ]
)
API_POLICY = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
_NOT_NEEDED = (
    "accelerometer autoplay camera display-capture encrypted-media fullscreen geolocation gyroscope "
    "magnetometer microphone midi payment publickey-credentials-get screen-wake-lock usb xr-spatial-tracking"
).split()
_ALWAYS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": ", ".join(f"{name}=()" for name in _NOT_NEEDED),
    "X-Robots-Tag": "noindex, nofollow",
}


def headers_for(path: str) -> Mapping[str, str]:
    """The headers of an answer at this path, whatever it is.

    With no-referrer browsers send `Origin: null` with a form, so pages, which have forms, send a Referer to ourselves.
    """
    if path.startswith("/static/"):
        return {**_ALWAYS, "Content-Security-Policy": API_POLICY, "Referrer-Policy": "no-referrer"}
    private = {**_ALWAYS, "Cache-Control": "no-store"}
    if path.startswith("/api/"):
        return {**private, "Content-Security-Policy": API_POLICY, "Referrer-Policy": "no-referrer"}
    return {**private, "Content-Security-Policy": PAGE_POLICY, "Referrer-Policy": "same-origin"}


class Headers:
    """Adds them to every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(headers_for(scope["path"]))
            await send(message)

        await self._app(scope, receive, with_headers)
