"""What the doctor says."""

from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Verdict:
    """One thing that is wrong, or may be.

    Attributes:
        kind: What it is called, such as `dead_relus`; each kind is told once at most.
        severity: `problem`: training cannot go well like this. `warning`: it could go better. `notice`: numbers do not
            tell what they seem to.
        finding: One plain sentence, with the layer or the epoch concerned.
        evidence: The numbers that it follows from, as plain values.
        advice: What to try, with configuration keys.
    """

    kind: str
    severity: Literal["problem", "warning", "notice"]
    finding: str
    evidence: dict[str, Any]
    advice: str
