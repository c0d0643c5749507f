"""What runs inside an interpreter on the program's behalf: in a namespace of its process and in a worker process."""

import ctypes
import importlib.abc
import importlib.util
import io
import sys
import threading
import traceback
import warnings

sources = {}  # name -> source of a module that the program registered
packages = {}  # key of an open package -> its PackageImporter
replicas = {}  # id of a replicated object -> the object
loading = threading.RLock()  # held while modules of packages are executed and objects are loaded


class RegisteredSources(importlib.abc.MetaPathFinder, importlib.abc.InspectLoader):
    """Imports the modules that `registerModuleSource` registered."""

    def find_spec(self, name, path=None, target=None):
        return importlib.util.spec_from_loader(name, self) if name in sources else None

    def get_source(self, name):
        return sources[name]


def confine():
    """Keep libraries from being opened with RTLD_GLOBAL, which crashes glibc in a namespace; torch tries to."""
    import os

    def without_global(function):
        return lambda name, mode=0, *rest: function(name, mode & ~os.RTLD_GLOBAL, *rest)

    ctypes._dlopen = without_global(ctypes._dlopen)
    set_flags = sys.setdlopenflags
    sys.setdlopenflags = lambda flags: set_flags(flags & ~os.RTLD_GLOBAL)


def start(index, paths, threads):
    """Import torch; `index` becomes torch.version.interp, `threads` is the number of threads of one operation."""
    global torch, plain_dtypes, Importer
    if sys.stdout is not None:
        sys.stdout.reconfigure(line_buffering=True)  # nothing is lost when the program ends
    sys.meta_path.insert(0, RegisteredSources())
    sys.path += paths
    warnings.filterwarnings("ignore", message="TypedStorage is deprecated")  # torch.package uses it itself
    import torch
    import torch.package
    import torch.utils.dlpack

    # The dtypes that DLPack has had from its beginning; others cross as integers of the same size.
    names = "uint8 int8 int16 int32 int64 float16 bfloat16 float32 float64 complex64 complex128"
    plain_dtypes = frozenset(getattr(torch, name) for name in names.split())
    Importer = for_several_threads(torch.package.PackageImporter)
    torch.set_num_threads(threads)
    torch.version.interp = index


def for_several_threads(base):
    """Return torch.package's importer for use by several threads: its own gives one a module that another executes."""

    class Importer(base):
        def _gcd_import(self, *args, **kwargs):
            with loading:
                return super()._gcd_import(*args, **kwargs)

        def load_pickle(self, *args, **kwargs):
            with loading:
                return super().load_pickle(*args, **kwargs)

    return Importer


def describe(kind, value, trace):
    """Return an exception's class, message and traceback as text."""
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    try:
        message = str(value)
    except Exception:
        message = "(its message cannot be printed)"
    try:
        text = "".join(traceback.format_exception(kind, value, trace))
    except Exception:
        text = f"{name}: {message}"
    return name, message, text.rstrip("\n")


def find(module, name):
    return getattr(importlib.import_module(module), name)


def export_tensor(tensor):
    """Return a DLPack capsule of a tensor, and the name of its dtype if DLPack does not have that dtype."""
    if tensor.layout is not torch.strided or tensor.is_quantized:
        raise TypeError(
            f"a {tensor.layout} tensor of {tensor.dtype} cannot be handed over: only dense tensors can"
        )
    if tensor.device.type != "cpu":
        raise TypeError(f"a tensor on {tensor.device} cannot be handed over: return tensor.cpu()")
    tensor = tensor.detach().resolve_conj().resolve_neg()
    if tensor.dtype in plain_dtypes:
        return torch.utils.dlpack.to_dlpack(tensor), ""
    whole = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[tensor.element_size()]
    return torch.utils.dlpack.to_dlpack(tensor.view(whole)), str(tensor.dtype).removeprefix("torch.")


def import_tensor(capsule, dtype):
    tensor = torch.utils.dlpack.from_dlpack(capsule)
    return tensor.view(getattr(torch, dtype)) if dtype else tensor


def open_package(key, path):
    with loading:
        if key not in packages:
            packages[key] = Importer(path)
        return packages[key]


def open_package_bytes(key, tensor):
    with loading:
        if key not in packages:
            packages[key] = Importer(io.BytesIO(ctypes.string_at(tensor.data_ptr(), tensor.numel())))
        return packages[key]


def importer_of(key):
    known = packages.get(key)
    return (
        torch.package.OrderedImporter(known, torch.package.sys_importer)
        if known
        else torch.package.sys_importer
    )


def pack(key, value):
    """Pickle an object: bytes, the storages of its tensors as uint8 tensors, and the storages' dtypes."""
    from torch.package._package_pickler import create_pickler

    storages, dtypes, seen = [], [], {}
    importer = importer_of(key)

    def persistent_id(item):
        if isinstance(item, (torch.storage.TypedStorage, torch.UntypedStorage)):
            typed = isinstance(item, torch.storage.TypedStorage)
            untyped = item._untyped_storage if typed else item
            where = (untyped.data_ptr(), untyped.nbytes(), item.dtype if typed else None)
            if where not in seen or not untyped.data_ptr():
                seen[where] = len(storages)
                storages.append(torch.empty(0, dtype=torch.uint8).set_(untyped))
                dtypes.append(str(item.dtype).removeprefix("torch.") if typed else "")
            return "storage", seen[where]
        if key in packages and hasattr(item, "__reduce_deploy__"):  # a torch.fx.GraphModule of a package
            if id(item) not in seen:
                seen[id(item)] = ("reduce", id(item), *item.__reduce_deploy__(importer))
            return seen[id(item)]
        return None

    buffer = io.BytesIO()
    pickler = create_pickler(buffer, importer)
    pickler.persistent_id = persistent_id
    pickler.dump(value)
    return buffer.getvalue(), storages, dtypes


def unpack(number, key, data, storages, dtypes):
    """Rebuild a pickled object on the given storages; keep it as the replica with this number unless there is one."""
    from torch.package._package_unpickler import PackageUnpickler

    made = {}

    def persistent_load(saved):
        if saved[0] == "reduce":
            _, identity, function, arguments = saved
            if identity not in made:
                made[identity] = function(packages[key], *arguments)
            return made[identity]
        untyped, dtype = storages[saved[1]].untyped_storage(), dtypes[saved[1]]
        if not dtype:
            return untyped
        return torch.storage.TypedStorage(wrap_storage=untyped, dtype=getattr(torch, dtype), _internal=True)

    unpickler = PackageUnpickler(importer_of(key), io.BytesIO(data))
    unpickler.persistent_load = persistent_load
    return replica(number, unpickler.load)


def load_replica(number, key, module, file):
    """Load a pickle of a package as the replica with this number unless there is one."""
    return replica(number, lambda: packages[key].load_pickle(module, file))


def replica(number, load):
    with loading:
        if number not in replicas:
            replicas[number] = load()
        return replicas[number]


def unload(number):
    replicas.pop(number, None)


def flush():
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
