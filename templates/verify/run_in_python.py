"""Run by the Python that a libtorch belongs to: loads a model as a Python program does and calls it.

One JSON object a line on stdin, one on stdout answers it; torchlink/verify/comparing/references.py has the other end.
Tensors travel in raw files: contiguous little-endian elements, each tensor at a multiple of 64 bytes. What the model
prints goes to stderr. Kept in the syntax of old Pythons: it runs in whatever torch needs.
"""

import ctypes
import inspect
import json
import math
import os
import sys
import time

ALIGNMENT = 64
MOST_MADE = 1 << 32  # bytes that are made of fewer, as in templates/loader/tensors.h
NAMES = {
    "half": "float16",
    "float": "float32",
    "double": "float64",
    "short": "int16",
    "int": "int32",
    "long": "int64",
}


class Files:
    """Tensors in raw files."""

    def __init__(self, torch):
        self.torch = torch

    def read(self, node, file):
        """The tensor at its place in a file; on the CPU, in memory of its own."""
        torch = self.torch
        tensor = torch.empty(node["shape"], dtype=getattr(torch, node["data_type"]))
        size = tensor.numel() * tensor.element_size()
        file.seek(node["offset"])
        if size and file.readinto((ctypes.c_char * size).from_address(tensor.data_ptr())) != size:
            raise EOFError("the file of inputs is shorter than its tensors")
        if "strides" not in node:
            return tensor
        laid_out = torch.empty_strided(node["shape"], node["strides"], dtype=tensor.dtype)
        return laid_out.copy_(tensor)

    def write(self, tensor, file):
        """The description of a tensor, whose elements are then in the file."""
        torch, notes = self.torch, []
        tensor = tensor.detach()
        if tensor.is_quantized:
            tensor = tensor.dequantize()
            notes.append("dequantized")
        if tensor.layout != torch.strided:
            tensor = tensor.to_dense()
            notes.append("made dense")
        if hasattr(tensor, "resolve_conj"):
            tensor = tensor.resolve_conj().resolve_neg()
        held = 1 + sum((size - 1) * abs(stride) for size, stride in zip(tensor.shape, tensor.stride()))  # noqa: B905
        if tensor.numel() > held and tensor.numel() * tensor.element_size() > MOST_MADE:
            raise MemoryError("an output is expanded or overlaps itself, and too large to be compared")
        tensor = tensor.cpu().contiguous()
        size = tensor.numel() * tensor.element_size()
        offset = -(-file.tell() // ALIGNMENT) * ALIGNMENT
        file.seek(offset)
        if size:
            file.write((ctypes.c_char * size).from_address(tensor.data_ptr()))
        name = str(tensor.dtype).replace("torch.", "")
        node = {
            "type": "tensor",
            "data_type": NAMES.get(name, name),
            "shape": list(tensor.shape),
            "offset": offset,
        }
        if notes:
            node["note"] = ", ".join(notes)
        return node


class Values:
    """Values as JSON, tensors in a file next to it."""

    def __init__(self, torch, device, file):
        self.torch = torch
        self.device = device
        self.file = file
        self.files = Files(torch)

    def read(self, node):
        """The value of a description."""
        if isinstance(node, list):
            return [self.read(each) for each in node]
        kind = node["type"]
        if kind == "tensor":
            return self.files.read(node, self.file).to(self.device)
        if kind == "none":
            return None
        value = node["value"]
        if kind == "tuple":
            return tuple(self.read(each) for each in value)
        if kind == "generic_dict":
            return {key: self.read(each) for key, each in value.items()}
        if kind == "dict":
            return {self.read(key): self.read(each) for key, each in value}
        if kind == "scalar":
            return self.number(node["data_type"], value)
        if kind == "string":
            return value
        if kind == "device":
            return self.torch.device(value)
        raise ValueError("an input of type " + str(kind) + " cannot be given to Python")

    @staticmethod
    def number(dtype, value):
        """A plain number; one that is not finite is a string, a complex one a pair."""
        if dtype == "bool":
            return bool(value)
        if dtype.startswith("complex"):
            return complex(float(value[0]), float(value[1]))
        return float(value) if "float" in dtype else int(value)

    def write(self, value):
        """The description of a value."""
        torch = self.torch
        if isinstance(value, torch.Tensor):
            return self.files.write(value, self.file)
        if value is None:
            return {"type": "none"}
        if isinstance(value, (bool, int, float, complex, str)):
            return plain(value)
        if isinstance(value, tuple):
            return {"type": "tuple", "value": [self.write(each) for each in value]}
        if hasattr(value, "keys") and hasattr(value, "items"):
            return self.mapping(list(value.items()))
        if isinstance(value, list):
            return [self.write(each) for each in value]
        if isinstance(value, torch.device):
            return {"type": "other", "value": "Device", "text": str(value)}
        return {"type": "other", "value": ""}  # Python's name of a type is not that of TorchScript

    def mapping(self, pairs):
        """The description of a dict."""
        if all(isinstance(key, str) for key, _ in pairs):
            return {"type": "generic_dict", "value": {key: self.write(each) for key, each in pairs}}
        return {"type": "dict", "value": [[self.write(key), self.write(each)] for key, each in pairs]}


def plain(value):
    """The description of a number or a string."""
    if isinstance(value, str):
        return {"type": "string", "value": value}
    if isinstance(value, bool):
        return {"type": "scalar", "data_type": "bool", "value": value}
    if isinstance(value, int):
        return {"type": "scalar", "data_type": "int64", "value": int(value)}
    if isinstance(value, float):
        return {"type": "scalar", "data_type": "float64", "value": finite(value)}
    pair = [finite(value.real), finite(value.imag)]
    return {"type": "scalar", "data_type": "complex128", "value": pair}


def finite(value):
    """A float as JSON: the strings of JavaScript for what is not finite."""
    if math.isnan(value):
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "Infinity" if value > 0 else "-Infinity"
    return value


class Runner:
    """A Python's life: import torch, then load a model and run it, as often as asked for."""

    def __init__(self):
        self.stage = "import"
        self.torch = self.model = self.kind = self.device = None

    def answer(self, asked):
        """Do what is asked."""
        if asked["do"] == "import":
            return self.start(asked["threads"])
        return getattr(self, asked["do"])(asked)

    def start(self, threads):
        """Import torch, which then takes so many threads, or as many as it likes."""
        self.stage = "import"
        import torch

        if threads:
            torch.set_num_threads(threads)
        self.torch = torch
        return {"event": "imported", "torch": torch.__version__, "file": torch.__file__}

    def load(self, asked):
        """Load libraries of operators and the model."""
        torch, self.kind, self.device = self.torch, asked["kind"], asked["device"]
        self.model = None  # the last one goes before the next one comes
        self.stage = "library"
        for library in asked["libraries"]:
            torch.ops.load_library(library)
        self.stage = "load"
        path, name = asked["path"], asked.get("model")
        if self.kind != "torchscript" and not path.endswith(".so"):
            from torch._inductor.package import load_package  # seconds, which are not the model's
        start = time.perf_counter()
        if self.kind == "torchscript":
            self.model = torch.jit.load(path, map_location=self.device)
        elif path.endswith(".so"):
            self.model = torch._export.aot_load(path, self.device)
        else:
            index = self.device.partition(":")[2]
            named = {"model_name": name} if name else {}
            self.model = load_package(path, **named, **({"device_index": int(index)} if index else {}))
        return {"event": "loaded", "load_ms": (time.perf_counter() - start) * 1000}

    def prepared(self, asked):
        """What is called with what."""
        self.stage = "input"
        with open(asked["from"], "rb") as file:
            values = Values(self.torch, self.device, file)
            inputs = [values.read(node) for node in asked["inputs"]]
            keywords = {name: values.read(node) for name, node in asked["keywords"].items()}
        if self.kind != "torchscript":
            inputs, keywords = by_name(self.model, inputs, keywords)
        method = asked.get("method") or "forward"
        # A method other than forward, and what is no module, is called by its name.
        return (self.model if method == "forward" else getattr(self.model, method)), inputs, keywords

    def timed(self, call, inputs, keywords):
        """What a call returns, and the milliseconds that it takes until the device is done."""
        start = time.perf_counter()
        with self.torch.no_grad():
            result = call(*inputs, **keywords)
        kind = self.device.partition(":")[0]
        if kind in ("cuda", "xpu", "mps"):
            getattr(self.torch, kind).synchronize()
        return result, (time.perf_counter() - start) * 1000

    def run(self, asked):
        """Call the model with the inputs of a file and write what it returns to another."""
        torch = self.torch
        called = self.prepared(asked)
        self.stage = "forward"
        result, took = self.timed(*called)
        self.stage = "output"
        with open(asked["to"], "wb") as file:
            value = Values(torch, self.device, file).write(result)
        return {"event": "result", "value": value, "forward_ms": took}

    def bench(self, asked):
        """Call the model again and again with the same inputs, as templates/loader/bench.h does; nothing is printed."""
        called = self.prepared(asked)
        self.stage = "forward"
        limit, least = asked["seconds"], 5
        with Muted():
            first, warmup, times = self.timed(*called)[1], 0, []
            start = time.perf_counter()
            while warmup < asked["warmup"]:
                if warmup >= least and limit and time.perf_counter() - start > limit / 4:
                    break
                self.timed(*called)
                warmup += 1
            start = time.perf_counter()
            while len(times) < asked["runs"]:
                if len(times) >= least and limit and time.perf_counter() - start > limit:
                    break
                times.append(self.timed(*called)[1])
        answer = {"event": "benched", "first_ms": first, "warmup": warmup, "times_ms": times}
        answer["peak_rss_mb"] = peak_rss_mib()
        return answer

    def settings(self, asked):
        """Threads, and how this torch was built."""
        torch = self.torch
        self.stage = "settings"
        if asked["threads"]:
            torch.set_num_threads(asked["threads"])
        answer = {"event": "settings", "threads": torch.get_num_threads(), "openmp": openmp_runtimes()}
        answer["interop_threads"] = torch.get_num_interop_threads()
        answer["parallel"] = torch.__config__.parallel_info()
        answer["config"] = torch.__config__.show()
        return answer


class Muted:
    """While it is entered, what is printed goes nowhere."""

    def __enter__(self):
        sys.stdout.flush()
        sys.stderr.flush()
        self.kept = os.dup(1), os.dup(2)
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        os.close(nowhere)

    def __exit__(self, *error):
        sys.stdout.flush()
        sys.stderr.flush()
        for place in (1, 2):
            os.dup2(self.kept[place - 1], place)
            os.close(self.kept[place - 1])


def peak_rss_mib():
    """The most memory that this process ever held, in MiB; -1 where the system does not say."""
    try:
        with open("/proc/self/status") as status:
            for line in status:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) / 1024
    except OSError:
        pass
    return -1


def openmp_runtimes():
    """The files of OpenMP runtimes that are mapped into this process; none where the system does not say."""
    found = []
    try:
        with open("/proc/self/maps", errors="surrogateescape") as maps:
            for line in maps:
                path = line[line.find("/") :].rstrip("\n") if "/" in line else ""
                if os.path.basename(path).startswith(("libgomp", "libiomp", "libomp")) and path not in found:
                    found.append(path)
    except OSError:
        pass
    return found


def by_name(model, inputs, keywords):
    """The arguments of a compiled model as Python takes them: those with names by their names."""
    from torch.utils import _pytree as pytree

    loader = getattr(model, "loader", None) or inspect.getclosurevars(model).nonlocals["runner"]
    positional, named = pytree.treespec_loads(loader.get_call_spec()[0]).children_specs
    behind = dict(zip(named.context, inputs[positional.num_children :]))  # noqa: B905 - an old Python has no strict
    return inputs[: positional.num_children], {**behind, **keywords}


def serve(commands, out):
    """Answer each line until there are no more."""
    runner = Runner()
    for line in commands:
        asked = json.loads(line)
        try:
            answer = runner.answer(asked)
        except BaseException as error:  # the model's own, and SystemExit of what is imported
            text = str(error) or repr(error)
            answer = {"event": "error", "stage": runner.stage, "error": type(error).__name__, "message": text}
        out.write(json.dumps(answer) + "\n")
        out.flush()


def die_with_parent():
    """A model that never returns does not outlive whoever asked for it."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(1, 9)  # PR_SET_PDEATHSIG, SIGKILL


def main():
    """Keep stdout for the answers alone: what else is printed goes to stderr."""
    die_with_parent()
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [
        entry for entry in sys.path if os.path.abspath(entry or ".") != here and os.path.isabs(entry)
    ]
    out = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)
    commands = os.fdopen(os.dup(0), "r", encoding="utf-8", errors="surrogateescape")
    with open(os.devnull) as nothing:
        os.dup2(nothing.fileno(), 0)  # a model must not read the commands
    serve(commands, out)


if __name__ == "__main__":
    main()
