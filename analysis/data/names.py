"""File names as tables write them, and the files that they mean: folders of another machine, backslashes, composed and
decomposed accents, other letter case, bytes that are no UTF-8. What operating systems leave in folders is no file here."""

from __future__ import annotations

import errno
import os
import re
import unicodedata
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

from analysis.data.defects import Defects, printable
from analysis.errors import DataError

PICTURE_SUFFIXES = frozenset(
    {
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jfif",
        ".png",
        ".webp",
        ".gif",
        ".bmp",
        ".tif",
        ".tiff",
        ".avif",
        ".jp2",
        ".heic",
        ".heif",
    }
)
# Left behind by macOS, Windows and network disks. "._x" is the AppleDouble twin of the file x.
_LITTER_FILES = frozenset({".ds_store", "thumbs.db", "desktop.ini", "ehthumbs.db"})
_LITTER_FOLDERS = frozenset(
    {"@eadir", "__macosx", "#recycle", "$recycle.bin", "system volume information", "lost+found"}
)
_DRIVE = re.compile(r"^[A-Za-z]:[\\/]")


def is_litter(name: str) -> bool:
    """Whether an operating system, not the user, made a file or folder of this name."""
    return name.startswith("._") or name.lower() in _LITTER_FILES or name.lower() in _LITTER_FOLDERS


def is_picture(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in PICTURE_SUFFIXES


def listing(folder: Path) -> dict[str, int]:
    """File name -> size in bytes of what lies directly in a folder, litter left out; empty where there is no such folder.

    One directory scan instead of one `stat` per picture that an annotation names. A symbolic link that leads nowhere is
    no file. Raises DataError where the folder may not be read.
    """
    found = {}
    for entry in _entries(folder):
        if not is_litter(entry.name):
            try:
                if entry.is_file():
                    found[entry.name] = entry.stat().st_size
            except OSError:  # a link to itself, or to where one may not look
                continue
    return found


def subfolders(folder: Path) -> list[Path]:
    """Visible folders directly inside a folder, sorted; quick beside a hundred thousand files. Raises DataError where the
    folder may not be read."""
    found = []
    for entry in _entries(folder):
        if not entry.name.startswith(".") and not is_litter(entry.name):
            try:
                if entry.is_dir():
                    found.append(Path(entry.path))
            except OSError:
                continue
    return sorted(found)


def files_of(folder: Path, *, suffix: str, prefix: str = "") -> list[Path]:
    """Files of a folder by the ends of their names, sorted."""
    return sorted(
        folder / name for name in listing(folder) if name.startswith(prefix) and name.lower().endswith(suffix)
    )


@dataclass
class Finder:
    """Finds the files that a table names, below some folders, from one listing a folder.

    The name as it is written comes first; then with slashes for backslashes; then the same letters in another Unicode
    form; then in another case, with %20 for a blank, or without its ending, where just one file fits and no line names that
    file itself. Of an absolute path or an
    address, the longest end that lies below a folder counts. What had to be guessed is counted in `defects`.
    """

    folders: list[Path]
    defects: Defects
    _exact: dict[Path, dict[str, int]] = field(default_factory=dict)
    _loose: dict[Path, dict[str, list[str]]] = field(default_factory=dict)
    _stems: dict[Path, dict[str, list[str]]] = field(default_factory=dict)
    _taken: set[Path] = field(default_factory=set)

    def find_all(self, names: list[str]) -> dict[str, tuple[Path, int]]:
        """name -> (path, size) of those that are there; the others are counted as missing, with the reason."""
        found: dict[str, tuple[Path, int]] = {}
        later = []
        for name in dict.fromkeys(names):
            if (hit := self.find(name)) is not None:
                found[name] = hit
            else:
                later.append(name)
        self._taken = {path for path, _ in found.values()}
        for name in later:
            hit, reason = self.find_similar(name)
            if hit is not None:
                found[name] = hit
                self.defects.add("file name in another spelling (used)", f"{name} for {hit[0].name}")
            else:
                self.defects.add("picture missing", f"{name} ({reason})" if reason else name)
        return found

    def find(self, name: str) -> tuple[Path, int] | None:
        """The file of that very name, or of the same name in another Unicode form or with slashes for backslashes."""
        for relative in _variants(name):
            for folder in self.folders:
                if (hit := self._look(folder, relative)) is not None:
                    return hit
        return None

    def pictures(self, folder: Path) -> set[str]:
        """Names of the pictures that lie directly in a folder."""
        return {name for name in self._files(folder) if is_picture(name)}

    def _look(self, folder: Path, relative: str) -> tuple[Path, int] | None:
        path = self._below(folder, relative)
        files = self._files(path.parent)
        if path.name in files:
            return path, files[path.name]
        same = [n for n in self._alike(path.parent).get(_folded(path.name), []) if _composed(n) == _composed(path.name)]
        if len(same) == 1:
            return path.parent / same[0], files[same[0]]
        return None

    def find_similar(self, name: str) -> tuple[tuple[Path, int] | None, str]:
        """The one file whose name differs in case, or in the folders above it; else (None, why there is none)."""
        reason = ""
        unescaped = _variants(unquote(name)) if "%" in name else []
        for relative in (*_variants(name), *unescaped, *_ends(name)):
            for folder in self.folders:
                path = self._below(folder, relative, loose=True)
                if (hit := self._look(folder, relative)) is not None:
                    return hit, ""
                alike = self._alike(path.parent).get(_folded(path.name), [])
                free = [other for other in alike if path.parent / other not in self._taken]
                if len(free) == 1:
                    return (path.parent / free[0], self._files(path.parent)[free[0]]), ""
                if free:
                    reason = f"{len(free)} files differ from it in case only: {', '.join(sorted(free)[:3])}"
                elif not is_picture(name) and (named := self._of_stem(path)):
                    if len(named) == 1:
                        return (path.parent / named[0], self._files(path.parent)[named[0]]), ""
                    reason = f"{len(named)} pictures are called so but for their ending: {', '.join(sorted(named)[:3])}"
                elif alike:
                    reason = f"only {alike[0]} lies there, which another line names"
        return None, reason or self._dead_link(name)

    def _of_stem(self, path: Path) -> list[str]:
        """Pictures of a folder that are called like this but for their ending: "000012" for 000012.jpg."""
        if path.parent not in self._stems:
            stems: dict[str, list[str]] = {}
            for name in self._files(path.parent):
                if is_picture(name):
                    stems.setdefault(os.path.splitext(name)[0], []).append(name)
            self._stems[path.parent] = stems
        return self._stems[path.parent].get(path.name, [])

    def _below(self, folder: Path, relative: str, *, loose: bool = False) -> Path:
        """folder / relative, its folders found in whatever Unicode form they are written; loose: or in the one other case."""
        path = folder / relative
        if (relative.isascii() and not loose) or self._files(path.parent):
            return path
        parent = folder
        for part in Path(relative).parent.parts:
            below = subfolders(parent)
            same = {_composed(one.name): one for one in below}.get(_composed(part))
            alike = [one for one in below if _folded(one.name) == _folded(part)] if loose and same is None else []
            parent = same or (alike[0] if len(alike) == 1 else parent / part)
        return parent / path.name

    def _dead_link(self, name: str) -> str:
        for folder in self.folders:
            if os.path.islink(folder / name):
                return "a symbolic link that leads nowhere"
        return ""

    def _files(self, folder: Path) -> dict[str, int]:
        if folder not in self._exact:
            self._exact[folder] = listing(folder)
        return self._exact[folder]

    def _alike(self, folder: Path) -> dict[str, list[str]]:
        """Folded name -> names that fold to it."""
        if folder not in self._loose:
            loose: dict[str, list[str]] = {}
            for name in self._files(folder):
                loose.setdefault(_folded(name), []).append(name)
            self._loose[folder] = loose
        return self._loose[folder]


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: a NUL in the name
        return []
    except OSError as error:
        if error.errno in (errno.ENAMETOOLONG, errno.ELOOP):  # no such folder can exist
            return []
        raise DataError(
            f"The folder {printable(folder.name)} could not be read ({error.strerror or error}); expected one that you may "
            "open: change its permissions, or copy the data."
        ) from error


def _variants(name: str) -> list[str]:
    """The name as written and with slashes for backslashes, as a path below a folder."""
    return list(dict.fromkeys(_relative(spelling) for spelling in (name, name.replace("\\", "/")) if spelling.strip()))


def _relative(name: str) -> str:
    while name.startswith("./"):
        name = name[2:]
    return name


def _ends(name: str) -> list[str]:
    """The ends of an absolute path or an address, longest first: what may lie here as well. Of a relative path those that
    still name a folder: a bare file name may be another picture's."""
    if "://" in name:
        path = unquote(urlsplit(name).path)
    elif name.startswith(("/", "\\\\")) or _DRIVE.match(name):
        path = _DRIVE.sub("", name).replace("\\", "/")
    else:
        parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".", "..")]
        return ["/".join(parts[start:]) for start in range(1, len(parts) - 1)]
    parts = [part for part in path.split("/") if part not in ("", ".", "..")]
    return ["/".join(parts[start:]) for start in range(len(parts))]


def _composed(name: str) -> str:
    """The same for two spellings of one name: composed, and of bytes that are no UTF-8 what Windows would have meant."""
    if not name.isascii():
        try:
            name.encode("utf-8")
        except UnicodeEncodeError:
            name = os.fsencode(name).decode("cp1252", "replace") if os.name != "nt" else name
    return unicodedata.normalize("NFC", name)


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", _composed(name).casefold())
