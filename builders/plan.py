"""Decides which services share which wheels: the groups behind the shared bases."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from wheelcache.digest import Digest
from wheelcache.lock import LockedWheel


@dataclass(frozen=True, kw_only=True, slots=True)
class Sharer:
    """A service that can take heavy wheels from its base.

    Attributes:
        name: the service.
        ground: what must be equal for two services to share: the base image's id and the target.
        wheels: everything that the service's lockfile means.
        takes_light: True where small wheels may come from the base as well.
    """

    name: str
    ground: tuple[str, str]
    wheels: tuple[LockedWheel, ...]
    takes_light: bool = False

    @property
    def heavy(self) -> frozenset[Digest]:
        """The digests of its heavy wheels."""
        return frozenset(wheel.digest for wheel in self.wheels if wheel.is_heavy)


@dataclass(frozen=True, kw_only=True, slots=True)
class SharedSet:
    """Wheels that several services of one ground have in common.

    Attributes:
        ground: as their services have it.
        services: at least two, in the order given.
        wheels: in the order in which they are installed: what changes least comes first.
    """

    ground: tuple[str, str]
    services: tuple[str, ...]
    wheels: tuple[LockedWheel, ...]


def plan_shared_sets(sharers: Sequence[Sharer]) -> tuple[SharedSet, ...]:
    """Groups services so that as many bytes as possible are stored once.

    A service takes its heavy wheels from one base, which may hold nothing that the service has not locked. Of all sets
    that two services have in common the one that saves most bytes is taken first, for all services that hold it. Small
    wheels never make a base; they come along where all of its services have them in common and can take them, since
    thousands of small files are what takes pip longest.

    Args:
        sharers: the services that can share; those that cannot are left out by the caller.
    """
    waiting = list(sharers)
    planned: list[SharedSet] = []
    while best := _best_set(waiting):
        ground, common = best
        members = [sharer for sharer in waiting if sharer.ground == ground and common <= sharer.heavy]
        taken = common | _light(members)
        chosen = [wheel for wheel in members[0].wheels if wheel.digest in taken]
        planned.append(
            SharedSet(
                ground=ground,
                services=tuple(sharer.name for sharer in members),
                wheels=tuple(sorted(chosen, key=order_of_change)),
            )
        )
        waiting = [sharer for sharer in waiting if sharer not in members]
    return tuple(planned)


def why_alone(sharer: Sharer, sharers: Sequence[Sharer], sets: Sequence[SharedSet]) -> str:
    """Returns why a service that can share does not.

    Args:
        sharer: a service that is in none of *sets*.
        sharers: all services that can share.
        sets: as planned for *sharers*.
    """
    if not sharer.heavy:
        return "it installs no heavy wheel (20 MB or more) that stays"
    near = [other for other in sharers if other.heavy & sharer.heavy and other.name != sharer.name]
    if not near:
        return "no other service that can share has heavy wheels in common with it"
    other = min(near, key=lambda each: each.ground != sharer.ground)
    if other.ground != sharer.ground:
        what = "base image" if other.ground[0] != sharer.ground[0] else "target"
        return f"{other.name}, which has heavy wheels in common with it, has another {what}"
    wheels = next(each.wheels for each in sets if other.name in each.services)
    lacking = next(wheel.name for wheel in wheels if wheel.is_heavy and wheel.digest not in sharer.heavy)
    return f"the base from which {other.name} takes heavy wheels holds {lacking}, which is not locked here"


def order_of_change(wheel: LockedWheel) -> tuple[int, str]:
    """Orders wheels by how seldom they change: CUDA's libraries, other heavy ones, torch, then all that is small."""
    if wheel.name.startswith("nvidia-"):
        return (0, wheel.name)
    if wheel.name in {"torch", "torchvision", "torchaudio"}:
        return (2, wheel.name)
    return (1 if wheel.is_heavy else 3, wheel.name)


def _light(members: Sequence[Sharer]) -> frozenset[Digest]:
    """Returns the small wheels that all of *members* take from their base.

    None where a service would be left with nothing to install: what its Dockerfile copies afterwards, such as
    `/root/.local`, would not come to be.
    """
    if not all(member.takes_light for member in members):
        return frozenset()
    everything = [frozenset(wheel.digest for wheel in member.wheels) for member in members]
    common = frozenset.intersection(*everything)
    if any(each <= common for each in everything):
        return frozenset()
    return common - members[0].heavy


def _best_set(sharers: Sequence[Sharer]) -> tuple[tuple[str, str], frozenset[Digest]] | None:
    sizes = {wheel.digest: wheel.size or 0 for sharer in sharers for wheel in sharer.wheels}
    candidates: dict[tuple[tuple[str, str], frozenset[Digest]], int] = {}
    for one, other in combinations(sharers, 2):
        common = one.heavy & other.heavy
        if one.ground != other.ground or not common:
            continue
        users = sum(sharer.ground == one.ground and common <= sharer.heavy for sharer in sharers)
        candidates[one.ground, common] = (users - 1) * _bytes(common, sizes)
    # The names break ties, so that equal projects always get equal bases.
    return max(candidates, key=lambda candidate: (candidates[candidate], sorted(candidate[1])), default=None)


def _bytes(digests: Iterable[Digest], sizes: Mapping[Digest, int]) -> int:
    return sum(sizes[digest] for digest in digests)
