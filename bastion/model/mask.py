"""What is covered in what comes back, and how."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Mask:
    """One mask of the policy, carried by the `Allow` that it belongs to."""

    name: str
    columns: tuple[str, ...] = ()
    detectors: tuple[str, ...] = ()
    cover: str = "full"
    options: dict[str, object] = field(default_factory=dict)
