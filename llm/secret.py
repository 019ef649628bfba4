"""An endpoint's key, and how it is hidden wherever the endpoint may echo it."""

from __future__ import annotations

import base64
import re
from string import ascii_lowercase, ascii_uppercase

# One character, as JSON, Python, URLs and HTML may spell it, and a sign with the backslashes before it.
CHARACTER = re.compile(
    r"(?is)\\{1,8}(?:u00|x)([0-9a-f]{2})|%(?:25){0,8}([0-9a-f]{2})|&#x0{0,8}([0-9a-f]{2});|&#0{0,8}([0-9]{2,3});"
    r"|\\{0,8}[^\w\s\\]|."
)
ALIKE = str.maketrans(ascii_uppercase + "-_", ascii_lowercase + "+/")  # the two alphabets of base64, and case


class Secret:
    """A key that is sent to its endpoint and shown nowhere."""

    shortest = 8  # characters: a shorter key may be a word, and hiding it would spoil honest answers

    def __init__(self, key: str) -> None:
        """Keep a key; raises ValueError if no header can hold it."""
        if not (key.isascii() and key.isprintable() and " " not in key):
            raise ValueError("the key holds a blank, a line break or another character that no key has; set it again")
        self.key = key
        self.parts: set[str] = set()
        # A part of a key is hidden as well: half of it, or 16 characters of a long one.
        self.length = min(16, max(self.shortest, len(key) // 2))
        if len(key) >= self.shortest:
            for form in (key, *(base64_within(key, shift) for shift in range(3))):
                plain = form.translate(ALIKE)
                self.parts |= {plain[at : at + self.length] for at in range(len(plain) - self.length + 1)}

    def hide(self, text: str) -> str:
        """Return a text with *** in place of the key and of parts of it, also in JSON's, URLs', HTML's and base64."""
        if not self.parts:
            return text
        spelled = list(CHARACTER.finditer(text))
        plain = "".join(map(decode, spelled)).translate(ALIKE)
        hidden: set[int] = set()
        for at in range(len(plain)):
            if plain[at : at + self.length] in self.parts:
                hidden.update(range(at, at + self.length))
        shown = (m[0] if at not in hidden else "***" if at - 1 not in hidden else "" for at, m in enumerate(spelled))
        return "".join(shown)


def decode(character: re.Match[str]) -> str:
    """Return the one character that a match of CHARACTER spells."""
    *hexadecimal, decimal = character.groups()
    code = int(decimal) if decimal else int("".join(filter(None, hexadecimal)) or "0", 16)
    return chr(code) if code else character[0][-1]


def base64_within(key: str, shift: int) -> str:
    """Return the part of a base64 text that depends on the key alone, `shift` bytes after a multiple of three."""
    whole = base64.b64encode(b"\0" * shift + key.encode()).decode()
    return whole[-(-8 * shift // 6) : 8 * (shift + len(key)) // 6]
