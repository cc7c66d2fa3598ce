"""Programs that write where others will see it, or make files that nobody should have."""
# ruff: noqa: E501 - the lines of programs are data

from hostile.program import CRASHED, FAILED, PASSED, calls, stdio

_SYSTEM = "unconfined it would change this machine"

PROGRAMS = (
    calls(
        "hard_link_to_a_canary",
        """
        import os
        def f(x):
            link = x['writable'] + '/link'
            os.link(x['canary'], link)
            try:
                return open(link).read()
            finally:
                os.unlink(link)
        """,
        FAILED,
    ),
    calls(
        "hard_link_into_tmp",
        """
        import os, sys, tempfile
        def f(x):
            os.link(os.__file__, tempfile.mkdtemp() + '/os.py')
            return 'escaped'
        """,
        FAILED,
        harm=None,
        why="links do not cross file systems",
    ),
    calls(
        "write_outside",
        """
        def f(x):
            path = x['writable'] + '/written'
            with open(path, 'w') as file: file.write('escaped')
            return open(path).read()
        """,
        FAILED,
    ),
    stdio(
        "write_outside_in_a_program",
        """
        import json
        path = json.load(open(0))['writable'] + '/written'
        open(path, 'w').write('escaped')
        print(open(path).read())
        """,
        CRASHED,
        harm=None,
        why="an uncaught exception; write_outside is its control",
    ),
    calls(
        "overwrite_a_canary",
        """
        def f(x):
            with open(x['canary'], 'r+') as file: file.write('escaped')
            return 'escaped'
        """,
        FAILED,
    ),
    calls(
        "truncate_a_canary",
        "import os\ndef f(x):\n    os.truncate(x['canary'], 7)\n    return 'escaped'",
        FAILED,
    ),
    calls(
        "chmod_a_canary",
        "import os\ndef f(x):\n    os.chmod(x['canary'], 0o644)\n    return 'escaped'",
        FAILED,
    ),
    calls(
        "rename_a_canary",
        "import os\ndef f(x):\n    os.rename(x['canary'], x['canary'])\n    return 'escaped'",
        FAILED,
    ),
    calls(
        "write_to_the_system",
        """
        import os, sys
        def f(x):
            roots = ['/', '/usr', '/etc', '/dev', '/proc', '/var', '/home', '/run', '/opt', '/bin', '/lib']
            for root in [*roots, sys.prefix, sys.base_prefix, os.path.dirname(os.__file__)]:
                try:
                    with open(root + '/adversarial', 'w') as file:
                        file.write('x')
                    os.unlink(root + '/adversarial')
                    return 'escaped'
                except OSError:
                    pass
        """,
        FAILED,
        harm=None,
        why=_SYSTEM,
    ),
    calls(
        "change_the_standard_library",
        """
        import json, os, sys
        def f(x):
            library = os.path.dirname(os.__file__)
            for path in (os.__file__, json.__file__, json.__cached__ or '', sys.executable):
                try:
                    os.close(os.open(path, os.O_RDWR))
                    return 'escaped'
                except OSError:
                    pass
            for name in ('sitecustomize.py', 'usercustomize.py', 'site-packages/x.pth', '__pycache__/x'):
                try:
                    open(f'{library}/{name}', 'x').close()
                    os.unlink(f'{library}/{name}')
                    return 'escaped'
                except OSError:
                    pass
        """,
        FAILED,
        harm=None,
        why=_SYSTEM,
    ),
    calls(
        "change_the_harness",
        """
        import sys
        def f(x):
            for path in [*sys.path, sys.argv[0], getattr(sys.modules.get('__main__'), '__file__', '')]:
                try:
                    open(path, 'r+b').close()
                    return 'escaped'
                except OSError:
                    pass
        """,
        FAILED,
        harm=None,
        why=_SYSTEM,
    ),
    calls(
        "device_node",
        """
        import os, stat, tempfile
        def f(x):
            os.mknod(tempfile.mkdtemp() + '/null', 0o600 | stat.S_IFCHR, os.makedev(1, 3))
            return 'escaped'
        """,
        FAILED,
        harm=None,
        why="only root may make one",
    ),
    calls(
        "device_node_of_a_disk",
        """
        import os, stat, tempfile
        def f(x):
            os.mknod(tempfile.mkdtemp() + '/disk', 0o600 | stat.S_IFBLK, os.makedev(8, 0))
            return 'escaped'
        """,
        FAILED,
        harm=None,
        why="only root may make one",
    ),
    calls(
        "set_user_id_file",
        """
        import os, tempfile
        def f(x):
            path = tempfile.mkdtemp() + '/x'
            open(path, 'w').close()
            os.chown(path, 0, 0)
            os.chmod(path, 0o4755)
            return 'escaped' if os.stat(path).st_uid == 0 and os.getuid() != 0 else 'stopped'
        """,
        FAILED,
        harm=None,
        why="only root may, and it gains nothing by it",
    ),
    calls(
        "chown_to_another",
        """
        import os, tempfile
        def f(x):
            path = tempfile.mkdtemp() + '/x'
            open(path, 'w').close()
            os.chown(path, 1234, 1234)
            return 'escaped'
        """,
        FAILED,
        harm=None,
        why="only root may",
    ),
    calls(
        "fifo_without_a_reader",
        """
        import os, tempfile
        def f(x):
            path = tempfile.mkdtemp() + '/x'
            os.mkfifo(path)
            open(path).read()
            return 'stopped'
        """,
        FAILED,
        harm="hangs",
    ),
    calls(
        "tmp_is_its_own",
        """
        import os, tempfile
        def f(x):
            with tempfile.NamedTemporaryFile('w+') as file:
                file.write('escaped')
                file.seek(0)
                return file.read()
        """,
        PASSED,
    ),
)
