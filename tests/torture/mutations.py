"""Files that are almost right: bytes, structure of archives, headers of arrays, numbers, facts and text, changed.

Checksums are made to match, so that what is changed reaches the reader behind them; else CRC-32 would refuse it all.
"""

import gzip
import io
import json
import struct
import zipfile
from copy import deepcopy

import numpy as np

# What hostile hands put where a number or a word is expected.
NUMBERS = [
    0,
    1,
    -1,
    2,
    3,
    255,
    2**31 - 1,
    2**31,
    -(2**31),
    2**62,
    2**63 - 1,
    2**64,
    10**12,
    10**30,
    1e308,
    5e-324,
    -0.0,
]
WORDS = [
    "",
    "full",
    "exact",
    "nan",
    "\x1b[31mred",
    "<script>alert(1)</script>",
    "../../x",
    "a\nb",
    "\ud800",
    "9" * 5000,
    "π",
]
JSON_VALUES = [None, True, False, [], {}, [[]], {"a": {}}, float("nan"), float("inf"), *NUMBERS, *WORDS]
FLOATS = [np.nan, np.inf, -np.inf, 0.0, -1.0, 1e308, -1e308, 5e-324, 1e-300, 1e200, 1.0]
DTYPES = [
    "|O",
    ">f8",
    "<f4",
    "<f2",
    "<f16",
    "<i8",
    "<i1",
    "|b1",
    "<c16",
    "<U1",
    "<U0",
    "|S3",
    "|V8",
    "<M8[ns]",
    "(1000000,)f8",
    "<q",
]
SHAPES = [
    (),
    (0,),
    (1,),
    (-1,),
    (10**18,),
    (2**31, 2**31),
    (0, 10**18),
    (1,) * 40,
    (2**64,),
    (3, -3),
    (True,),
    (1.5,),
    (10**9, 0),
]
NAMES = [
    "../escape.npy",
    "/etc/passwd.npy",
    "C:\\x.npy",
    "x\x1b[31m.npy",
    "alpha",
    "a.npy/",
    "..npy",
    ".npy",
    "header.npy",
    "alpha.npy",
]
TOKENS = (
    b"0 -1 nan inf 1e999 99999999999999999999 1000000000000 2147483648 1.5.5 x % %%MatrixMarket complex array".split()
)
TOKENS += b"coordinate pattern integer hermitian skew-symmetric general vector".split()
TOKENS += [b"", b"\x00", b"\xff", b"\x1d", b"9" * 400, b"\r", b"\n\n"]


def pick(generator, choices):
    """Return one of several."""
    return choices[int(generator.integers(len(choices)))]


def mutate(generator, seed):
    """Return a changed copy of a file, by what it is."""
    if generator.random() < 0.2:
        return damaged(generator, seed)
    if seed[:2] == b"PK":
        return changed_archive(generator, seed)
    if seed[:6] == b"\x93NUMPY":
        return changed_array(generator, seed)
    if seed[:2] == b"\x1f\x8b":
        return gzip.compress(changed_text(generator, gzip.decompress(seed)), 1)
    return changed_text(generator, seed)


def damaged(generator, data):
    """Flip, cut, repeat, remove, insert bytes."""
    data = bytearray(data)
    for _ in range(int(generator.integers(1, 5))):
        if not data:
            break
        at, length = int(generator.integers(len(data))), int(generator.integers(1, 40))
        match int(generator.integers(7)):
            case 0:
                data[at] ^= 1 << int(generator.integers(8))
            case 1:
                data[at] = int(generator.integers(256))
            case 2:
                del data[at:]
            case 3:
                del data[at : at + length]
            case 4:
                data[at:at] = data[at : at + length]
            case 5:
                data[at : at + length] = generator.bytes(length)
            case 6:
                data[at : at + 4] = struct.pack("<I", pick(generator, [0, 1, 2**31 - 1, 2**32 - 1, len(data), 0xFFFF]))
    return bytes(data)


# -- arrays -----------------------------------------------------------------------------------------------------


def npy(array):
    """Return an array as NumPy writes it."""
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=False)
    return stream.getvalue()


def with_header(text, data, version=1):
    """Return an .npy file with this text for a header."""
    text = text.encode("latin1", "replace") + b"\n"
    size = struct.pack("<H" if version == 1 else "<I", len(text) & (0xFFFF if version == 1 else 0xFFFFFFFF))
    return b"\x93NUMPY" + bytes([version, 0]) + size + text + data


def changed_array(generator, data):
    """Change the numbers of an .npy file, or what its header says of them."""
    try:
        array = np.load(io.BytesIO(data), allow_pickle=False)
    except Exception:  # it was changed before
        return damaged(generator, data)
    match int(generator.integers(6)):
        case 0 | 1:
            return npy(changed_numbers(generator, array))
        case 2:
            return npy(reshaped(generator, array))
        case 3:
            return npy(
                array.astype(pick(generator, ["<f4", ">f8", "<i8", "<c16", "<f2", "<i4"]))
                if array.dtype.kind in "biuf"
                else array
            )
        case 4:
            described = pick(
                generator,
                [repr(pick(generator, DTYPES)), repr(array.dtype.str), "[('a', '<f8')]", "1", "__import__('os')"],
            )
            shape = pick(generator, [array.shape, pick(generator, SHAPES)])
            order = pick(generator, ["False", "True", "0"])
            text = f"{{'descr': {described}, 'fortran_order': {order}, 'shape': {shape}}}"
            return with_header(text, array.tobytes(), int(generator.integers(1, 4)))
        case _:
            text = pick(
                generator,
                ["", "{", "(" * 3000, "[" * 90000, "{'descr': '<f8'}", "1" * 9000, "\x00", "lambda: 0", "{}" * 50],
            )
            return with_header(text, array.tobytes())


def changed_numbers(generator, array):
    """Put odd numbers into some places."""
    array = np.array(array)
    if not array.size:
        return array
    flat = array.reshape(-1)
    for _ in range(int(generator.integers(1, 4))):
        at = int(generator.integers(flat.size))
        if array.dtype.kind in "iu":
            bounds = np.iinfo(array.dtype)
            flat[at] = np.clip(
                pick(generator, [n for n in NUMBERS if isinstance(n, int) and abs(n) < 2**63]), bounds.min, bounds.max
            )
        elif array.dtype.kind == "b":
            flat[at] = not flat[at]
        elif array.dtype.kind in "fc":
            with np.errstate(all="ignore"):
                flat[at] = pick(generator, FLOATS)
    return array


def reshaped(generator, array):
    """Return it with fewer entries, more entries, another number of dimensions."""
    array = np.asarray(array)
    if array.ndim == 0:
        return array[None]
    choices = [
        array.ravel(),
        array[:0],
        array[:1],
        array.T,
        array[None],
        array[..., None],
        np.concatenate([array, array]),
        array[..., :1],
    ]
    return pick(generator, choices)


# -- archives ---------------------------------------------------------------------------------------------------


def changed_archive(generator, data):
    """Change members of an archive, and how it holds them."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    extra, method = [], zipfile.ZIP_STORED
    for _ in range(int(generator.integers(1, 3))):
        name = pick(generator, [*members])
        match int(generator.integers(10)):
            case 0 | 1 | 2 if "header.npy" in members:
                members["header.npy"] = changed_facts(generator, members["header.npy"])
            case 3 | 4 | 5:
                members[name] = changed_array(generator, members[name]) if members[name][:6] == b"\x93NUMPY" else b""
            case 6:
                members[name] = damaged(generator, members[name])
            case 7:
                members[pick(generator, [*NAMES, *members])] = members.pop(name)
            case 8:
                extra.append(
                    (pick(generator, [name, *NAMES]), pick(generator, [b"", bytes(100_000), members.get(name, b"")]))
                )
            case _:
                method = pick(
                    generator, [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
                )
        if not members:
            break
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method, compresslevel=1) as archive:
        for name, content in [*members.items(), *extra]:
            archive.writestr(zipfile.ZipInfo(name), content, method)
    made = stream.getvalue()
    return lied_about(generator, made) if generator.random() < 0.1 else made


def lied_about(generator, data):
    """Change the sizes, offsets or flags that the directory of an archive tells of a member."""
    data, at = bytearray(data), data.find(b"PK\x01\x02")
    if at < 0:
        return bytes(data)
    places = [(8, "<H"), (10, "<H"), (16, "<I"), (20, "<I"), (24, "<I"), (28, "<H"), (42, "<I")]
    where, form = pick(generator, places)
    most = 2 ** (8 * struct.calcsize(form))
    struct.pack_into(form, data, at + where, pick(generator, [0, 1, 8, 99, 10**4, 10**9, 2**32 - 1]) % most)
    return bytes(data)


def changed_facts(generator, member):
    """Change the JSON of a result."""
    try:
        facts = json.loads(str(np.load(io.BytesIO(member), allow_pickle=False)))
    except Exception:  # it was changed before
        return member
    return npy(np.array(changed_json(generator, facts)))


def changed_json(generator, facts):
    """Return the JSON of facts with some exchanged for what does not belong there, or with damage."""
    if generator.random() < 0.05:
        return pick(
            generator, ["", "[" * 100_000, "{", "null", "1", '"a"', "[1, 2", "NaN", "1" * 6000, json.dumps(facts)[:-1]]
        )
    for _ in range(int(generator.integers(1, 3))):
        where = facts
        while generator.random() < 0.8:  # walk down
            keys = [key for key in _keys(where) if isinstance(where[key], dict | list)]
            if not keys:
                break
            where = where[pick(generator, keys)]
        if (keys := _keys(where)) and generator.random() < 0.85:
            where[pick(generator, keys)] = deepcopy(pick(generator, JSON_VALUES))
        elif keys:
            del where[pick(generator, keys)]
        elif isinstance(where, dict):
            where[pick(generator, WORDS)] = deepcopy(pick(generator, JSON_VALUES))
    return json.dumps(facts)


def _keys(where):
    return [*where] if isinstance(where, dict) else [*range(len(where))] if isinstance(where, list) else []


# -- Matrix Market ----------------------------------------------------------------------------------------------


def changed_text(generator, data):
    """Change words and lines of a text."""
    lines = data.split(b"\n")
    for _ in range(int(generator.integers(1, 4))):
        at = (
            int(generator.integers(len(lines)))
            if generator.random() < 0.6
            else min(int(generator.integers(3)), len(lines) - 1)
        )
        match int(generator.integers(6)):
            case 0 | 1 | 2:
                words = lines[at].split(b" ")
                words[int(generator.integers(len(words)))] = pick(generator, TOKENS)
                lines[at] = b" ".join(words)
            case 3:
                lines.insert(at, pick(generator, [lines[at], b"", b"% " + b"c" * 3000, pick(generator, TOKENS)]))
            case 4:
                lines[at] = damaged(generator, lines[at])
            case _:
                del lines[at]
                lines = lines or [b""]
    return b"\n".join(lines)
