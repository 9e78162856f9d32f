"""Which services share which wheels."""

import pytest

from builders.plan import Sharer, plan_shared_sets, why_alone
from wheelcache.digest import digest_of_bytes
from wheelcache.lock import LockedWheel

GROUND = ("sha256:base", "target")


def wheel(name: str, megabytes: int = 100) -> LockedWheel:
    return LockedWheel(
        name=name,
        version="1",
        filename=f"{name}-1-py3-none-any.whl",
        digest=digest_of_bytes(name.encode()),
        size=megabytes * 1_000_000,
        urls=(),
    )


def sharer(name: str, *wheels: LockedWheel, ground=GROUND, takes_light=False) -> Sharer:
    return Sharer(name=name, ground=ground, wheels=wheels, takes_light=takes_light)


TORCH, CUDNN, TRITON, FLASK, TF, SYMPY, CUPTI, HTTPX, BLAS = (
    wheel("torch", 888),
    wheel("nvidia-cudnn-cu12", 707),
    wheel("triton", 156),
    wheel("flask", 0),
    wheel("tensorflow", 600),
    wheel("sympy", 6),
    wheel("nvidia-cuda-cupti-cu12", 10),
    wheel("httpx", 0),
    wheel("nvidia-cublas-cu12", 594),
)


def described(sets):
    return [(each.services, [wheel.name for wheel in each.wheels]) for each in sets]


def test_what_two_services_have_in_common_is_shared_and_what_changes_least_comes_first():
    sets = plan_shared_sets([sharer("a", TORCH, TRITON, CUDNN, FLASK), sharer("b", FLASK, CUDNN, TORCH, TRITON)])

    assert described(sets) == [(("a", "b"), ["nvidia-cudnn-cu12", "triton", "torch"])]


def test_a_base_holds_nothing_that_one_of_its_services_has_not_locked():
    sets = plan_shared_sets([sharer("a", TORCH, CUDNN, TF), sharer("b", TORCH, CUDNN)])

    assert described(sets) == [(("a", "b"), ["nvidia-cudnn-cu12", "torch"])]


def test_the_set_that_saves_most_bytes_wins():
    a, b, c = sharer("a", TORCH, CUDNN, TF), sharer("b", TORCH, CUDNN, TF), sharer("c", TORCH, CUDNN)

    assert described(plan_shared_sets([a, b, c])) == [(("a", "b", "c"), ["nvidia-cudnn-cu12", "torch"])]


def test_services_that_share_nothing_with_the_first_group_can_form_another():
    sets = plan_shared_sets([sharer("a", TORCH), sharer("b", TORCH), sharer("c", TF), sharer("d", TF)])

    assert described(sets) == [(("a", "b"), ["torch"]), (("c", "d"), ["tensorflow"])]


def test_one_service_alone_and_light_wheels_share_nothing():
    assert plan_shared_sets([sharer("a", TORCH)]) == ()
    assert plan_shared_sets([sharer("a", FLASK), sharer("b", FLASK)]) == ()


def test_another_base_image_or_target_shares_nothing():
    assert plan_shared_sets([sharer("a", TORCH), sharer("b", TORCH, ground=("sha256:other", "target"))]) == ()


def test_the_order_in_which_services_come_does_not_change_what_is_shared():
    a, b, c = sharer("a", TORCH, CUDNN), sharer("b", TORCH, TF), sharer("c", TF, TORCH, CUDNN)

    def sets(*order):
        return {frozenset(wheel.name for wheel in each.wheels) for each in plan_shared_sets(order)}

    assert sets(a, b, c) == sets(c, b, a) == sets(b, c, a)


def test_small_wheels_that_all_have_in_common_come_last_but_for_those_of_cuda():
    a = sharer("a", TORCH, SYMPY, CUPTI, FLASK, takes_light=True)
    b = sharer("b", TORCH, SYMPY, CUPTI, HTTPX, takes_light=True)
    c = sharer("c", TORCH, SYMPY, CUPTI, HTTPX, FLASK, takes_light=True)

    assert described(plan_shared_sets([a, b, c])) == [
        (("a", "b", "c"), ["nvidia-cuda-cupti-cu12", "torch", "sympy"]),
    ]


def test_small_wheels_are_not_shared_where_one_service_cannot_take_them():
    a, b = sharer("a", TORCH, SYMPY, FLASK, takes_light=True), sharer("b", TORCH, SYMPY, HTTPX)

    assert described(plan_shared_sets([a, b])) == [(("a", "b"), ["torch"])]


def test_small_wheels_are_not_shared_where_a_service_would_have_nothing_left_to_install():
    a, b = sharer("a", TORCH, SYMPY, takes_light=True), sharer("b", TORCH, SYMPY, FLASK, takes_light=True)

    assert described(plan_shared_sets([a, b])) == [(("a", "b"), ["torch"])]


def test_small_wheels_alone_make_no_base():
    a, b = sharer("a", SYMPY, FLASK, takes_light=True), sharer("b", SYMPY, HTTPX, takes_light=True)

    assert plan_shared_sets([a, b]) == ()


@pytest.mark.parametrize(
    ("service", "why"),
    [
        (sharer("x", FLASK), "it installs no heavy wheel (20 MB or more) that stays"),
        (sharer("x", CUDNN), "no other service that can share has heavy wheels in common with it"),
        (
            sharer("x", TORCH),
            "the base from which a takes heavy wheels holds nvidia-cublas-cu12, which is not locked here",
        ),
        (
            sharer("x", TORCH, ground=("sha256:other", "target")),
            "a, which has heavy wheels in common with it, has another base image",
        ),
        (
            sharer("x", TORCH, ground=("sha256:base", "other")),
            "a, which has heavy wheels in common with it, has another target",
        ),
    ],
)
def test_why_a_service_shares_nothing_is_a_sentence(service, why):
    # Both in common save more bytes than torch three times.
    a, b = (sharer(name, TORCH, TF, TRITON, BLAS) for name in "ab")
    sharers = [a, service, b]
    sets = plan_shared_sets(sharers)
    assert [each.services for each in sets] == [("a", "b")]
    assert why_alone(service, sharers, sets) == why
