"""One store and several users, real ones: root in a user's store, a user in root's, and a group that shares one."""

from __future__ import annotations

import os
import signal
import stat
from pathlib import Path

import pytest
from support.program import TARGET, needs_root, wait_until
from support.server import Serve
from support.users import House, User, Users, fetched
from support.wheels import make_wheel

from wheelcache.partial import usable_bytes
from wheelcache.place import boot_id

pytestmark = needs_root

ROOT = User(uid=0, gid=0)
USER = User(uid=65534, gid=65534)
ONE, TWO = make_wheel("one", "1.0", size=200_000), make_wheel("two", "1.0", size=3_000_000)


@pytest.fixture(scope="module")
def users():
    with Users() as started:
        yield started


@pytest.fixture
def house(users):
    made = House(users)
    yield made
    made.close()


@pytest.fixture
def url(server):
    return server.put_wheel(ONE).rpartition("/")[0] if server.put_wheel(TWO) else ""


@pytest.fixture
def one(house, url) -> Path:
    return house.lockfile("pylock.one.toml", url, ONE)


@pytest.fixture
def two(house, url) -> Path:
    return house.lockfile("pylock.two.toml", url, TWO)


def blob(house: House, made) -> Path:
    name = made.digest.removeprefix("sha256:")
    return house.cache / "v1" / "blobs" / "sha256" / name[:2] / name


class TestRootInAUsersStore:
    def test_leaves_all_that_it_makes_to_the_user(self, house, one, two):
        house.belong_to(USER)
        assert fetched(house.sync(USER, one)) == ONE.size
        assert fetched(house.sync(ROOT, one, two)) == TWO.size
        assert house.run(ROOT, "pin", two, *TARGET).code == 0
        assert house.run(ROOT, "verify").code == 0
        assert set(house.owners().values()) == {(USER.uid, USER.gid)}
        assert fetched(house.sync(USER, one, two)) == 0
        two.unlink()
        assert house.run(USER, "unpin", TWO.digest).code == 0
        assert house.run(USER, "prune", "--all").code == 0
        assert (blob(house, ONE).exists(), blob(house, TWO).exists()) == (True, False)

    def test_makes_a_store_of_the_users_in_the_users_folder(self, house, one):
        house.belong_to(USER)
        house.cache = house.cache / "deep" / "down"
        assert fetched(house.sync(ROOT, one)) == ONE.size
        assert house.cache.parent.stat().st_uid == USER.uid
        assert set(house.owners().values()) == {(USER.uid, USER.gid)}

    def test_leaves_what_it_has_begun_to_the_user_when_it_is_killed(self, house, two, server, run):
        house.belong_to(USER)
        path = f"/files/{TWO.filename}"
        server.script(path, then=Serve(silent_at=2_500_000))
        with run.start("sync", two, *TARGET, "--cache-dir", house.cache) as process:
            partial = house.cache / "v1" / "partial"
            wait_until(lambda: partial.is_dir() and usable_bytes(partial, TWO.digest, boot=boot_id()) > 0)
            process.send_signal(signal.SIGKILL)
        begun = {f"v1/partial/{blob(house, TWO).name}.{end}" for end in ("part", "json", "lock")}
        assert begun <= house.owners().keys()
        assert list((house.cache / "v1" / "leases").iterdir()) != []
        assert set(house.owners().values()) == {(USER.uid, USER.gid)}
        server.script(path)
        assert 0 < fetched(house.sync(USER, two)) < TWO.size

    def test_leaves_a_view_that_the_user_can_prune(self, house, one):
        house.belong_to(USER)
        assert fetched(house.sync(USER, one)) == ONE.size
        placed = house.view(ROOT, ONE)
        assert placed.exists()
        assert set(house.owners().values()) == {(USER.uid, USER.gid)}
        assert house.run(USER, "prune", "--all").code == 0
        assert not placed.exists()


class TestAUserInRootsStore:
    def test_is_told_whose_it_is_and_what_helps(self, house, one):
        assert fetched(house.sync(ROOT, one)) == ONE.size
        before = house.owners()
        named = [[command, one, *TARGET] for command in ("sync", "status", "pin")]
        for arguments in (*named, ["list"], ["prune"], ["verify"]):
            ran = house.run(USER, *arguments)
            assert ran.code == 6, ran
            assert "belongs to root; to make all of it yours: sudo chown -R nobody " in ran.err
            assert str(house.cache) in ran.err
            assert "Traceback" not in ran.err
        assert house.owners() == before

    def test_uses_the_blobs_that_are_roots_in_a_store_of_their_own(self, house, one):
        house.belong_to(USER)
        assert fetched(house.sync(USER, one)) == ONE.size
        os.chown(blob(house, ONE), 0, 0)
        assert fetched(house.sync(USER, one)) == 0
        assert house.run(USER, "wheelhouse", house.cache.parent / "wheels", one, *TARGET).code == 0
        (handed,) = (house.cache.parent / "wheels").glob("*.whl")
        assert (handed.read_bytes(), handed.stat().st_uid) == (ONE.data, USER.uid)

    def test_gets_views_of_roots_blobs_as_links_where_the_kernel_lets_them_and_else_as_copies(self, house, one):
        house.belong_to(USER)
        assert fetched(house.sync(USER, one)) == ONE.size
        os.chown(blob(house, ONE), 0, 0)
        placed = house.view(USER, ONE)
        is_forbidden = Path("/proc/sys/fs/protected_hardlinks").read_text().strip() == "1"
        assert (placed.stat().st_ino != blob(house, ONE).stat().st_ino) == is_forbidden
        assert placed.read_bytes() == ONE.data
        assert stat.S_IMODE(placed.stat().st_mode) == 0o444

    @pytest.mark.parametrize("place", ["blobs", "partial", "leases", "projects", "prune.lock", "catalog.sqlite"])
    def test_is_told_what_helps_where_a_part_of_their_store_is_roots_and_goes_on_once_it_is_done(
        self, house, one, two, place
    ):
        house.belong_to(USER)
        assert fetched(house.sync(USER, one)) == ONE.size
        foreign = house.cache / "v1" / place
        for path in (foreign, *foreign.rglob("*")):
            os.chown(path, 0, 0)
        ran = house.sync(USER, two)
        assert ran.code == 6, ran
        assert f"{foreign}" in ran.err
        assert f"belongs to root; to make all of it yours: sudo chown -R nobody {house.cache}\n" in ran.err
        assert "Traceback" not in ran.err
        house.belong_to(USER)
        assert fetched(house.sync(USER, one, two)) <= TWO.size
        assert house.run(USER, "verify").code == 0


class TestAGroup:
    GROUP = 4711

    @pytest.fixture(params=[0o002, 0o022], ids=["umask 002", "umask 022"])
    def pair(self, request, house):
        house.belong_to(User(uid=0, gid=self.GROUP), mode=0o2775)
        return [User(uid=uid, gid=self.GROUP, umask=request.param) for uid in (1, 65534)]

    def test_shares_blobs_and_prunes(self, house, one, two, pair):
        first, second = pair
        assert fetched(house.sync(first, one)) == ONE.size
        assert fetched(house.sync(second, one, two)) == TWO.size
        assert fetched(house.sync(first, one, two)) == 0
        assert {gid for _, gid in house.owners().values()} == {self.GROUP}
        for user, lockfile, made in ((first, two, TWO), (second, one, ONE)):
            lockfile.unlink()
            assert house.run(user, "prune", "--all").code == 0
            assert not blob(house, made).exists()

    def test_goes_on_with_what_one_of_it_has_begun(self, house, two, server, pair):
        first, second = pair
        path = f"/files/{TWO.filename}"
        server.script(path, then=Serve(silent_at=2_500_000))
        assert house.run(first, "sync", two, *TARGET, "--deadline", "3").code == 4
        server.script(path)
        assert 0 < fetched(house.sync(second, two)) < TWO.size
        assert house.run(first, "verify").code == 0

    def test_prunes_views_that_one_of_it_has_made(self, house, one, pair):
        first, second = pair
        assert fetched(house.sync(first, one)) == ONE.size
        placed = house.view(first, ONE)
        assert placed.exists()
        assert house.run(second, "prune", "--all").code == 0
        assert not placed.exists()
