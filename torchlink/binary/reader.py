"""The common base of the readers of ELF, Mach-O and PE files."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from torchlink.binary.data import Data

if TYPE_CHECKING:
    from mmap import mmap
    from pathlib import Path
    from types import TracebackType

    from typing_extensions import Self


class BinaryFile:
    """A reader of one file; a context manager if it was opened from a path.

    Args:
        data: the file's bytes.
    """

    KIND: ClassVar[str]  # what messages call such a file, e.g. "ELF file"

    def __init__(self, data: Data) -> None:
        self._data = data

    @classmethod
    def open(cls, path: Path | str) -> Self:
        """Open a file.

        Raises:
            FileError: it cannot be read, or is not a regular file (a FIFO does not block).
            MalformedFileError: it is of another kind, or its headers are cut off.
        """
        data = Data.open(path, cls.KIND)
        try:
            return cls(data)
        except BaseException:
            data.close()
            raise

    @classmethod
    def from_buffer(cls, buffer: bytes | memoryview | mmap, name: str) -> Self:
        """Read bytes in memory, such as a member of a wheel; messages use `name` for the file.

        Anything but `bytes` is copied.

        Raises:
            MalformedFileError: they are of another kind, or the headers are cut off.
        """
        return cls(Data(buffer if isinstance(buffer, bytes) else bytes(buffer), name, cls.KIND))

    def close(self) -> None:
        """Close the file."""
        self._data.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
