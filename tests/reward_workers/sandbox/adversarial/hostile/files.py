"""Programs that read what is secret, or write where others will see it."""
# ruff: noqa: E501 - the lines of programs are data

from hostile.program import CRASHED, FAILED, calls, in_tests, stdio

_SECRET = "unconfined it would read real secrets; the canaries stand for them"

PROGRAMS = (
    calls("canary", "def f(x):\n    return open(x['canary']).read()", FAILED),
    stdio(
        "canary_in_a_program",
        "import json\nprint(open(json.load(open(0))['canary']).read())",
        CRASHED,
    ),
    in_tests("canary_in_a_test", "def f(x):\n    return open(x['canary']).read()", FAILED),
    calls("private_canary", "def f(x):\n    return open(x['private']).read()", FAILED),
    calls("ssh_key", "def f(x):\n    return open(x['folder'] + '/.ssh/id_ed25519').read()", FAILED),
    calls(
        "listing",
        """
        import os
        def f(x):
            return 'escaped' if 'canary' in os.listdir(x['folder']) else 'stopped'
        """,
        FAILED,
    ),
    calls(
        "existence",
        "import os\ndef f(x):\n    return 'escaped' if os.path.exists(x['canary']) else 'stopped'",
        FAILED,
    ),
    calls(
        "checkout",
        """
        def f(x):
            return 'escaped' if 'mlx' in open(x['checkout'] + '/pyproject.toml').read() else 'stopped'
        """,
        FAILED,
    ),
    calls(
        "supervisors_code",
        """
        import os
        def f(x):
            for name in ('pool.py', 'equality.py', 'calls.py'):
                if os.path.exists(f"{x['checkout']}/reward_workers/sandbox/{name}"):
                    return 'escaped'
        """,
        FAILED,
    ),
    calls(
        "environment",
        "import os\ndef f(x):\n    return os.environ.get('ADVERSARIAL_SECRET')",
        FAILED,
    ),
    calls(
        "environment_of_the_process",
        """
        def f(x):
            return 'escaped' if b'ADVERSARIAL_SECRET' in open('/proc/self/environ', 'rb').read() else 'stopped'
        """,
        FAILED,
    ),
    calls(
        "environment_of_others",
        """
        import os
        def f(x):
            for pid in (x['victim'], os.getppid(), 1):
                try:
                    if b'ADVERSARIAL_SECRET' in open(f'/proc/{pid}/environ', 'rb').read():
                        return 'escaped'
                except OSError:
                    pass
        """,
        FAILED,
    ),
    calls(
        "environment_by_libc",
        """
        import ctypes
        def f(x):
            get = ctypes.CDLL(None).getenv
            get.restype = ctypes.c_char_p
            return (get(b'ADVERSARIAL_SECRET') or b'').decode()
        """,
        FAILED,
    ),
    calls(
        "command_lines_of_others",
        """
        import os
        def f(x):
            for pid in (x['victim'], os.getppid(), 1):
                try:
                    if open(f'/proc/{pid}/cmdline', 'rb').read():
                        return 'escaped'
                except OSError:
                    pass
        """,
        FAILED,
    ),
    calls(
        "memory_of_the_parent",
        "import os\ndef f(x):\n    open(f'/proc/{os.getppid()}/mem', 'rb')\n    return 'escaped'",
        FAILED,
        harm=None,
        why="needs a parent of the same user that may be traced",
    ),
    calls(
        "root_of_the_supervisor",
        "def f(x):\n    return open(f\"/proc/{x['supervisor']}/root{x['canary']}\").read()",
        FAILED,
    ),
    calls(
        "root_of_init",
        "def f(x):\n    return open('/proc/1/root' + x['canary']).read()",
        FAILED,
        harm=None,
        why="only root may read it",
    ),
    calls(
        "descriptors_of_the_parent",
        """
        import os
        def f(x):
            return 'escaped' if os.listdir(f'/proc/{os.getppid()}/fd') else 'stopped'
        """,
        FAILED,
    ),
    calls(
        "passwd",
        "def f(x):\n    return 'escaped' if open('/etc/passwd').read() else 'stopped'",
        FAILED,
    ),
    calls(
        "shadow",
        "def f(x):\n    open('/etc/shadow').read()\n    return 'escaped'",
        FAILED,
        harm=None,
        why=_SECRET,
    ),
    calls(
        "root_home",
        "import os\ndef f(x):\n    os.listdir('/root')\n    return 'escaped'",
        FAILED,
        harm=None,
        why=_SECRET,
    ),
    calls(
        "user_names",
        "import pwd\ndef f(x):\n    return 'escaped' if len(pwd.getpwall()) > 3 else 'stopped'",
        FAILED,
    ),
    calls(
        "host_name_file",
        "def f(x):\n    return 'escaped' if open('/etc/hosts').read() else 'stopped'",
        FAILED,
    ),
    calls(
        "kernel_messages",
        "def f(x):\n    open('/dev/kmsg')\n    return 'escaped'",
        FAILED,
        harm=None,
        why="not everywhere readable",
    ),
    calls(
        "block_devices",
        """
        import glob
        def f(x):
            return 'escaped' if glob.glob('/dev/[svn]d*') + glob.glob('/dev/nvme*') + glob.glob('/sys/block/*') else 'stopped'
        """,
        FAILED,
    ),
    calls(
        "own_memory_file",
        """
        def f(x):
            with open('/proc/self/mem', 'r+b', 0) as file:
                file.seek(id(x))
                file.write(file.read(0) or b'')
            return 'escaped'
        """,
        FAILED,
    ),
    calls(
        "way_up",
        "import os\ndef f(x):\n    return open('../' * 30 + x['canary'].lstrip('/')).read()",
        FAILED,
    ),
    calls(
        "symlink_to_a_canary",
        """
        import os, tempfile
        def f(x):
            link = tempfile.mkdtemp() + '/link'
            os.symlink(x['canary'], link)
            return open(link).read()
        """,
        FAILED,
    ),
    calls(
        "tmp_of_others",
        "import os\ndef f(x):\n    return 'escaped' if os.listdir('/tmp') else 'stopped'",
        FAILED,
    ),
)
