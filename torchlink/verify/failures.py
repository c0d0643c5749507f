"""Turning a loader's death or a C++ exception into an error that a user can act upon."""

from __future__ import annotations

import errno
import os
import re
import signal
from typing import TYPE_CHECKING

from torchlink.errors import (
    ForwardFailedError,
    MemoryLimitError,
    RunFailedError,
    TimedOutError,
    TorchlinkError,
    out_of_resources,
)
from torchlink.libtorch.facts import MissingLibrary
from torchlink.libtorch.packages import package_of
from torchlink.remedies.remedy import remedy_for
from torchlink.verify.devices import device_in_model, no_gpu
from torchlink.verify.operators import unknown_operator

if TYPE_CHECKING:
    from torchlink.libtorch.facts import Libtorch

# glibc's message when it cannot open or map anything; for a forbidden mapping (noexec) the reason follows.
NO_RESOURCES = re.compile(
    r"error while loading shared libraries: (?P<library>[^\s:]+): "
    r"((?P<files>cannot open shared object file: (Error 2[34]|Too many open files.*))"
    r"|failed to map segment from shared object(: Cannot allocate memory)?|cannot map zero-fill pages.*"
    r"|cannot (create|allocate) .*: Cannot allocate memory)$",
    re.MULTILINE,
)
# What glibc's, musl's and Apple's loaders print when a program cannot start.
MISSING_LIBRARY = re.compile(
    r"error while loading shared libraries: (?P<glibc>[^\s:]+): cannot open"
    r"|Error loading shared library (?P<musl>[^\s:]+): No such file"
    r"|Library not loaded: (?P<apple>\S+)"
)
REFUSED = re.compile(
    r"error while loading shared libraries: .*|symbol lookup error: .*|Error relocating .*"
    r"|Symbol not found: .*|version `[^']+' not found.*|cannot execute binary file.*"
)
EXCEPTION = re.compile(r"^(?:[\w.]*(?:Error|Exception|Interrupt)): ?(?P<said>.*)$")
# The error of every libtorch from 1.11 on, mobile or not, for a file with a model.json.
LEGACY_FORMAT = "Legacy model format is not supported"
# How libtorch before 1.3 dies of a file without a model.json: when it destroys its reader.
UNREAD_BY_OLD = "PytorchStreamReader failed closing reader"
# torch's error about a prim::Constant without a value: `optimize_for_inference` makes those of opaque MKLDNN tensors.
UNLOADABLE_CONSTANT = "required keyword attribute 'value' is undefined"
FRAME = re.compile(r"\s*frame #\d+: ")  # of the C++ backtrace that libtorch prints
NEWER_MODEL = "A model saved by a newer torch needs a libtorch at least as new"
# libtorch counts the module itself among forward's arguments, and declares it first.
COUNTED = re.compile(r"(Expected at most )(\d+)( argument\(s\) for operator 'forward', but received )(\d+)")
DECLARED = re.compile(r"(Declaration: forward\()[^,()]*(?:, |(?=\)))")
TOO_LARGE = " GiB, above the limit of "  # of templates/loader/tensors.h
NOT_MADE = "An input cannot be made: "
NO_FORWARD = "has no method named forward"  # the loader's message
PRINTED_LINES = 5
# The messages of libtorch, the C++ library and the system when memory runs out.
MEMORY = re.compile(
    r"can't allocate memory|std::bad_alloc|[Cc]annot allocate memory|not enough memory|out of memory"
)
CRASHES = {signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGFPE}
STAGES = {
    "library": "while it loaded a library of operators",
    "load": "while it loaded the model",
    "describe": "while it read the model's graph",
    "input": "while the inputs were made",
    "forward": "in the model's forward",
    "again": "in the model's forward, called again with the same inputs",
    "save": "while it saved what the model returned",
    "compare": "while it compared the outputs",
    "bench": "while its calls were timed",
    "end": "at exit, after everything had succeeded",
}


def decisive_sentence(message: str) -> str:
    """The sentence of an exception's text that states the problem.

    TorchScript's interpreter prints a traceback and the exception last (`RuntimeError: …`); elsewhere the
    first line is the sentence.
    """
    lines = [line.rstrip() for line in message.splitlines() if line.strip()]
    if "Traceback of TorchScript" in message or "TorchScript interpreter" in message:
        for line in reversed(lines):
            said = EXCEPTION.match(line)
            if said:
                return said["said"].strip() or line
    return lines[0].strip() if lines else "an exception without a message"


def without_self(message: str) -> str:
    """Rewrite libtorch's message about forward's arguments so that it does not count or list the module itself."""
    counted = COUNTED.sub(
        lambda found: f"{found[1]}{int(found[2]) - 1}{found[3]}{int(found[4]) - 1}", message
    )
    return DECLARED.sub(r"\1", counted)


def exception(
    stage: str, message: str, libtorch: Libtorch, *, verbose: bool = False, device: str = "cuda"
) -> TorchlinkError:
    """The error for an `error` event of the loader.

    Args:
        stage: what the loader was doing: "device", "load", "describe", "input", "forward", "again", "save", "compare".
        message: the C++ exception's text.
        libtorch: what the loader was built against.
        verbose: keep everything that libtorch lists.
        device: that was asked for.
    """
    message = without_self(message)
    sentence = decisive_sentence(message)
    traceback = tuple(line for line in message.splitlines() if line.strip())
    details = traceback if len(traceback) > 1 else ()
    if stage == "device":
        return no_gpu(sentence, libtorch, device)
    if stage == "load" and sentence.startswith(LEGACY_FORMAT):
        return ForwardFailedError(
            "The model is in the format of torch 1.1 and 1.2, which only libtorch 1.10 and older reads.",
            hint="Load it with torch.jit.load in a torch 1.3 to 1.10 and save it again; newer ones read that file.",
            details=(message,),
        )
    if stage == "library":
        return RunFailedError(
            f"A library of operators cannot be loaded: {sentence}.".replace("..", "."),
            hint="Name one that was built against this libtorch; `torchlink lint` on it reports mismatches.",
            details=details,
        )
    if stage == "load":
        return _of_load(message, sentence, details)
    if sentence.endswith(NO_FORWARD):
        return ForwardFailedError(
            "The model was loaded, but it has no method named forward to call.",
            hint="Script a module whose forward calls the method that you need.",
        )
    if stage == "describe":
        return ForwardFailedError(f"The graph of forward cannot be read: {sentence}", hint="Give --input.")
    if stage == "input":
        return ForwardFailedError(f"{NOT_MADE}{sentence}", hint="Change its --input.", details=details)
    if stage == "save":
        return _of_save(sentence, details)
    elsewhere = device_in_model(message, libtorch, verbose=verbose)
    if elsewhere:
        return elsewhere
    again = " when it was called again with the same inputs" if stage == "again" else ""
    return ForwardFailedError(f"forward raised{again}: {sentence}", details=details)


def _of_save(sentence: str, details: tuple[str, ...]) -> RunFailedError:
    """The error for inputs or outputs that the loader cannot write to a file."""
    if TOO_LARGE in sentence:
        return RunFailedError(
            f"What the model was given or returned can be neither saved nor compared: {sentence}.",
            hint="Let the model return the tensor before it is expanded, or take a smaller input.",
        )
    return RunFailedError(
        f"What the model was given or returned cannot be saved: {sentence}",
        hint="Free space on the file system of the cache, or set TORCHLINK_CACHE_DIR to another directory.",
        details=details,
    )


def _of_load(message: str, sentence: str, details: tuple[str, ...]) -> ForwardFailedError:
    """The error for a model that libtorch cannot load."""
    unknown = unknown_operator(message)
    if unknown:
        return unknown
    if UNLOADABLE_CONSTANT in sentence:
        return ForwardFailedError(
            "The model contains constants that no libtorch can load again: torch.jit.optimize_for_inference has turned "
            "its weights into MKLDNN tensors, which torch does not store.",
            hint="Save the frozen model, torch.jit.freeze(torch.jit.script(model.eval())).save(…), and call "
            "torch.jit.optimize_for_inference on what torch.jit.load returns.",
            details=(message,),
        )
    return ForwardFailedError(
        f"libtorch cannot load the model: {sentence}",
        hint=f"{NEWER_MODEL}; a damaged one needs a fresh copy; operators of extensions need their library linked.",
        details=details,
    )


def garbled(printed: str) -> TorchlinkError:
    """The error for an answer that the loader did not write."""
    return ForwardFailedError(
        "The loader's answer is not one: the model, or a library that it uses, wrote to the loader's file descriptors.",
        hint="Look for code that writes to descriptors which it did not open.",
        details=tuple(printed.splitlines()[-PRINTED_LINES:]),
    )


def death(returncode: int, printed: str, stage: str, libtorch: Libtorch) -> TorchlinkError:
    """The error for a loader that ended without an answer.

    Args:
        returncode: its exit status, negative for a signal.
        printed: what it wrote to stderr.
        stage: what it was doing, one of STAGES.
        libtorch: determines which package contains a missing library.
    """
    scarce = NO_RESOURCES.search(printed)
    if scarce and returncode > 0:
        number = errno.EMFILE if scarce["files"] else errno.ENOMEM
        return out_of_resources(
            f"The loader cannot load {scarce['library']}", OSError(number, os.strerror(number))
        )
    missing = MISSING_LIBRARY.search(printed)
    if missing:
        return _missing(next(filter(None, missing.groups())), libtorch)
    refused = REFUSED.search(printed)
    if refused and returncode > 0:
        return RunFailedError(
            f"The loader cannot start: {refused[0].strip()}.",
            hint="Some library was built against other versions; `ldd` on the loader shows which are used.",
        )
    lines = (line for line in printed.splitlines() if line.strip() and not FRAME.match(line))
    tail = tuple(lines)[-PRINTED_LINES:]
    if returncode < 0:
        hint = killed_hint(-returncode, stage)
        if stage == "load" and UNREAD_BY_OLD in printed:
            hint = f"{NEWER_MODEL}."
        return RunFailedError(
            f"The loader was killed by {signal_name(-returncode)} {STAGES[stage]}.", hint=hint, details=tail
        )
    when = STAGES["end"] if stage == "end" else "instead of an answer"
    return RunFailedError(f"The loader ended with exit status {returncode} {when}.", details=tail)


def timeout(seconds: float, stage: str) -> TimedOutError:
    """The error for a loader that was killed by the timeout.

    Args:
        seconds: the timeout.
        stage: what it was doing, one of STAGES.
    """
    when = (
        "its process did not exit after everything had succeeded"
        if stage == "end"
        else f"stopped {STAGES[stage]}"
    )
    return TimedOutError(
        f"The model did not finish within {seconds:g} s: {when}.",
        hint="Raise --timeout, give smaller inputs with --input, or look for an endless loop in the model.",
    )


def memory_limit(size: int, stage: str) -> MemoryLimitError:
    """The error for a process that exceeded its memory limit, in bytes."""
    when = STAGES.get(stage, "")
    return MemoryLimitError(
        f"The model needs more than the {size / (1 << 20):g} MiB of memory that its process may have"
        f"{f': an allocation failed {when}' if when else ''}.",
        hint="Raise --memory-limit, or give smaller inputs with --input.",
    )


def killed_hint(number: int, stage: str) -> str:
    """The hint for a loader that a signal has killed."""
    if number == signal.SIGKILL:
        return (
            "SIGKILL usually means that memory ran out: free some or raise the limit (`dmesg`, a container's limit), "
            "or give smaller inputs with --input."
        )
    if number == signal.SIGXCPU:
        return "Raise the limit of processor time, `ulimit -t`."
    if number == signal.SIGILL:
        return "Use a libtorch for this processor: SIGILL means that it lacks an instruction (`lscpu`)."
    if number not in CRASHES:
        return "Find out what sent the signal, and run it again."
    if stage == "library":
        return "Build the library against this libtorch: `torchlink lint` on it reports mismatches."
    if stage in {"load", "describe"}:
        return (
            "Save or download the model again: the file is damaged, or its code nests too deeply for the stack "
            "(run it again with `ulimit -s unlimited`)."
        )
    if stage == "end":
        return (
            "Look for a library that crashes when the process ends: `torchlink lint` on those of --library."
        )
    return (
        "Give inputs like those that the model was made for with --input, or look for a recursion without end in its "
        "code, or for a fault in a library of operators."
    )


def signal_name(number: int) -> str:
    """`SIGSEGV`, or `signal 99` for one without a name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _missing(name: str, libtorch: Libtorch) -> RunFailedError:
    requester = next((entry.needed_by for entry in libtorch.missing_libraries if entry.name == name), None)
    missing = [entry for entry in libtorch.missing_libraries if entry.needed_by == requester]
    if requester is None:  # a companion library of libtorch needs it
        missing = [MissingLibrary(name, "", package_of(name, libtorch.accelerator_version))]
    return RunFailedError(
        f"The loader cannot start: the library {name} is not found.",
        hint=remedy_for(libtorch, missing).text or f"Install the package that contains {name}.",
    )
