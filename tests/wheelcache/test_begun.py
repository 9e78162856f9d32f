"""Holding what is begun of a digest: with real processes."""

from __future__ import annotations

import subprocess
import sys

from wheelcache.store import Store

OWN = """
    import os, sys, time
    from pathlib import Path
    from wheelcache.begun import held, partial_files
    from wheelcache.store import Store

    root, number, ends = Path(sys.argv[1]), int(sys.argv[2]), time.time() + 1.5
    store, digest, mark, owned = Store.open(root), "sha256:" + "0" * 64, root / "mark", 0
    while time.time() < ends:
        with held(store, digest) as is_ours:
            if is_ours:
                os.close(os.open(mark, os.O_CREAT | os.O_EXCL))
                mark.unlink()
                if number and owned % 3 == 0:
                    partial_files(store, digest)[2].unlink(missing_ok=True)  # as who publishes does in the end
                owned += 1
    print(owned)
"""


def test_one_at_a_time_holds_a_digest_though_its_lock_file_comes_and_goes(tmp_path):
    Store.open(tmp_path)
    script = "\n".join(line.removeprefix("    ") for line in OWN.splitlines())
    argv = [sys.executable, "-c", script, str(tmp_path)]
    owners = [
        subprocess.Popen([*argv, str(number)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for number in range(4)
    ]
    ended = [owner.communicate(timeout=60) for owner in owners]
    assert [error for _, error in ended if error] == []
    assert sum(int(owned) for owned, _ in ended) >= 50
