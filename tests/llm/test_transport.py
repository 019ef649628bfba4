"""A request is bounded as a whole, and no proxy stands between it and this machine."""

import socket
import threading
from contextlib import suppress

import pytest

from llm.endpoint import Endpoint, LLMError
from llm.transport import TransientError, check_proxy, is_loopback, send

PROXIES = [f"{name}_{end}" for name in ("HTTP", "HTTPS", "ALL", "NO") for end in ("PROXY", "proxy")]


@pytest.fixture
def environment(monkeypatch):
    for name in PROXIES:
        monkeypatch.delenv(name.lower(), raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    return monkeypatch


@pytest.fixture
def dripping():
    """A server that sends a byte now and then, after what it is told to begin with, until its client is gone."""
    server = socket.create_server(("127.0.0.1", 0))
    server.settimeout(5)  # on a busy machine the client may have given up before it came

    def serve(begin, done):
        with suppress(OSError), server, server.accept()[0] as connection:
            connection.sendall(begin)
            while not done.wait(0.01):
                connection.sendall(b"x")

    done = threading.Event()
    threads = []

    def start(begin):
        threads.append(threading.Thread(target=serve, args=(begin, done), daemon=True))
        threads[0].start()
        return f"http://127.0.0.1:{server.getsockname()[1]}/v1"

    yield start
    done.set()
    threads[0].join()


@pytest.mark.parametrize(
    "begin",
    [b"HTTP/1.1 ", b"HTTP/1.1 200 OK\r\nA: ", b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n",
     b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"],
    ids=["status", "header", "body", "length of a chunk"],
)  # fmt: skip
def test_a_reply_that_trickles_is_bounded_as_a_whole(dripping, begin):
    with pytest.raises(TransientError, match="not complete after 0 s"):
        send(dripping(begin), {}, {}, longest=0.2, most_bytes=10**6)


def test_a_silent_endpoint_times_out_and_one_that_thinks_gets_more_time(serve, monkeypatch):
    monkeypatch.setattr(Endpoint, "longest_wait", 0.1)
    monkeypatch.setattr(Endpoint, "longest_token", 0.0)
    server = serve(delay=0.3)
    with pytest.raises(LLMError, match=r"no answer in 1 attempts, at last (ReadTimeout|a reply that was not complete)"):
        Endpoint(server.url, "m").complete([], 0.7)
    monkeypatch.setattr(Endpoint, "longest_token", 9 / 400)
    assert Endpoint(server.url, "m").complete([], 0.7)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "[::1]", "localhost", "a.Localhost", "0.0.0.0"])
def test_this_machine(host):
    assert is_loopback(f"http://{host}:8000/v1")


@pytest.mark.parametrize("host", ["example.org", "10.0.0.1", "localhost.example.org", "[::2]", "127.0.0.1.example.org"])
def test_another_machine(host):
    assert not is_loopback(f"http://{host}:8000/v1")


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"])
@pytest.mark.parametrize("proxy", ["http://127.0.0.1:9", "socks5://127.0.0.1:9", "nonsense"])
def test_an_endpoint_on_this_machine_is_reached_past_any_proxy(serve, environment, variable, proxy):
    environment.setenv(variable, proxy)
    assert Endpoint(serve().url, "m").complete([], 0.7)


@pytest.mark.parametrize(
    ("url", "variable", "used"),
    [
        ("http://h.test/v1", "HTTP_PROXY", True),
        ("http://h.test/v1", "http_proxy", True),
        ("https://h.test/v1", "HTTPS_PROXY", True),
        ("https://h.test/v1", "all_proxy", True),
        ("http://h.test/v1", "HTTPS_PROXY", False),
    ],
)
@pytest.mark.parametrize("proxy", ["nonsense", "http://", "ftp://p:21", "http://[::1", "p:x", "http://a b:1", "://"])
def test_a_proxy_that_is_no_url_is_told_by_its_variable(environment, url, variable, used, proxy):
    environment.setenv(variable, proxy)
    if not used:
        check_proxy(url)
        return
    with pytest.raises(ValueError, match=f"the proxy in {variable} is not a URL") as raised:
        Endpoint(url, "m")
    assert proxy not in str(raised.value).replace("http://127.0.0.1:3128", "")


@pytest.mark.parametrize(
    "proxy", ["p:3128", "http://p", "https://me:pass@p.test:1", "http://[::1]:8080", "http://1.2.3.4"]
)
def test_a_proxy_that_can_be_used(environment, proxy):
    environment.setenv("HTTPS_PROXY", proxy)
    check_proxy("https://h.test/v1")


def test_a_proxy_that_speaks_socks_needs_a_package(environment):
    environment.setenv("ALL_PROXY", "socks5h://me:pass@p.test:1080")
    environment.setattr("llm.transport.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"^the proxy in ALL_PROXY speaks SOCKS.*pip install pysocks$"):
        Endpoint("https://h.test/v1", "m")
    environment.setattr("llm.transport.find_spec", lambda name: name)
    check_proxy("https://h.test/v1")
    environment.setenv("NO_PROXY", "h.test")
    environment.setattr("llm.transport.find_spec", lambda name: None)
    check_proxy("https://h.test/v1")
