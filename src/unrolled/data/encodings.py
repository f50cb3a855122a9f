"""Recognise the encoding of a text that is not UTF-8, or return None where it is not certain.

An encoding is proposed only if its text is plausible, and far likelier than every other text that
the same bytes can mean: a wrong encoding often succeeds, and the network would learn other
characters. Distinct words are counted, so that repetition is no evidence.

Method: naive Bayes over characters, as in S. Li and K. Momoi, A composite approach to
language/encoding detection, 19th International Unicode Conference, 2001.
"""

import codecs
import math
import os
import re
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import BinaryIO

SAMPLE = 2**16
"""Bytes to judge by: the first lines that are not ASCII."""

MOST_JUDGED = 2**30
"""Bytes of a file from which on its encoding is not looked for: all of it would be read."""

MARGIN = 8.0
"""The least difference of log-likelihoods to the next text, a factor of 3,000."""

UNLIKELY = math.log(1e-6)
"""Log probability of a character that the language does not have."""

MOST_UNLIKELY = 0.05
"""Largest share of such characters among those beyond ASCII."""

DAMAGED = 3
"""Characters of UTF-8 for each wrong byte from which on a file is damaged UTF-8."""

PLAIN = math.log(0.9 / 40)
"""Log probability of an ASCII character: every language has words of them."""

BOMS = {
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}
"""Encodings by byte order mark, the longer marks first."""

JAPANESE_MAIL = b"\x1b$B"

UTF8 = re.compile(rb"[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}")

LETTERS = {
    "en": "éèïêöçñüàâ",
    "fr": "éàèêçôùîâûëïœüæÿ",
    "de": "üäößéèà",
    "es": "óíáéñúü¿¡",
    "pt": "ãçáéíóõêâúàôü",
    "it": "èàòùìéîó",
    "ca": "àéèíóòçúïü",
    "nl": "ëéïèöüóáê",
    "sv": "äåöéàü",
    "da": "øåæéôò",
    "is": "áíóðéöúæþý",
    "et": "äõüöšž",
    "pl": "łęąóżśćńź",
    "cs": "íáěéřýčžšůúťóďň",
    "sk": "áíčžéšýúľťôňóäďĺŕ",
    "hu": "áéöóőüíúű",
    "ro": "ăîţşâșț",
    "hr": "čšžćđ",
    "tr": "ışğüçöİâîû",
    "lt": "ėšųįžąūčę",
    "lv": "āīēšņļžķūčģ",
    "ru": "оеаинтсрвлкмдпуяыьгзбчйхжшюцщэфъё",
    "uk": "оанивітерслкудпмязьбгчхйшжюїцщєґф",
    "bg": "аеоинтрсвлкдпмзбуяъгчщжцхшйюфьѝ",
    "be": "аіеоянрытслкдпумвьзгйцшўжчбхэюфё",
    "mk": "аоеитнрсвдкмлпузјгбчцшхжфѓќџњљѕ",
    "kk": "аеытінрлқдсмкоғбуштжпгйзәөұүңияшвхэцюфчщъьһё",
    "sr": "аоиенрстујвкдмплзбгчшцћжхљђњџф",
    "el": "αοιετσνηυρπκμλςωάίόδγέχύθφήώβξζψϊϋΐΰ",
    "he": "יוהלאתרבמשנדעחקפטסגזכםןצךץף",
    "ar": "المنيرتهوبةسعدفحكقجىخشصطءأئؤإآغضظذزث،؟",
    "fa": "اینردهمتوسشبلکزفگعخقجحپصطآذچضظغثژئء،؟\u200c",
    "vi": "đáàâưôêơăạảấệếộốờợủềậứồữụớịãóéèòùúíìõýặầằắẵẳẽẻẹểễỉĩỏọổỗởỡũừửựỳỵỷỹẩẫ\u0301\u0300\u0309\u0303\u0323",
    "eo": "ĝŭĉŝĵĥ",
    "th": "านรกอเงมยลวดทสตะปบคหแจพชขใไโผธศณถซฟภฐญฎฉิี่้ั็์ืุูำ",
}
"""Letters beyond ASCII, the most frequent first."""

COMMON = {
    "zh": "的一是不了在人有我他这个们中来上大为和国地到以说时要就出会可也你对生能而子那得于着下自之年过发后作里"
    "用道行所然家种事成方多经么去法学如都同现当没动面起看定天分还进好小部其些主样理心她本前开但因只从想实日",
    "zht": "的一是不了在人有我他這個們中來上大為和國地到以說時要就出會可也你對生能而子那得於著下自之年過發後作裡"
    "用道行所然家種事成方多經麼去法學如都同現當沒動面起看定天分還進好小部其些主樣理心她本前開但因只從想實日",
    "ja": "日一国人年大本中長出三時行見月分後前生五間上東四今金九入学高円子外八六下来気小七山話女北午百書先名"
    "私僕彼何言思事者物手目自分心家",
    "ko": "이다는의에을를가고은하지로도한기사그리어서나아인자시들만있해대수일정부제보여"
    "전장주상라성것과구등스원우으년동적공면조위신문오까게니소",
}
"""Characters that make up about half of a text."""

PUNCTUATION = "’“”–—…«»„‚‘°§£€©®™½¼¾·•¿¡²³×"
WIDE_PUNCTUATION = "，。、！？：；（）「」『』《》“”‘’…—・ー\u3000～〜"

CONTROL = re.compile(r"[\x00-\x08\x0b\x0e-\x1f\x7f-\x9f]")

UPPER, LOWER = (
    "A-ZÀ-ÖØ-ÞŁŚŻŹĆŃĄĘŠČŘŽĎŤŇŮŐŰĞİŞΑ-ΫА-ЯЁІЇЄҐЂЃ",
    "a-zß-öø-ÿłśżźćńąęščřžďťňůőűğışά-ώа-яёіїєґђѓ",
)
ODD = re.compile(
    # a capital after a small letter, a sign in a word, a letter of another script in a word
    f"(?<=[{LOWER}])[{UPPER}]|(?<=[^\\W\\d_])[^\\w\\s!-~’‘“”·–—…\u3000-\u303f\uff00-\uffef](?=[^\\W\\d_])"
    f"|(?<=[A-Za-z])[\u0370-\u06ff]|(?<=[\u0370-\u06ff])[A-Za-z]"
)
"""Patterns that words seldom have."""

ODDNESS = 10.0
"""Penalty for each such pattern, in nats."""

WHITE = re.compile(r"[ \t\n\r\f\v\xa0\u3000]+")

LATIN = "en fr de es pt it ca nl sv da is"
CENTRAL = "pl cs sk hu ro hr"
ENCODINGS = {
    # iconv's name: Python's, the languages, how rare it is (in nats)
    "CP1252": ("cp1252", f"{LATIN} et", 0),
    "ISO-8859-15": ("iso8859-15", f"{LATIN} et", 3),
    "MACINTOSH": ("mac_roman", LATIN, 3),
    "CP850": ("cp850", LATIN, 3),
    "CP437": ("cp437", LATIN, 5),
    "CP1250": ("cp1250", f"{CENTRAL} de", 1),
    "ISO-8859-2": ("iso8859-2", f"{CENTRAL} de", 1),
    "CP852": ("cp852", f"{CENTRAL} de", 4),
    "CP1254": ("cp1254", "tr", 1),
    "CP1257": ("cp1257", "lt lv et", 2),
    "CP1251": ("cp1251", "ru uk bg sr be mk", 0),
    "KOI8-R": ("koi8-r", "ru", 1),
    "KOI8-U": ("koi8-u", "uk", 2),
    "CP866": ("cp866", "ru", 2),
    "ISO-8859-5": ("iso8859-5", "ru bg sr", 2),
    "MAC-CYRILLIC": ("mac_cyrillic", "ru uk bg", 3),
    "CP1253": ("cp1253", "el", 1),
    "ISO-8859-7": ("iso8859-7", "el", 1),
    "CP1255": ("cp1255", "he", 1),
    "ISO-8859-8": ("iso8859-8", "he", 1),
    "CP1256": ("cp1256", "ar fa", 1),
    "ISO-8859-6": ("iso8859-6", "ar", 1),
    "ISO-8859-3": ("iso8859-3", "eo", 2),
    "ISO-8859-13": ("iso8859-13", "lt lv et", 2),
    "ISO-8859-16": ("iso8859-16", "ro", 2),
    "MAC-CENTRALEUROPE": ("mac_latin2", CENTRAL, 4),
    "PT154": ("ptcp154", "kk", 2),
    "CP1258": ("cp1258", "vi", 2),
    "TIS-620": ("tis-620", "th", 1),
    "GB18030": ("gb18030", "zh zht", 0),
    "BIG5": ("big5", "zht", 0),
    "SHIFT_JIS": ("shift_jis", "ja", 0),
    "CP932": ("cp932", "ja", 1),
    "EUC-JP": ("euc-jp", "ja", 0),
    "EUC-KR": ("euc-kr", "ko", 0),
    "CP949": ("cp949", "ko", 1),
    "JOHAB": ("johab", "ko", 3),
    **{
        f"UTF-{bits}{order}": (f"utf-{bits}-{order}", " ".join([*LETTERS, *COMMON]), 1)
        for bits in (16, 32)
        for order in ("LE", "BE")
    },
}


def encoding_of(path: str | Path) -> str | None:
    """The encoding of a text file, by its name in ``iconv``; None if it is not certain."""
    with Path(path).open("rb") as file:
        if os.fstat(file.fileno()).st_size > MOST_JUDGED:
            return None
        head = file.read(SAMPLE)
        name = next((name for bom, name in BOMS.items() if head.startswith(bom)), None)
        if name is None:
            file.seek(0)
            lines = _beyond_ascii(file)
            name = "ISO-2022-JP" if JAPANESE_MAIL in lines else _likeliest(head, lines)
        file.seek(0)
        return name if name is not None and _decodes(file, name) else None


def _beyond_ascii(file: BinaryIO) -> bytes:
    """The first lines of a file that hold more than ASCII characters."""
    found = bytearray()
    while len(found) < SAMPLE and (line := file.readline(SAMPLE)):
        if JAPANESE_MAIL in line or not line.isascii():
            found += line
    return bytes(found)


def _likeliest(head: bytes, lines: bytes) -> str | None:
    if len(UTF8.findall(lines)) > DAMAGED * lines.decode(errors="replace").count("\ufffd"):
        return None  # no other encoding, but UTF-8 with a few damaged bytes
    judged: dict[str, tuple[float, bool, str]] = {}
    for name, (codec, languages, rare) in ENCODINGS.items():
        text = _text(head if name.startswith("UTF") else lines, codec)
        words = WHITE.sub(" ", text)
        if words.strip() and words.isprintable():
            score, is_plausible = max(_judge(words, each) for each in languages.split())
            judged[text] = max(
                judged.get(text, (-math.inf, False, "")), (score - rare, is_plausible, name)
            )
    if not judged:
        return None
    (best, is_plausible, name), *others = sorted(judged.values(), reverse=True)
    return name if is_plausible and (not others or best - others[0][0] >= MARGIN) else None


def _text(data: bytes, codec: str) -> str:
    """Decode bytes whose last character may be cut; an empty text if they do not decode."""
    try:
        return codecs.getincrementaldecoder(codec)().decode(data)
    except UnicodeDecodeError:
        return ""


def _decodes(file: BinaryIO, name: str) -> bool:
    """Return whether a whole file decodes to text without control characters."""
    decoder = codecs.getincrementaldecoder(ENCODINGS[name][0] if name in ENCODINGS else name)()
    try:
        while data := file.read(SAMPLE):
            if CONTROL.search(decoder.decode(data)):
                return False
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def _judge(text: str, language: str) -> tuple[float, bool]:
    """The log-likelihood of a text's words in a language, and whether they are plausible there."""
    words = " ".join(dict.fromkeys(text.split()))
    counts, probability = Counter(words), _log_probability(language)
    beyond = sum(count for c, count in counts.items() if not c.isascii())
    unlikely = sum(n for c, n in counts.items() if not c.isascii() and probability(c) <= UNLIKELY)
    odd = len(ODD.findall(words))
    score = sum(probability(c) * count for c, count in counts.items()) - ODDNESS * odd
    return score, max(unlikely, odd) <= MOST_UNLIKELY * beyond


@cache
def _log_probability(language: str) -> Callable[[str], float]:
    """``log P(character | language)``; the shares of the kinds of characters are rough."""
    marks = dict.fromkeys(WIDE_PUNCTUATION if language in COMMON else PUNCTUATION, 0.0)
    table = {c: math.log(0.03 / len(marks)) for c in marks}
    if language in LETTERS:
        ranked = list(dict.fromkeys(LETTERS[language]))
        latin = ranked[0] < "\u0250"
        share, total = (0.05 if latin else 0.8), sum(1 / (r + 2) for r in range(len(ranked)))
        table |= {c: math.log(share / (r + 2) / total) for r, c in enumerate(ranked)}
    else:
        common = dict.fromkeys(COMMON[language])
        table |= {c: math.log((0.2 if language == "ja" else 0.4) / len(common)) for c in common}

    def of(c: str) -> float:
        if c.isascii():
            return PLAIN
        small = c if c in table else c.lower()
        if small in table:
            return table[small] - (c != small)
        return math.log(_wide(language, c)) if language in COMMON else UNLIKELY

    return of


def _wide(language: str, c: str) -> float:
    """Probability of a character that is none of the common ones, by the plane that it is in."""
    if language == "ja" and "\u3041" <= c <= "\u30ff":
        return 0.5 / 80 if c < "\u30a0" else 0.08 / 90
    first = {"zh": ("gb2312", 0xD7), "zht": ("big5", 0xC6), "ja": ("euc-jp", 0xCF),
             "ko": ("euc-kr", 0xC8)}  # fmt: skip
    codec, last = first[language]
    try:
        lead, *_ = c.encode(codec)
    except UnicodeEncodeError:
        lead = 0xFF
    is_own = ("\uac00" <= c <= "\ud7a3") if language == "ko" else ("\u4e00" <= c <= "\u9fff")
    if not is_own:
        return 1e-7
    return 0.4 / 3000 if lead <= last else 0.01 / 20000
