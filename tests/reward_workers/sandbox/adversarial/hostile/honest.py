"""Honest programs: what confinement must not break. Each is judged right, confined or not."""
# ruff: noqa: E501 - the lines of programs are data

from hostile.program import PASSED, calls

PROGRAMS = (
    calls(
        "recursion",
        """
        import sys
        sys.setrecursionlimit(100_000)
        def g(n): return n and 1 + g(n - 1)
        def f(x): return g(20_000)
        """,
        PASSED,
        args=(1,),
        expected=20_000,
    ),
    calls(
        "decimals",
        """
        from decimal import Decimal, getcontext
        def f(n):
            getcontext().prec = n
            return str(Decimal(2).sqrt())
        """,
        PASSED,
        args=(20,),
        expected="1.4142135623730950488",
    ),
    calls(
        "fractions",
        """
        from fractions import Fraction
        def f(n): return str(sum(Fraction(1, i) for i in range(1, n)))
        """,
        PASSED,
        args=(7,),
        expected="49/20",
    ),
    calls(
        "heap",
        """
        import heapq
        def f(x):
            heapq.heapify(x)
            return [heapq.heappop(x) for _ in range(len(x))]
        """,
        PASSED,
        args=([3, 1, 2],),
        expected=[1, 2, 3],
    ),
    calls(
        "asyncio_run",
        """
        import asyncio
        async def g(n):
            await asyncio.sleep(0.01)
            return n * 2
        async def main(n): return await asyncio.gather(*(g(i) for i in range(n)))
        def f(n): return list(asyncio.run(main(n)))
        """,
        PASSED,
        args=(3,),
        expected=[0, 2, 4],
    ),
    calls(
        "data_classes",
        """
        from dataclasses import asdict, dataclass, field
        from typing import List, Optional
        @dataclass
        class P:
            a: int
            b: Optional[List[int]] = field(default_factory=list)
        def f(x): return asdict(P(x))
        """,
        PASSED,
        args=(1,),
        expected={"a": 1, "b": []},
    ),
    calls(
        "random_with_a_seed",
        """
        import random
        def f(x):
            a = random.Random(x).random()
            return a == random.Random(x).random() and 0 <= a < 1
        """,
        PASSED,
        args=(1,),
        expected=True,
    ),
    calls(
        "random_without_a_seed",
        """
        import random, secrets, uuid
        def f(x): return len({random.random(), secrets.token_hex(), str(uuid.uuid4())})
        """,
        PASSED,
        args=(1,),
        expected=3,
    ),
    calls(
        "sieve",
        """
        def f(n):
            s = bytearray([1]) * n
            for i in range(2, int(n ** .5) + 1):
                if s[i]: s[i * i::i] = bytes(len(s[i * i::i]))
            return sum(s[2:])
        """,
        PASSED,
        args=(1_000_000,),
        expected=78_498,
    ),
    calls(
        "files_in_tmp",
        """
        import json, os, pathlib, shutil, tempfile
        def f(x):
            with tempfile.TemporaryDirectory() as d:
                p = pathlib.Path(d, 'a', 'b.json')
                p.parent.mkdir()
                p.write_text(json.dumps(x))
                shutil.copy(p, p.with_suffix('.bak'))
                os.replace(p.with_suffix('.bak'), p)
                return json.loads(p.read_text())
        """,
        PASSED,
        args=([1],),
        expected=[1],
    ),
    calls(
        "regex_and_text",
        """
        import collections, itertools, re, string, textwrap
        def f(x): return sorted(collections.Counter(re.findall(r'[a-z]+', x)).items())
        """,
        PASSED,
        args=("a b a",),
        expected=[("a", 2), ("b", 1)],
    ),
    calls(
        "threads_and_queues",
        """
        import concurrent.futures, queue
        def f(x):
            with concurrent.futures.ThreadPoolExecutor(4) as pool:
                return sum(pool.map(lambda i: i * i, range(x)))
        """,
        PASSED,
        args=(10,),
        expected=285,
    ),
    calls(
        "cached_recursion",
        """
        import functools
        @functools.lru_cache(None)
        def f(n): return n if n < 2 else f(n - 1) + f(n - 2)
        """,
        PASSED,
        args=(80,),
        expected=23_416_728_348_467_685,
    ),
    calls(
        "clock",
        """
        import datetime, time
        def f(x):
            a = time.perf_counter()
            time.sleep(0.01)
            return time.perf_counter() > a and datetime.datetime.now().year > 2020
        """,
        PASSED,
        args=(1,),
        expected=True,
    ),
    calls("big_integers", "def f(n): return 3 ** n", PASSED, args=(5000,), expected=3**5000),
    calls(
        "sets_and_bytes",
        "def f(x): return {'a': {1, 2}, 'b': frozenset([3]), 'c': b'x', 4: (None, 1.5, True)}",
        PASSED,
        args=(1,),
        expected={"a": {1, 2}, "b": frozenset([3]), "c": b"x", 4: (None, 1.5, True)},
    ),
    calls(
        "infinities",
        "def f(x): return [float('inf'), -float('inf'), 1e308]",
        PASSED,
        args=(1,),
        expected=[float("inf"), -float("inf"), 1e308],
    ),
    calls(
        "state_between_calls",
        "n = []\ndef f(x):\n    n.append(x)\n    return len(n) > 0",
        PASSED,
        args=(1,),
        expected=True,
        times=4,
    ),
    calls(
        "caught_memory_error",
        """
        def f(x):
            try:
                return len(bytearray(10 ** 15))
            except MemoryError:
                return -1
        """,
        PASSED,
        args=(1,),
        expected=-1,
    ),
    calls(
        "caught_recursion_error",
        """
        def g(): return g()
        def f(x):
            try:
                g()
            except RecursionError:
                return 'deep'
        """,
        PASSED,
        args=(1,),
        expected="deep",
    ),
    calls(
        "busy_but_quick",
        "def f(x): return sum(i * i for i in range(2_000_000))",
        PASSED,
        args=(1,),
        expected=2_666_664_666_667_000_000,
    ),
    calls(
        "local_imports",
        """
        def f(x):
            import base64, bisect, calendar, csv, difflib, hashlib, html, io, locale, operator, statistics, struct, sqlite3, unicodedata, zlib
            return hashlib.sha256(b'a').hexdigest()[:4]
        """,
        PASSED,
        args=(1,),
        expected="ca97",
    ),
)
