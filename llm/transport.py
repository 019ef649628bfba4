"""One HTTP request to an endpoint, bounded as a whole, past proxies where the endpoint is on this machine."""

from __future__ import annotations

import ipaddress
import os
import re
import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as LateError
from importlib.util import find_spec
from typing import Any, NamedTuple
from urllib.parse import urlsplit

NO_PROXIES = {"http": "", "https": "", "all": ""}


class TransientError(Exception):
    """A failure that may pass.

    pause: seconds that the endpoint asks to wait.  busy: the endpoint is there and says "later", so that a limit on
    attempts makes no sense.
    """

    def __init__(self, message: str, pause: float = 0.0, busy: bool = False) -> None:
        """Keep what came back instead of an answer."""
        super().__init__(message)
        self.pause, self.busy = pause, busy


class Response(NamedTuple):
    """What came back for a request."""

    status: int
    headers: Mapping[str, str]  # case does not matter
    content: bytes


def send(url: str, body: Any, headers: Mapping[str, str], longest: float, most_bytes: int) -> Response:
    """POST a body, or GET where it is None; raises TransientError.

    longest: seconds for the whole, and not for each byte: an endpoint that sends one now and then, in its headers too,
    never times out. The thread that reads these is left behind.
    """
    import requests
    import urllib3

    outcome: Future[Response] = Future()
    end = time.monotonic() + longest

    def authorize(request: Any) -> Any:  # as a callable, so that no .netrc takes the key's place
        request.headers.update(headers)
        return request

    def exchange() -> None:
        try:
            with requests.request(
                "GET" if body is None else "POST", url, json=body, auth=authorize, timeout=(10, longest), stream=True,
                allow_redirects=False, proxies=NO_PROXIES if is_loopback(url) else None,
            ) as response:  # fmt: skip
                content = b""
                while piece := response.raw.read1(65536, decode_content=True):  # returns what has come so far
                    content += piece
                    if len(content) > most_bytes:
                        raise TransientError(f"a reply of more than {most_bytes:,} bytes")
                    if time.monotonic() > end:
                        return  # nobody waits for it any more
                outcome.set_result(Response(response.status_code, response.headers, content))
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            outcome.set_exception(TransientError(type(error).__name__))
        except BaseException as error:
            outcome.set_exception(error)

    threading.Thread(target=exchange, daemon=True).start()
    try:
        return outcome.result(longest)
    except LateError:
        raise TransientError(f"a reply that was not complete after {longest:.0f} s") from None


def is_loopback(url: str) -> bool:
    """Return whether a URL is of this machine, which no proxy can reach."""
    host = urlsplit(url).hostname or ""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
    return address.is_loopback or address.is_unspecified


def check_proxy(url: str) -> None:
    """Raise ValueError where the environment's proxy for a URL cannot be used; the text names the variable alone."""
    from requests.utils import get_environ_proxies, select_proxy

    proxy = None if is_loopback(url) else select_proxy(url, get_environ_proxies(url))
    if not proxy:
        return
    names = [
        spelled for name in (urlsplit(url).scheme, "all") for spelled in (f"{name}_proxy", f"{name}_PROXY".upper())
    ]
    variable = next(filter(os.environ.get, names), "the system's settings")
    try:
        parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        known = parts.scheme in ("http", "https", "socks4", "socks4a", "socks5", "socks5h")
        if not (known and re.fullmatch(r"[\w.:-]+", parts.hostname or "") and ("://" in proxy or parts.port)):
            raise ValueError
    except ValueError:
        raise ValueError(
            f"the proxy in {variable} is not a URL such as http://127.0.0.1:3128; correct or unset it"
        ) from None
    if parts.scheme.startswith("socks") and not find_spec("socks"):
        raise ValueError(f"the proxy in {variable} speaks SOCKS, for which a package is missing: pip install pysocks")
