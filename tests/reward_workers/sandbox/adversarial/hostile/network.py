"""Programs that want a socket of any family, a name, or a descriptor of another process."""
# ruff: noqa: E501 - the lines of programs are data

from hostile.processes import SYSCALLS
from hostile.program import CRASHED, FAILED, PASSED, calls, in_tests, stdio

_RIGHTS = "needs rights or a kernel that not every machine has"

PROGRAMS = (
    calls(
        "tcp",
        """
        import socket
        def f(x):
            return socket.create_connection(('127.0.0.1', x['port']), 1).recv(64).decode()
        """,
        FAILED,
    ),
    stdio(
        "tcp_in_a_program",
        """
        import json, socket
        x = json.load(open(0))
        print(socket.create_connection(('127.0.0.1', x['port']), 1).recv(64).decode())
        """,
        CRASHED,
    ),
    in_tests(
        "tcp_in_a_test",
        """
        import socket
        def f(x):
            return socket.create_connection(('127.0.0.1', x['port']), 1).recv(64).decode()
        """,
        FAILED,
    ),
    calls(
        "http",
        """
        import http.client
        def f(x):
            c = http.client.HTTPConnection('127.0.0.1', x['port'], timeout=1)
            c.connect()
            return c.sock.recv(64).decode()
        """,
        FAILED,
    ),
    calls(
        "tcp_socket", "import socket\ndef f(x):\n    socket.socket()\n    return 'escaped'", FAILED
    ),
    calls(
        "udp_socket",
        """
        import socket
        def f(x):
            socket.socket(type=socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', x['port']))
            return 'escaped'
        """,
        FAILED,
    ),
    calls(
        "tcp6_socket",
        "import socket\ndef f(x):\n    socket.socket(socket.AF_INET6)\n    return 'escaped'",
        FAILED,
        harm=None,
        why=_RIGHTS,
    ),
    calls(
        "listener",
        """
        import socket
        def f(x):
            socket.create_server(('127.0.0.1', 0))
            return 'escaped'
        """,
        FAILED,
    ),
    calls(
        "unix",
        """
        import socket
        def f(x):
            s = socket.socket(socket.AF_UNIX)
            s.connect(x['unix'])
            return s.recv(64).decode()
        """,
        FAILED,
    ),
    calls(
        "abstract_unix",
        """
        import socket
        def f(x):
            s = socket.socket(socket.AF_UNIX)
            s.connect('\\0' + x['abstract'])
            return s.recv(64).decode()
        """,
        FAILED,
    ),
    calls(
        "netlink",
        """
        import socket
        def f(x):
            socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
            return 'escaped'
        """,
        FAILED,
        harm=None,
        why=_RIGHTS,
    ),
    calls(
        "packet",
        """
        import socket
        def f(x):
            socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
            return 'escaped'
        """,
        FAILED,
        harm=None,
        why=_RIGHTS,
    ),
    calls(
        "vsock",
        """
        import socket
        def f(x):
            socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
            return 'escaped'
        """,
        FAILED,
        harm=None,
        why=_RIGHTS,
    ),
    calls(
        "raw",
        """
        import socket
        def f(x):
            socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)
            return 'escaped'
        """,
        FAILED,
        harm=None,
        why=_RIGHTS,
    ),
    calls(
        "crypto",
        """
        import socket
        def f(x):
            socket.socket(socket.AF_ALG, socket.SOCK_SEQPACKET)
            return 'escaped'
        """,
        FAILED,
        harm=None,
        why=_RIGHTS,
    ),
    calls(
        "every_family",
        """
        import socket
        def f(x):
            for family in range(1, 46):
                for kind in (1, 2, 3, 5):
                    try:
                        socket.socket(family, kind)
                        return 'escaped'
                    except OSError:
                        pass
        """,
        FAILED,
    ),
    calls(
        "socket_by_syscall",
        SYSCALLS
        + "\ndef f(x):\n    return 'escaped' if syscall(41, 198, 2, 1, 0) >= 0 else 'stopped'\n",
        FAILED,
    ),
    calls(
        "names",
        """
        import socket
        def f(x):
            return 'escaped' if socket.gethostbyname('localhost') else 'stopped'
        """,
        FAILED,
    ),
    calls(
        "own_name",
        """
        import socket
        def f(x):
            return 'escaped' if socket.gethostname() == x['host'] else 'stopped'
        """,
        FAILED,
    ),
    calls(
        "own_name_by_uname",
        """
        import os
        def f(x):
            return 'escaped' if os.uname().nodename == x['host'] else 'stopped'
        """,
        FAILED,
    ),
    calls(
        "dns",
        "import socket\ndef f(x):\n    socket.getaddrinfo('example.org', 80)\n    return 'escaped'",
        FAILED,
        harm=None,
        why="needs a network",
    ),
    calls(
        "socketpair",
        """
        import socket
        def f(x):
            a, b = socket.socketpair()
            a.send(b'escaped')
            return b.recv(9).decode()
        """,
        PASSED,
    ),
    calls(
        "descriptor_passing_on_the_channel",
        """
        import os, socket
        def f(x):
            s = socket.socket(fileno=os.dup(3))
            socket.send_fds(s, [b'x'], [1])
            return 'escaped'
        """,
        FAILED,
        harm=None,
        why="sendmsg is refused, or one byte of garbage is on the channel; there is no channel unconfined",
    ),
    calls(
        "descriptor_of_another",
        SYSCALLS
        + """
def f(x):
    for pid in (x['victim'], os.getppid(), 1):
        opened = syscall(434, 434, pid, 0)
        if opened >= 0 and syscall(438, 438, opened, 0, 0) >= 0:
            return 'escaped'
    return 'stopped'
""",
        FAILED,
    ),
    calls(
        "io_uring",
        SYSCALLS
        + "\ndef f(x):\n    room = ctypes.create_string_buffer(256)\n    return 'escaped' if syscall(425, 425, 4, ctypes.addressof(room)) >= 0 else 'stopped'\n",
        FAILED,
        harm=None,
        why=_RIGHTS,
    ),
    calls(
        "interfaces",
        """
        import socket
        def f(x):
            return 'escaped' if len(socket.if_nameindex()) > 1 else 'stopped'
        """,
        FAILED,
        harm=None,
        why=_RIGHTS,
    ),
)
