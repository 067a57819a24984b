"""Names from outside are shown so that they can do nothing."""

import pytest

from cnntrain.runtime.names import printable


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("plain name.jpg", "plain name.jpg"),
        ("Käfer 猫 🐜", "Käfer 猫 🐜"),
        ("two\nlines\r", r"two\nlines\r"),
        ("\x1b[31mred\x1b[0m", r"\x1b[31mred\x1b[0m"),
        ("\x9b31m", r"\x9b31m"),
        ("gpj.\u202ekcab", r"gpj.\u202ekcab"),
        ("caf\udce9", r"caf\udce9"),
        ("é\n", "é\\n"),
        (7, "7"),
    ],
)
def test_a_name_that_cannot_be_shown_is_written_out(name: object, shown: str) -> None:
    assert printable(name) == shown
    assert printable(name).isprintable()
