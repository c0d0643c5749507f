"""What of a process's settings explains slow calls, read from libtorch's own words."""

from __future__ import annotations

from torchlink.verify.benching.figures import Batch, Bench, Case, Figures, Settings, sized
from torchlink.verify.benching.settings import cpu_quota, notes_on, settings_of
from torchlink.verify.specs import DictInput, ListInput, ScalarInput, TensorInput

EVENT = {
    "threads": 4,
    "interop_threads": 2,
    "parallel": "ATen/Parallel:\n\tat::get_num_threads() : 4\nATen parallel backend: OpenMP\n",
    "config": "PyTorch built with:\n  - GCC 13.3\n  - CPU capability usage: DEFAULT\n"
    "  - Build settings: BLAS_INFO=generic, BUILD_TYPE=Debug, CXX_FLAGS= -O0 -g, USE_MKLDNN=OFF, USE_OPENMP=ON, \n",
    "openmp": ["/a/libgomp.so.1", "/b/libiomp5.so"],
}


def noted(settings: Settings, processors: int = 4, **environment: str) -> str:
    bench = Bench((Case(None, Figures(1.0, (1.0,) * 100, 10)),), settings, processors)
    return "\n".join(notes_on(bench, environment, "cpu", "", frozenset({"avx2"})))


def test_a_build_that_is_slow_and_two_runtimes_are_named() -> None:
    settings = settings_of(EVENT)
    assert (settings.threads, settings.interop_threads, settings.backend) == (4, 2, "OpenMP")
    assert (settings.cpu_capability, settings.mkl) == ("DEFAULT", False)
    assert settings.build == {
        "BLAS_INFO": "generic",
        "BUILD_TYPE": "Debug",
        "USE_MKLDNN": "OFF",
        "USE_OPENMP": "ON",
    }
    notes = noted(settings)
    for each in (
        "this libtorch is a Debug build",
        "built without oneDNN",
        "without MKL or OpenBLAS (BLAS: generic)",
        "no vector instructions (DEFAULT)",
        "2 OpenMP runtimes are in the process",
        "/a/libgomp.so.1, /b/libiomp5.so",
    ):
        assert each in notes


def test_threads_are_compared_with_processors_and_the_variable_is_named() -> None:
    assert "one thread of 4 processors (OMP_NUM_THREADS=1 is set)" in noted(Settings(1), OMP_NUM_THREADS="1")
    assert "16 threads, and the process may use 4 processors" in noted(Settings(16))
    assert "KMP_AFFINITY=compact is set" in noted(Settings(4), KMP_AFFINITY="compact")
    assert "threads" not in noted(Settings(4)).replace("libtorch uses 4 threads: it is stopped", "")


def test_the_quota_of_a_container_is_read() -> None:
    assert cpu_quota("150000 100000\n") == 1.5
    assert cpu_quota("max 100000\n") is None
    assert cpu_quota("nonsense") is None


def test_a_size_is_given_to_all_tensors_of_an_argument() -> None:
    tensor, vector = TensorInput("float32", (2, 3)), TensorInput("float32", (4,))
    inputs = (ListInput((tensor, vector)), ScalarInput(3))
    keywords = (("mask", DictInput(((ScalarInput("a"), tensor),))),)
    positional, named = sized(inputs, keywords, ("x", "n"), Batch(("x", "mask"), 1, (8,)), 8)
    assert positional[0].to_wire() == (
        "list tensor 2 sized 1 8 tensor float32 2x3 ones tensor float32 4 ones"
    )
    assert positional[1] == ScalarInput(3)
    assert "sized 1 8 tensor float32 2x3 ones" in named[0][1].to_wire()
