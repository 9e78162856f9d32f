"""What tells one place from another, by what the kernel says of real ones."""

from __future__ import annotations

import subprocess
import sys

import pytest
from support.program import needs_root

from wheelcache.place import _root_mount, this_place

PROC = "22 27 0:21 / /proc rw,relatime - proc proc rw"
HOST = "27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard"
DOCKER = (
    "415 321 0:170 / / rw,relatime master:70 - overlay overlay "
    "rw,lowerdir=/var/lib/docker/overlay2/l/VNB:/var/lib/docker/overlay2/l/3YA,"
    "upperdir=/var/lib/docker/overlay2/857/diff,workdir=/var/lib/docker/overlay2/857/work"
)


@pytest.mark.parametrize(
    ("mountinfo", "found"),
    [
        (f"{PROC}\n{HOST}", ["/"]),
        (f"{DOCKER}\n{PROC}", ["/", "upperdir=/var/lib/docker/overlay2/857/diff", "overlay"]),
        ("100 1 0:31 /@rootfs / rw - btrfs /dev/sda2 rw,subvol=/@rootfs", ["/@rootfs"]),
        ("100 1 0:31 / / rw - zfs pool/containers/4711 rw", ["/", "pool/containers/4711"]),
        (f"{HOST}\n100 27 254:0 /srv/jail / rw - ext4 /dev/vda rw", ["/srv/jail"]),
        ("", []),
        ("nonsense", []),
    ],
)
def test_what_is_mounted_at_the_root_tells_containers_apart_and_no_disks(mountinfo, found):
    assert _root_mount(mountinfo) == found


def test_the_same_place_is_the_same_for_each_process():
    script = "from wheelcache.place import this_place; print(this_place().key)"
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == this_place().key


@needs_root
def test_a_machine_of_another_name_is_another_place():
    script = "from wheelcache.place import this_place; print(this_place().key, this_place().name)"
    shell = 'hostname elsewhere && exec "$0" -c "$1"'
    ran = subprocess.run(
        ["unshare", "--uts", "sh", "-c", shell, sys.executable, script], capture_output=True, text=True, check=True
    )
    key, name = ran.stdout.split(maxsplit=1)
    assert key != this_place().key
    assert name.strip().endswith("elsewhere")
