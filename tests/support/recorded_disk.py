"""What SQLite writes to its files, write by write, and what a power loss leaves of it.

SQLite reaches the disk through a table of functions, its VFS. This one notes each call and passes
it on, so that a test can cut the power between any two of them, or in the middle of one.
"""

from __future__ import annotations

import _sqlite3
import ctypes
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

SECTOR: Final = 512
"""Bytes that a disk writes whole or not at all."""

_POINTER: Final = ctypes.c_void_p
_INT: Final = ctypes.c_int
_LONG: Final = ctypes.c_int64
_OPEN: Final = ctypes.CFUNCTYPE(_INT, _POINTER, _POINTER, _POINTER, _INT, _POINTER)
_DELETE: Final = ctypes.CFUNCTYPE(_INT, _POINTER, _POINTER, _INT)
_WRITE: Final = ctypes.CFUNCTYPE(_INT, _POINTER, _POINTER, _INT, _LONG)
_TRUNCATE: Final = ctypes.CFUNCTYPE(_INT, _POINTER, _LONG)
_SYNC: Final = ctypes.CFUNCTYPE(_INT, _POINTER, _INT)


class _Vfs(ctypes.Structure):
    """The beginning of `sqlite3_vfs`; the functions after it are left as they are."""

    _fields_ = (
        ("version", _INT),
        ("size_of_file", _INT),
        ("longest_path", _INT),
        ("next", _POINTER),
        ("name", ctypes.c_char_p),
        ("data", _POINTER),
        ("open", _POINTER),
        ("delete", _POINTER),
        ("others", _POINTER * 14),
    )


class _Methods(ctypes.Structure):
    """The beginning of `sqlite3_io_methods`; the functions after it are left as they are."""

    _fields_ = (
        ("version", _INT),
        ("close", _POINTER),
        ("read", _POINTER),
        ("write", _POINTER),
        ("truncate", _POINTER),
        ("sync", _POINTER),
        ("others", _POINTER * 13),
    )


@dataclass(frozen=True, slots=True)
class Write:
    """Bytes that were written to a file."""

    file: str
    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Truncate:
    """A file that was cut to a size."""

    file: str
    size: int


@dataclass(frozen=True, slots=True)
class Sync:
    """A file whose writes are on the disk from here on."""

    file: str


@dataclass(frozen=True, slots=True)
class Delete:
    """A file that was deleted."""

    file: str


Call = Write | Truncate | Sync | Delete
Files = dict[str, bytes]
"""The content of each file, by its name."""


class RecordedDisk:
    """The calls that reached the disk, in their order."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self._names: dict[int, str] = {}
        self._methods: dict[int, _Methods] = {}
        self._kept: list[object] = []

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Note what SQLite writes while the block lasts; close its files in the block."""
        library = _library()
        found = library.sqlite3_vfs_find(None)
        vfs = _Vfs.from_buffer_copy(ctypes.string_at(found, ctypes.sizeof(_Vfs)))
        vfs.name = b"recorded"
        vfs.open = self._pointer_to(_OPEN(self._opener(_OPEN(vfs.open))))
        vfs.delete = self._pointer_to(_DELETE(self._deleter(_DELETE(vfs.delete))))
        self._kept.append(vfs)
        library.sqlite3_vfs_register(ctypes.byref(vfs), 1)
        try:
            yield
        finally:
            library.sqlite3_vfs_unregister(ctypes.byref(vfs))

    def _pointer_to(self, function: Any) -> int | None:
        """Return the address of a function of ours, and keep it: SQLite holds only that."""
        self._kept.append(function)
        return ctypes.cast(function, _POINTER).value

    def _opener(self, original: Any) -> Callable[..., int]:
        def opened(vfs: int, name: int | None, file: int, flags: int, out: int | None) -> int:
            result = int(original(vfs, name, file, flags, out))
            if name and not result:
                self._names[file] = Path(ctypes.string_at(name).decode()).name
                pointer = _POINTER.from_address(file)
                pointer.value = ctypes.addressof(self._recorded(pointer.value or 0))
            return result

        return opened

    def _deleter(self, original: Any) -> Callable[..., int]:
        def deleted(vfs: int, name: int, sync: int) -> int:
            self.calls.append(Delete(Path(ctypes.string_at(name).decode()).name))
            return int(original(vfs, name, sync))

        return deleted

    def _recorded(self, address: int) -> _Methods:
        """Return the functions of a file at an address, with ours among them."""
        if address not in self._methods:
            made = _Methods.from_buffer_copy(ctypes.string_at(address, ctypes.sizeof(_Methods)))
            its_write, its_cut = _WRITE(made.write), _TRUNCATE(made.truncate)
            its_sync = _SYNC(made.sync)

            def write(file: int, data: int, size: int, offset: int) -> int:
                self.calls.append(Write(self._names[file], offset, ctypes.string_at(data, size)))
                return int(its_write(file, data, size, offset))

            def truncate(file: int, size: int) -> int:
                self.calls.append(Truncate(self._names[file], size))
                return int(its_cut(file, size))

            def sync(file: int, flags: int) -> int:
                result = int(its_sync(file, flags))
                self.calls.append(Sync(self._names[file]))
                return result

            made.write = self._pointer_to(_WRITE(write))
            made.truncate = self._pointer_to(_TRUNCATE(truncate))
            made.sync = self._pointer_to(_SYNC(sync))
            self._methods[address] = made
        return self._methods[address]


def _library() -> Any:
    """Return the SQLite that Python uses, or skip the test where it cannot be reached."""
    library = ctypes.CDLL(_sqlite3.__file__)
    try:
        library.sqlite3_vfs_find.restype = _POINTER
    except AttributeError:
        pytest.skip("the SQLite of this Python has no functions to call")
    return library


def all_written(calls: Sequence[Call]) -> Files:
    """Return the files if every write reached the disk."""
    files: Files = {}
    for call in calls:
        _apply(files, call)
    return files


def last_write_torn(calls: Sequence[Call]) -> Iterator[Files]:
    """Yield the files if only the first sectors of the last write were written, or the last."""
    if calls and isinstance(calls[-1], Write):
        last = calls[-1]
        half = max(SECTOR, len(last.data) // 2 // SECTOR * SECTOR)
        if half < len(last.data):
            before = all_written(calls[:-1])
            for offset, data in ((0, last.data[:half]), (half, last.data[half:])):
                files = dict(before)
                _apply(files, Write(last.file, last.offset + offset, data))
                yield files


def unsynced_lost(calls: Sequence[Call], chosen: Callable[[int, str], bool]) -> Files:
    """Return the files if, of the writes since each file's last sync, only some were written.

    `chosen` says which, by their number and file. Where others follow, the disk has zeros.
    """
    synced = {call.file: at for at, call in enumerate(calls) if isinstance(call, Sync)}
    files: Files = {}
    for at, call in enumerate(calls):
        if at < synced.get(call.file, -1) or chosen(at, call.file) or isinstance(call, Delete):
            _apply(files, call)
    return files


def _apply(files: Files, call: Call) -> None:
    match call:
        case Write(file, offset, data):
            before = files.get(file, b"").ljust(offset, b"\0")
            files[file] = before[:offset] + data + before[offset + len(data) :]
        case Truncate(file, size):
            files[file] = files.get(file, b"")[:size].ljust(size, b"\0")
        case Delete(file):
            files.pop(file, None)
        case Sync():
            pass
