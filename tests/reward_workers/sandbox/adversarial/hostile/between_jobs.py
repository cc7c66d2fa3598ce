"""Pairs: what the first program leaves behind, the second must not find.

Each of both is judged right where it finds something; the first is also judged right, so that
it is known to have run to its end. `harm` of the second is that of both in one process.
"""

from textwrap import dedent

from hostile.program import FAILED, PASSED, Hostile, calls

_LEAVES = "\ndef f(x): return 'escaped'"
_FINDS = "\ndef f(x): return 'escaped' if found else 'stopped'"


def _pair(name: str, leave: str, find: str) -> tuple[str, Hostile, Hostile]:
    first = calls(f"{name}_left", dedent(leave) + _LEAVES, PASSED)
    return (
        name,
        first,
        calls(f"{name}_found", dedent(find) + _FINDS, FAILED, harm=None, why="see PAIRS"),
    )


PAIRS = (
    _pair(
        "file",
        """
        import os, tempfile
        with open(tempfile.gettempdir() + '/adversarial-left', 'w') as file: file.write('x')
        """,
        "import os, tempfile\nfound = os.path.exists(tempfile.gettempdir() + '/adversarial-left')",
    ),
    _pair(
        "hidden_folder",
        "import os\nos.makedirs(os.path.expanduser('~/.config/adversarial-left'), exist_ok=True)",
        "import os\nfound = os.path.exists(os.path.expanduser('~/.config/adversarial-left'))",
    ),
    _pair(
        "environment",
        "import os\nos.environ['LEFT'] = '1'\nos.putenv('LEFT', '1')",
        "import os\nfound = 'LEFT' in os.environ",
    ),
    _pair(
        "working_folder",
        """
        import os, tempfile
        place = tempfile.gettempdir() + '/adversarial-place'
        os.makedirs(place, exist_ok=True)
        os.chdir(place)
        """,
        "import os\nfound = 'adversarial-place' in os.getcwd()",
    ),
    _pair(
        "builtin",
        "import builtins\nbuiltins.left = 1\nbuiltins.divmod = lambda *x: 7",
        "found = 'left' in dir(__builtins__) or divmod(1, 1) == 7",
    ),
    _pair(
        "module",
        "import sys\nsys.modules['left'] = sys",
        "import sys\nfound = 'left' in sys.modules",
    ),
    _pair(
        "patched_module",
        "import json, math\njson.left = math.left = 1",
        "import json, math\nfound = hasattr(json, 'left') or hasattr(math, 'left')",
    ),
    _pair(
        "attribute_of_the_interpreter",
        "import sys\nsys.left = 1\nsys.setrecursionlimit(4321)",
        "import sys\nfound = hasattr(sys, 'left') or sys.getrecursionlimit() == 4321",
    ),
    _pair(
        "thread",
        """
        import threading, time
        threading.Thread(target=time.sleep, args=(1,), daemon=True, name='left').start()
        """,
        "import threading\nfound = any(t.name == 'left' for t in threading.enumerate())",
    ),
    _pair(
        "descriptor",
        "import os\nfor fd in range(40, 50): os.dup2(1, fd)",
        """
        import os
        found = False
        for fd in range(40, 50):
            try:
                os.fstat(fd)
                found = True
            except OSError:
                pass
        """,
    ),
    _pair(
        "signal_handler",
        "import signal\nsignal.signal(signal.SIGUSR1, signal.SIG_IGN)",
        "import signal\nfound = signal.getsignal(signal.SIGUSR1) == signal.SIG_IGN",
    ),
    _pair(
        "value_of_an_integer",
        "import ctypes\nctypes.memmove(id(201) + 24, ctypes.byref(ctypes.c_int32(202)), 4)",
        "found = str(200 + int('1')) == '202'",
    ),
    _pair(
        "random_state",
        "import random\nrandom.seed(5)",
        "import random\nfound = random.random() == random.Random(5).random()",
    ),
)
