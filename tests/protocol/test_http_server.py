import http.client
import socket
import threading
import time

import pytest

from protocol import http_server
from protocol.errors import ConfigError
from protocol.http_server import HttpServer, is_own_host, own_names
from protocol.process import this_host


def app(environ, start):
    if environ["PATH_INFO"] == "/breaks":
        raise RuntimeError("a bug")
    start("200 OK", [("Content-Type", "text/plain")])
    return [b"asked ", environ["PATH_INFO"].encode()]


@pytest.fixture(scope="module")
def server():
    server = HttpServer("127.0.0.1", 0, app)
    yield server
    server.close()


def ask(server, method, path, **headers):
    """Status, headers and body."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    try:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


def test_get_answers_what_the_application_says(server):
    status, _, body = ask(server, "GET", "/x")
    assert (status, body) == (200, b"asked /x")


def test_head_says_the_length_and_nothing_else(server):
    status, headers, body = ask(server, "HEAD", "/x")
    assert (status, headers["Content-Length"], body) == (200, "8", b"")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_other_methods_are_refused(server, method):
    status, headers, _ = ask(server, method, "/x")
    assert (status, headers["Allow"]) == (405, "GET, HEAD")


def test_a_bug_in_the_application_is_an_answer_and_a_log_line(server, caplog):
    status, _, body = ask(server, "GET", "/breaks")
    assert status == 500
    assert b"a bug" not in body
    assert "/breaks failed" in caplog.text
    assert ask(server, "GET", "/x")[0] == 200


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "a b", "127.0.0.1.x"])
def test_a_name_that_is_not_ours_is_refused(server, host):
    assert ask(server, "GET", "/x", Host=host)[0] == 403


@pytest.mark.parametrize("host", ["localhost:80", "LOCALHOST.", "127.0.0.1", "[::1]:9", "10.0.0.7"])
def test_addresses_and_our_own_names_are_answered(server, host):
    assert ask(server, "GET", "/x", Host=host)[0] == 200


def test_this_host_is_known_with_and_without_local(monkeypatch):
    monkeypatch.setattr(http_server, "this_host", lambda: "Mac.local")
    names = own_names("0.0.0.0")
    assert all(is_own_host(host, names) for host in ("mac", "mac.local:80", "MAC.LOCAL"))
    assert not is_own_host("mac.evil.example", names)


def test_the_real_name_and_the_bind_name_are_ours():
    names = own_names("trainer.example")
    assert is_own_host(this_host(), names)
    assert is_own_host("trainer.example:19560", names)


def test_two_host_headers_are_refused(server):
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as client:
        client.sendall(b"GET /x HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n")
        assert client.recv(100).startswith(b"HTTP/1.0 403")


def test_a_taken_port_is_named(server):
    with pytest.raises(ConfigError, match=rf"port {server.port}: .*; set network.http_port"):
        HttpServer("127.0.0.1", server.port, app)


@pytest.mark.parametrize(("bind", "port"), [("127.0.0.1", 70000), ("203.0.113.9", 0)])
def test_what_cannot_be_bound_is_the_users_mistake(bind, port):
    with pytest.raises(ConfigError, match="set --port"):
        HttpServer(bind, port, app, port_setting="--port")


def test_a_closed_server_gives_its_port_back():
    server = HttpServer("127.0.0.1", 0, app)
    server.close()
    HttpServer("127.0.0.1", server.port, app).close()


def test_a_burst_of_connections_waits_for_no_second_knock(server):
    """A full queue drops the first SYN, and the kernel sends the next after a second."""
    opened = []
    for _ in range(100):
        client = socket.socket()
        client.setblocking(False)
        client.connect_ex(("127.0.0.1", server.port))
        opened.append(client)
    for client in opened:
        assert client.getpeername()[1] == server.port
        client.close()
    assert ask(server, "GET", "/x")[0] == 200


def test_connections_above_the_limit_are_told_to_come_again(monkeypatch):
    monkeypatch.setattr(http_server, "MAX_CONNECTIONS", 2)
    entered, leave = threading.Semaphore(0), threading.Event()

    def slow(environ, start):
        entered.release()
        leave.wait(20)
        return app(environ, start)

    server = HttpServer("127.0.0.1", 0, slow)
    found = []
    clients = [
        threading.Thread(target=lambda: found.append(ask(server, "GET", "/x")[0])) for _ in range(2)
    ]
    for client in clients:
        client.start()
        assert entered.acquire(timeout=20)
    assert ask(server, "GET", "/x")[0] == 503
    leave.set()
    for client in clients:
        client.join()
    assert found == [200, 200]
    assert ask(server, "GET", "/x")[0] == 200
    server.close()


def test_a_silent_connection_is_closed(monkeypatch):
    monkeypatch.setattr(http_server, "REQUEST_SECONDS", 0.05)
    server = HttpServer("127.0.0.1", 0, app)
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as client:
        assert client.recv(1) == b""
    server.close()


def test_a_byte_now_and_then_keeps_no_place(monkeypatch):
    monkeypatch.setattr(http_server, "REQUEST_SECONDS", 0.3)
    server = HttpServer("127.0.0.1", 0, app)
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as client:
        client.sendall(b"GET /x HTTP/1.0\r\nX: ")
        client.settimeout(0.05)
        deadline, ended = time.monotonic() + 20.0, False
        while not ended and time.monotonic() < deadline:
            try:
                client.sendall(b"y")
                ended = client.recv(1) == b""
            except TimeoutError:
                continue
            except OSError:
                ended = True
        assert ended
    server.close()
