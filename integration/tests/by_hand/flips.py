"""Runs a listing on copies of a bundle with one bit altered each, and tells which copies it accepted.

    python flips.py LISTING BUNDLE ARGUMENT … < places

`places` is a JSON list of [offset, bit]; the answer is the same for the copies that were accepted. One process for all of
them: a bundle has ten thousand bytes, and starting Python for each would take an hour. An accepted copy that says the
same as the bundle itself is accepted all the same.
"""

import contextlib
import io
import json
import pathlib
import sys
import tempfile

listing, bundle, *arguments = sys.argv[1:]
code = compile(pathlib.Path(listing).read_text(encoding="utf-8"), listing, "exec")
good = pathlib.Path(bundle).read_bytes()


def accepts(path):
    sys.argv = [listing, path, *arguments]
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            exec(code, {"__name__": "__main__"})
    except SystemExit as end:
        return end.code in (None, 0)
    except Exception:
        return False
    return True


with tempfile.TemporaryDirectory() as folder:
    copy = pathlib.Path(folder, "copy.lotline")
    copy.write_bytes(good)
    if not accepts(str(copy)):
        sys.exit(f"{listing} refuses the bundle itself")
    accepted = []
    for offset, bit in json.load(sys.stdin):
        copy.write_bytes(good[:offset] + bytes([good[offset] ^ 1 << bit]) + good[offset + 1 :])
        if accepts(str(copy)):
            accepted.append([offset, bit])
print(json.dumps(accepted))
