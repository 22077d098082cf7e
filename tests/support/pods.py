"""The chart's pods as processes: their files in a folder, and their arguments moved to it."""

from __future__ import annotations

import re
from pathlib import Path

from tests.support.charts import Release


class Pod:
    """The exporter's container of a release, with its places inside a folder."""

    def __init__(self, release: Release, root: Path) -> None:
        self._root = root
        self._mounts = {
            mount["name"]: mount["mountPath"] for mount in release.container()["volumeMounts"]
        }
        self._container = release.container()
        for item in self._mounts.values():
            self.place(item).mkdir(parents=True, exist_ok=True)
        for volume in release.pod()["volumes"]:
            if volume["name"] == "config":
                name = volume["configMap"]["name"]
                for file, text in release.one("ConfigMap", name)["data"].items():
                    (self.mount("config") / file).write_text(self.moved(text))

    def place(self, path: str) -> Path:
        """Return where a path of the container is."""
        return self._root / path.lstrip("/")

    def mount(self, name: str) -> Path:
        """Return where a volume is."""
        return self.place(self._mounts[name])

    def moved(self, text: str) -> str:
        """Return a text of the container with its places inside the folder."""
        places = "|".join(map(re.escape, self._mounts.values()))
        return re.sub(rf"({places})(?![\w-])", rf"{self._root}\1", text)

    def arguments(self) -> list[str]:
        """Return what the container gives the program."""
        return [self.moved(text) for text in self._container["args"]]

    def probe(self, name: str) -> list[str]:
        """Return the command of a probe."""
        return [self.moved(text) for text in self._container[name]["exec"]["command"]]
