"""How far a command is, for who watches."""

from __future__ import annotations


class Progress:
    """Counts what it is called for, on a terminal's last line; where there is no terminal it says nothing."""

    def __init__(self, doing: str, unit: str) -> None:
        self.doing, self.unit = doing, unit

    def __enter__(self) -> Progress:
        from tqdm import tqdm

        self.bar = tqdm(desc=self.doing, unit=f" {self.unit}", disable=None, leave=False)
        return self

    def __call__(self, label: str) -> None:
        self.bar.set_description(label, refresh=False)
        self.bar.update()

    def __exit__(self, *error: object) -> None:
        self.bar.close()
