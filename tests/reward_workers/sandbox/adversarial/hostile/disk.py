"""Programs that fill the file system, its inodes or the table of open files."""

from hostile.program import CRASHED, FAILED, OOM, TIMEOUT, calls, in_tests, stdio

PROGRAMS = (
    calls(
        "one_big_file",
        """
        import tempfile
        def f(x):
            with tempfile.TemporaryFile() as file:
                for _ in range(64):
                    file.write(b'x' * (1 << 20))
                    file.flush()
            return 'escaped'
        """,
        FAILED,
    ),
    stdio(
        "one_big_file_by_a_program",
        """
        import tempfile
        with tempfile.TemporaryFile() as file:
            for _ in range(64):
                file.write(b'x' * (1 << 20))
                file.flush()
        print('escaped')
        """,
        CRASHED,
    ),
    calls(
        "many_files",
        """
        import os, tempfile
        def f(x):
            with tempfile.TemporaryDirectory() as place:
                for i in range(60_000):
                    os.close(os.open(f'{place}/{i}', os.O_CREAT | os.O_WRONLY))
                if len(os.listdir(place)) == 60_000:
                    return 'escaped'
        """,
        FAILED,
        harm=None,
        why="60,000 files are too many for somebody's disk",
    ),
    calls(
        "big_files_together",
        """
        import os, tempfile
        def f(x):
            with tempfile.TemporaryDirectory() as place:
                for i in range(32):
                    with open(f'{place}/{i}', 'wb') as file:
                        file.write(b'x' * (1 << 20))
            return 'escaped'
        """,
        FAILED,
    ),
    calls(
        "unlinked_but_open",
        """
        import tempfile
        def f(x):
            held = [tempfile.TemporaryFile() for _ in range(32)]
            for file in held:
                file.write(b'x' * (1 << 20))
                file.flush()
            return 'escaped'
        """,
        FAILED,
    ),
    calls(
        "deep_directories",
        """
        import os, tempfile
        def f(x):
            os.chdir(tempfile.mkdtemp())
            for _ in range(30_000):
                os.mkdir('d')
                os.chdir('d')
            return 'escaped'
        """,
        FAILED,
        TIMEOUT,
        harm=None,
        why="a tree so deep is not easily removed; a mkdir that waits for the kernel is idle",
    ),
    calls(
        "shared_memory_file",
        """
        def f(x):
            with open('/dev/shm/adversarial', 'wb') as file:
                for _ in range(64):
                    file.write(b'x' * (1 << 20))
            return 'escaped'
        """,
        FAILED,
        harm=None,
        why="/dev/shm is everybody's",
    ),
    calls(
        "mapped_tmp_file",
        """
        import mmap, os, tempfile
        def f(x):
            with tempfile.TemporaryFile() as file:
                os.ftruncate(file.fileno(), 64 << 20)
                held = mmap.mmap(file.fileno(), 64 << 20)
                for i in range(0, 64 << 20, 4096):
                    held[i] = 1
            return 'escaped'
        """,
        CRASHED,
        FAILED,
        why="SIGBUS where the tmpfs is full, or EFBIG when the file is made",
    ),
    calls(
        "many_descriptors",
        """
        import os
        def f(x):
            held = [os.open('/dev/null', os.O_RDONLY) for _ in range(200)]
            return 'escaped'
        """,
        FAILED,
    ),
    calls(
        "many_descriptors_by_dup",
        "import os\ndef f(x):\n    held = [os.dup(0) for _ in range(200)]\n    return 'escaped'",
        FAILED,
    ),
    calls(
        "all_descriptors_then_an_answer",
        """
        import os
        def f(x):
            while True:
                try:
                    os.dup(0)
                except OSError:
                    return 'wrong'
        """,
        FAILED,
        harm=None,
        why="the worker must be able to answer without a new descriptor",
    ),
    calls(
        "many_pipes",
        "import os\ndef f(x):\n    held = [os.pipe() for _ in range(100)]\n    return 'escaped'",
        FAILED,
    ),
    in_tests(
        "big_file_in_a_test",
        """
        import tempfile
        def f(x):
            with tempfile.TemporaryFile() as file:
                file.write(b'x' * (64 << 20))
            return 'escaped'
        """,
        FAILED,
    ),
    calls(
        "sparse_file",
        """
        import os, tempfile
        def f(x):
            with tempfile.TemporaryFile() as file:
                os.ftruncate(file.fileno(), 1 << 40)
                return 'escaped' if os.fstat(file.fileno()).st_blocks > 1 << 20 else 'stopped'
        """,
        FAILED,
        harm=None,
        why="a sparse file holds nothing; it must only not hurt",
    ),
    calls(
        "memory_and_disk",
        """
        import tempfile
        def f(x):
            file = tempfile.TemporaryFile()
            try:
                while True:
                    file.write(b'x' * (1 << 20))
                    file.flush()
                    if file.tell() > 64 << 20: break
            except OSError:
                pass
            held = b'x' * (700 << 20)
            return 'escaped'
        """,
        OOM,
    ),
)
