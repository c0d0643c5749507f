"""A worker process: support.py, followed by this, with a socket to the program as descriptor 3. See wire.h."""

import array
import ctypes
import mmap
import os
import select
import signal
import socket
import struct
import threading
import weakref

INLINE = 8192  # bytes of a tensor that travels in the message itself
SMALLEST = 1 << 16  # bytes of a segment
MOST_DESCRIPTORS = 250  # of a message

objects = {}  # handle -> an object that the program holds
theirs = {}  # number -> memory of the program's segments
unused = []  # their numbers that nothing here uses any more
own = {}  # number -> (memory, size) of this side's segments that the program uses
spare = {}  # size -> numbers and memory of those that it does not
fresh = []  # (number, size, descriptor) of segments that the program does not know yet
handles = iter(range(1, 1 << 62))
numbers = iter(range(1, 1 << 62))


class Reader:
    """The values of a message."""

    def __init__(self, body, files):
        self.body, self.files, self.at = memoryview(body), files, 0

    def raw(self, form):
        value = struct.unpack_from(form, self.body, self.at)
        self.at += struct.calcsize(form)
        return value

    def take(self, size):
        self.at += size
        return self.body[self.at - size : self.at]

    def value(self):
        tag = chr(self.body[self.at])
        self.at += 1
        return READERS[tag](self)

    def sized(self):
        return bytes(self.take(*self.raw("<Q")))

    def text(self):
        return self.sized().decode("utf-8", "surrogatepass")

    def sequence(self):
        return [self.value() for _ in range(*self.raw("<I"))]

    def dict(self):
        return {self.value(): self.value() for _ in range(*self.raw("<I"))}

    def tensor(self):
        dtype = getattr(torch, self.text())
        shape = self.raw("<%dq" % self.raw("<I"))
        size, number = self.raw("<QQ")
        if size == 0:
            return torch.empty(shape, dtype=dtype)
        if number == 0:
            memory = bytearray(self.take(size))
        else:
            memory = memoryview(theirs[number])[:size]
            weakref.finalize(memory, unused.append, number).atexit = False
        return torch.frombuffer(memory, dtype=torch.uint8).view(dtype).view(shape)


READERS = {
    "N": lambda reader: None,
    "T": lambda reader: True,
    "F": lambda reader: False,
    "i": lambda reader: reader.raw("<q")[0],
    "d": lambda reader: reader.raw("<d")[0],
    "c": lambda reader: complex(*reader.raw("<dd")),
    "s": Reader.text,
    "b": Reader.sized,
    "v": lambda reader: torch.device(reader.text()),
    "u": lambda reader: tuple(reader.sequence()),
    "l": Reader.sequence,
    "m": Reader.dict,
    "o": lambda reader: objects[reader.raw("<q")[0]],
    "f": lambda reader: reader.files[reader.raw("<I")[0]],
    "t": Reader.tensor,
}


def write_tensor(out, tensor):
    if tensor.layout is not torch.strided or tensor.is_quantized:
        raise TypeError(
            f"a {tensor.layout} tensor of {tensor.dtype} cannot be handed over: only dense tensors can"
        )
    if tensor.device.type != "cpu":
        raise TypeError(f"a tensor on {tensor.device} cannot be handed over: return tensor.cpu()")
    tensor = tensor.detach().resolve_conj().resolve_neg().contiguous()
    size = tensor.numel() * tensor.element_size()
    dtype = str(tensor.dtype).removeprefix("torch.").encode()
    out += struct.pack(
        f"<cQ{len(dtype)}sI{tensor.dim()}qQ", b"t", len(dtype), dtype, tensor.dim(), *tensor.shape, size
    )
    if size <= INLINE:
        out += struct.pack("<Q", 0) + ctypes.string_at(tensor.data_ptr(), size)
        return
    number, address = lend(size)
    ctypes.memmove(address, tensor.data_ptr(), size)
    out += struct.pack("<Q", number)


def lend(size):
    """Return the number and the address of a segment of at least this size, for the program."""
    wanted = max(SMALLEST, 1 << (size - 1).bit_length())
    if spare.get(wanted):
        number, memory = spare[wanted].pop()
    else:
        number = next(numbers)
        descriptor = os.memfd_create("embedded-python")
        os.ftruncate(descriptor, wanted)
        memory = mmap.mmap(descriptor, wanted)
        fresh.append((number, wanted, descriptor))
    own[number] = (wanted, memory)
    return number, ctypes.addressof(ctypes.c_char.from_buffer(memory))


def write(out, value, depth=0):
    if depth > 100:
        raise ValueError("a value is nested more than 100 levels deep")
    if value is None:
        out += b"N"
    elif isinstance(value, torch.Tensor):
        write_tensor(out, value)
    elif isinstance(value, bool):
        out += b"T" if value else b"F"
    elif isinstance(value, int):
        if not -(1 << 63) <= value < 1 << 63:
            raise OverflowError("Python int too large to convert to C long")
        out += struct.pack("<cq", b"i", value)
    elif isinstance(value, float):
        out += struct.pack("<cd", b"d", value)
    elif isinstance(value, complex):
        out += struct.pack("<cdd", b"c", value.real, value.imag)
    elif isinstance(value, (str, bytes)):
        data = value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value
        out += struct.pack("<cQ", b"s" if isinstance(value, str) else b"b", len(data)) + data
    elif isinstance(value, torch.device):
        name = str(value).encode()
        out += struct.pack("<cQ", b"v", len(name)) + name
    elif isinstance(value, (tuple, list)):
        out += struct.pack("<cI", b"u" if isinstance(value, tuple) else b"l", len(value))
        for item in value:
            write(out, item, depth + 1)
    elif isinstance(value, dict):
        out += struct.pack("<cI", b"m", len(value))
        for key, item in value.items():
            write(out, key, depth + 1)
            write(out, item, depth + 1)
    else:
        raise TypeError(f"a Python {type(value).__name__} cannot become an IValue: keep it as an Obj")


class Handle:
    """An answer that stays here: the program gets its number."""

    def __init__(self, value):
        self.value = value


def open_given(key, content):
    if isinstance(content, torch.Tensor):
        return open_package_bytes(key, content)
    try:
        return open_package(key, f"/proc/self/fd/{content}")
    finally:
        os.close(content)


def load(number, key, module, file, data, storages, dtypes):
    if module:
        load_replica(number, key, module, file)
    else:
        unpack(number, key, data, storages, dtypes)


OPERATIONS = {
    "start": start,
    "source": sources.__setitem__,
    "global": lambda module, name: Handle(find(module, name)),
    "keep": Handle,
    "value": lambda value: value,
    "call": lambda function, args, kwargs: Handle(function(*args, **kwargs)),
    "attr": lambda value, name: Handle(getattr(value, name)),
    "hasattr": hasattr,
    "package": lambda key, content: Handle(open_given(key, content)),
    "pickle": pack,
    "load": load,
    "replica": lambda number: Handle(replicas[number]),
    "call_replica": lambda number, args, kwargs: replicas[number](*args, **kwargs),
    "unload": unload,
    "flush": flush,
}


def answer(body, files):
    """Carry out a request; return the answer's value or error, encoded."""
    out = bytearray()
    before = set(own)
    try:
        reader = Reader(body, files)
        operation, gradients, forgotten = reader.value(), reader.value(), reader.value()
        for handle in forgotten:
            objects.pop(handle, None)
        arguments = []
        while reader.at < len(body):
            arguments.append(reader.value())
        if operation != "start":
            torch.set_grad_enabled(gradients)
        result = OPERATIONS[operation](*arguments)
        out += b"r"
        if isinstance(result, Handle):
            handle = next(handles)
            objects[handle] = result.value
            out += struct.pack("<cq", b"o", handle)
        else:
            write(out, result)
    except BaseException as error:
        out = bytearray(b"e")
        for number in set(own) - before:  # what a half-written answer had lent
            size, memory = own.pop(number)
            spare.setdefault(size, []).append((number, memory))
        for part in describe(type(error), error, error.__traceback__):
            write(out, part)
    return out


def receive(connection):
    """Return the body of a message and the descriptors that came with it; None at the end."""
    descriptors = []
    length = 0
    while length == 0:
        head, given, _, _ = socket.recv_fds(connection, 8, MOST_DESCRIPTORS, socket.MSG_WAITALL)
        if len(head) < 8:
            return None, []
        length, _ = struct.unpack("<II", head)
        descriptors += given
    body = bytearray(length)
    view = memoryview(body)
    while view:
        size = connection.recv_into(view)
        if size == 0:
            return None, []
        view = view[size:]
    return body, descriptors


def accept(body, descriptors):
    """Read the beginning of a message, about segments; return the rest and the other descriptors."""
    at = 8
    (count,) = struct.unpack_from("<Q", body, 0)
    for index in range(count):
        number, size = struct.unpack_from("<QQ", body, at)
        at += 16
        theirs[number] = mmap.mmap(descriptors[index], size)
        os.close(descriptors[index])
    (freed,) = struct.unpack_from("<Q", body, at)
    at += 8
    for number in struct.unpack_from(f"<{freed}Q", body, at):
        size, memory = own.pop(number)
        spare.setdefault(size, []).append((number, memory))
    return memoryview(body)[at + 8 * freed :], descriptors[count:]


def send(connection, body):
    released = []
    while unused:
        released.append(unused.pop())
    new, fresh[:] = fresh[:], []
    head = struct.pack("<Q", len(new)) + b"".join(struct.pack("<QQ", number, size) for number, size, _ in new)
    head += struct.pack(f"<Q{len(released)}Q", len(released), *released)
    descriptors = [descriptor for _, _, descriptor in new]
    while True:
        part, descriptors = descriptors[:MOST_DESCRIPTORS], descriptors[MOST_DESCRIPTORS:]
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", part))] if part else []
        connection.sendmsg(
            [struct.pack("<II", 0 if descriptors else len(head) + len(body), len(part))], rights
        )
        if not descriptors:
            break
    connection.sendall(head + body)
    for _, _, descriptor in new:
        os.close(descriptor)


def leave_with(connection):
    """End this process when the program is gone, even in the middle of a call."""
    watch = select.poll()
    watch.register(connection, select.POLLRDHUP)
    while not watch.poll():
        pass
    flush()
    os._exit(0)


def work():
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the program
    connection = socket.socket(fileno=3)
    threading.Thread(target=leave_with, args=(connection,), daemon=True).start()
    try:
        while True:
            body, descriptors = receive(connection)
            if body is None:
                break
            rest, files = accept(body, descriptors)
            send(connection, answer(rest, files))
    except ConnectionError:  # the program was killed
        pass
    flush()
    os._exit(0)


work()
