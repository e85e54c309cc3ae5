"""Devanagari in letters that T5 knows, and back, exactly.

T5's vocabulary has no Devanagari: a Hindi word is one ``<unk>``. ``romanise`` spells every run of characters
that T5 cannot hold in ASCII and leaves the rest alone, ``restore`` is its inverse: ``restore(romanise(text)) ==
text`` for every text, composed or not, with marks in any order. Devanagari gets letters; the other scripts and
signs that T5 lacks, or would change under NFKC, are rare beside it and get an escape each.

    भारत की राजधानी (New Delhi) है।   ->   # bhaarat ci raajadhaani # (New Delhi) # hai|
    6±0.5                             ->   6# =yaalb0.5

How a run is spelt (the letters were chosen for few T5 tokens on Hindi Wikipedia passages, then for the eye):
    #        opens a run before a space, closes it after one; a run that ends the text is not closed.
             A run goes on over spaces, digits and most punctuation. ``##`` is a # of the text itself.
    a        the inherent vowel, written inside a word, not at its end (भारत bhaarat). Consonants without a
             vowel between them are a cluster (स्त st). At a word's end long and short vowels trade places:
             final long ones are far more frequent (की ci, कि cee).
    '        a virama that is not inside a cluster (महान् mahaan'), else only keeps two codes apart.
    |  ||    danda and double danda.
    =        a character without letters: its place in the block as two letters of a..p (ॐ =fa), Devanagari
             digits as digits (१९४७ =1947), the joiners as =zj and =zn, any other character by its code point
             in letters a..p for hexadecimal digits: =y and four (± =yaalb), above U+FFFF =w, the plane as one
             letter a..q, and four.
"""

from __future__ import annotations

import functools
import re

MARK = "#"
_BLOCK, _DIGIT_ZERO = 0x0900, 0x0966
_VIRAMA, _NUKTA = "\u094d", "\u093c"
_JOINERS = {"\u200d": "=zj", "\u200c": "=zn"}

_PLAIN_CONSONANTS = dict(
    zip(
        "कखगघङचछजझञटठडढणतथदधनपफबभमयरलळवशषसह",
        "c k g gh G ch chh j jh w T Th D Dh N t th d dh n p f b bh m y r l L v sh x s h".split(),
        strict=True,
    )
)
_NUKTA_PAIRS = {"क": "q", "ख": "kk", "ग": "gg", "ज": "z", "ड": "rr", "ढ": "rrh", "फ": "ff", "य": "yy"}
_COMPOSED = {  # one code point that NFC or NFD may take apart: a pair's code and X
    "\u0958": "qX", "\u0959": "kkX", "\u095a": "ggX", "\u095b": "zX", "\u095c": "rrX", "\u095d": "rrhX",
    "\u095e": "ffX", "\u095f": "yyX", "\u0929": "nX", "\u0931": "rX", "\u0934": "LX",
}  # fmt: skip
_CONSONANTS = _PLAIN_CONSONANTS | {c + _NUKTA: code for c, code in _NUKTA_PAIRS.items()} | _COMPOSED
_VOWELS = dict(zip("अआइईउऊऋएऐओऔऑऍ", "a aa i ee u oo R e ai o ou au ea".split(), strict=True))
_VOWEL_SIGNS = dict(zip("ािीुूृेैोौॉॅ", "आइईउऊऋएऐओऔऑऍ", strict=True))
_MARKS = {"ं": "ng", "ँ": "M", "\u0903": "H", "।": "|", "॥": "||"}
_VOWEL_MARKS = ("\u0902", "\u0901", "\u0903")
LETTERS = "".join((*_PLAIN_CONSONANTS, *_VOWELS, *_VOWEL_SIGNS, *_MARKS, _VIRAMA, _NUKTA))
"""Devanagari as Hindi is written with it: a vocabulary that has these can hold it as it is."""
_INHERENT, _APART = "a", "'"
_AT_WORD_END = {"a": "aa", "aa": "a", "i": "ee", "ee": "i", "u": "oo", "oo": "u"}

_CODES = sorted({*_CONSONANTS.values(), *_VOWELS.values(), *_MARKS.values()}, key=len, reverse=True)
_LONGER = {code: tuple(c for c in _CODES if c != code and c.startswith(code)) for code in _CODES}
_CONSONANT_OF = {code: consonant for consonant, code in _CONSONANTS.items()}
_VOWEL_OF = {code: vowel for vowel, code in _VOWELS.items()}
_SIGN_OF = {vowel: sign for sign, vowel in _VOWEL_SIGNS.items()}
_MARK_OF = {code: mark for mark, code in _MARKS.items()}
_JOINER_OF = {code: joiner for joiner, code in _JOINERS.items()}

# All that T5 gives back as it got it, but for > and the soft hyphen, which `tasks.text.plain` changes, and the 14
# Cyrillic letters: half a word in escapes is longer than a whole one.
_KEPT = r"""\s0-9A-Za-z!"#$%&'()*+,\-./:;=?@\[\]_|£«®°»ÉÎÜßàáâäçèéêîóôöùûüăşţșț–—‘’“”„•′€"""  # noqa: RUF001
_SCRIPT = f"[^{_KEPT}]"
# Between the words of a run. Nothing here may turn into a letter or a sign of the code under NFKC.
_NEUTRAL = r"""[\s0-9!"$%&()*+,\-./:;?@\[\]_–—‘’“”„•°]"""  # noqa: RUF001
_LACKED = re.compile(_SCRIPT)
_LETTER_OF_DIGIT = str.maketrans("0123456789abcdef", "abcdefghijklmnop")
_RUN = re.compile(rf"{_SCRIPT}+(?:{_NEUTRAL}+{_SCRIPT}+)*(?:{_NEUTRAL}+\Z)?|{MARK}(?![0-9A-Za-z])")
_UNIT = re.compile(rf"[{''.join(_NUKTA_PAIRS)}]{_NUKTA}|[\u0966-\u096f]+|.", re.DOTALL)
_ROMAN_RUN = re.compile(rf"{MARK}{MARK}|{MARK}\s+([^{MARK}]*)({MARK}?)")
_CODE_POINT = "=y(?!n[i-p])[a-p]{4}|=w[b-q][a-p]{4}"  # d800 to dfff are no characters
_TOKEN = re.compile(
    "|".join(["=[0-9]+", "=z[jn]", _CODE_POINT, "=[a-h][a-p]", *map(re.escape, _CODES), "."]), re.DOTALL
)


def romanise(text: str) -> str:
    """Spell what T5 cannot hold in ASCII, run by run; all else stays, but a lone ``#`` becomes ``##``."""
    return _RUN.sub(_romanise_run, text)


def restore(text: str) -> str:
    """The inverse of ``romanise``. Total: what no rule explains, in a model's answer say, stays as it is."""
    return _ROMAN_RUN.sub(_restore_run, text)


def _romanise_run(match: re.Match[str]) -> str:
    run = match.group()
    if run == MARK:
        return MARK + MARK
    closing = "" if match.end() == len(match.string) else f" {MARK}"
    return f"{MARK} {_join(_codes(_UNIT.findall(run)))}{closing}"


def _codes(units: list[str]) -> list[str]:
    """Units (a consonant with its nukta, digits, any other character) -> codes, not yet kept apart."""
    codes: list[str] = []
    position = 0
    while position < len(units):
        unit, following, second = (*units[position : position + 3], "", "")[:3]
        position += 1
        if unit in _VOWELS:
            codes.append(_vowel_code(unit, following))
        elif unit not in _CONSONANTS:
            codes.append(_MARKS.get(unit) or _escape(unit))
        elif following in _VOWEL_SIGNS:
            codes += [_CONSONANTS[unit], _vowel_code(_VOWEL_SIGNS[following], second)]
            position += 1
        elif following == _VIRAMA:
            codes += [_CONSONANTS[unit]] if second in _CONSONANTS else [_CONSONANTS[unit], _APART]
            position += 1
        else:
            needs_vowel = following in _CONSONANTS or following in _VOWELS or following in _VOWEL_MARKS
            codes += [_CONSONANTS[unit], _INHERENT] if needs_vowel else [_CONSONANTS[unit]]
    return codes


def _vowel_code(vowel: str, following: str) -> str:
    """A vowel's code, traded for its partner at the end of a word."""
    code = _VOWELS[vowel]
    return code if _continues_word(following) else _AT_WORD_END.get(code, code)


def _escape(unit: str) -> str:
    """A unit without letters: digits, joiners, the block, what T5 lacks; others stand for themselves."""
    if unit in _JOINERS:
        return _JOINERS[unit]
    if not _in_block(unit[0]):
        return _escape_code_point(unit) if _LACKED.fullmatch(unit) else unit
    if unit.isdecimal():
        return "=" + "".join(str(ord(digit) - _DIGIT_ZERO) for digit in unit)
    return "=" + _letters(ord(unit) - _BLOCK, 2)


def _escape_code_point(character: str) -> str:
    """A character by its number; half a surrogate pair is none and stands for itself."""
    if "\ud800" <= character <= "\udfff":
        return character
    plane, rest = divmod(ord(character), 0x10000)
    return f"=w{chr(ord('a') + plane)}{_letters(rest, 4)}" if plane else f"=y{_letters(rest, 4)}"


def _letters(number: int, num_digits: int) -> str:
    """A number in hexadecimal, its digits as a..p."""
    return f"{number:0{num_digits}x}".translate(_LETTER_OF_DIGIT)


def _number(letters: str) -> int:
    """The inverse of ``_letters``."""
    return functools.reduce(lambda number, letter: 16 * number + ord(letter) - ord("a"), letters, 0)


def _join(codes: list[str]) -> str:
    """Codes in one string that longest-match reading takes apart again."""
    parts: list[str] = []
    ahead = ""  # the next three characters: no code is longer than four
    for code in reversed(codes):
        merges = f"{code}{ahead}".startswith(_LONGER.get(code, ()))
        merges = merges or (code[0] == "=" and code[1:].isdecimal() and ahead[:1].isdecimal())
        parts.append(code + _APART if merges else code)
        ahead = (parts[-1] + ahead)[:3]
    return "".join(reversed(parts))


def _restore_run(match: re.Match[str]) -> str:
    if match.group(1) is None:
        return MARK
    run, closing = match.groups()
    tokens = _TOKEN.findall(run.rstrip() if closing else run)
    restored: list[str] = []
    pending = False  # the last character is a consonant that may still take a vowel or a virama
    for position, token in enumerate(tokens):
        consonant, vowel = _CONSONANT_OF.get(token), _vowel_at(tokens, position)
        if consonant is not None:
            restored += [_VIRAMA, consonant] if pending else [consonant]
        elif vowel is not None:
            restored.append(_vowel_after_consonant(vowel, token) if pending else vowel)
        elif token == _APART:
            restored.append(_VIRAMA if pending else "")
        else:
            restored.append(_unescape(token))
        pending = consonant is not None
    return "".join(restored)


def _vowel_after_consonant(vowel: str, token: str) -> str:
    """A vowel as a sign; nothing for the inherent one. A final aa is never written here, but meant as aa."""
    if vowel == "अ":
        return "" if token == _INHERENT else _SIGN_OF["आ"]
    return _SIGN_OF[vowel]


def _vowel_at(tokens: list[str], position: int) -> str | None:
    """The vowel that a token stands for at its place in the word, None for another token."""
    token = tokens[position]
    if token not in _VOWEL_OF:
        return None
    following = next((t for t in tokens[position + 1 : position + 3] if t != _APART), "")
    inside = following in _CONSONANT_OF or following in _VOWEL_OF or _continues_word(_unescape(following))
    return _VOWEL_OF[token if inside else _AT_WORD_END.get(token, token)]


def _unescape(token: str) -> str:
    """A mark or an escaped character; any other token stands for itself."""
    if token in _MARK_OF:
        return _MARK_OF[token]
    if token in _JOINER_OF:
        return _JOINER_OF[token]
    if token[:1] != "=" or len(token) == 1:
        return token
    if token[1].isdecimal():
        return "".join(chr(_DIGIT_ZERO + int(digit)) for digit in token[1:])
    return chr(_number(token[2:]) if token[1] in "yw" else _BLOCK + _number(token[1:]))


def _continues_word(following: str) -> bool:
    """Whether a word goes on: any of the script but danda, digits and the abbreviation sign."""
    first = following[:1]
    return first in _JOINERS or (_in_block(first) and not "\u0964" <= first <= "\u0970")


def _in_block(character: str) -> bool:
    return "\u0900" <= character <= "\u097f"
