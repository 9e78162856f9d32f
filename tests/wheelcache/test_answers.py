"""Every judgement of an answer, as the value it is."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wheelcache.answers import (
    RETRY_AFTER_LIMIT,
    Body,
    Whole,
    judge_answer,
    judge_beginning,
    judge_end,
    refusal,
    retry_after,
)
from wheelcache.faults import FATAL, Fault, SourceFault

NOW = 1_700_000_000.0


def judge(status, headers=None, *, offset=0, size=1000, from_zero=False):
    return judge_answer(status, headers or {}, offset=offset, size=size, now=NOW, from_zero=from_zero)


def fault_of(*args, **kwargs) -> SourceFault:
    with pytest.raises(SourceFault) as caught:
        judge(*args, **kwargs)
    return caught.value


class TestAWholeFile:
    def test_is_taken_from_its_start(self):
        assert judge(200, {"content-length": "1000"}) == Body(start=0, end=1000, total=1000)

    def test_is_taken_without_a_length(self):
        assert judge(200) == Body(start=0, end=None, total=None)

    def test_of_unknown_size_is_taken_with_any_length(self):
        assert judge(200, {"content-length": "77"}, size=None) == Body(start=0, end=77, total=77)

    def test_of_another_length_is_another_file(self):
        fault = fault_of(200, {"content-length": "999"})
        assert (fault.fault, fault.message) == (Fault.SIZE, "expected 1000 bytes, found a file of 999")

    def test_in_answer_to_a_range_is_never_appended(self):
        assert fault_of(200, {"content-length": "1000"}, offset=400).fault is Fault.RANGE

    def test_asked_for_from_zero_is_taken_although_bytes_are_there(self):
        answer = judge(200, {"content-length": "1000"}, offset=400, from_zero=True)
        assert answer == Body(start=0, end=1000, total=1000)

    @pytest.mark.parametrize("kind", ["text/html", "Text/HTML; charset=utf-8", "application/json", "application/xml"])
    def test_of_a_page_type_is_a_login_page(self, kind):
        fault = fault_of(200, {"content-type": kind, "content-length": "1000"})
        assert fault.fault is Fault.FOREIGN
        assert "login page" in fault.hint

    @pytest.mark.parametrize("kind", ["", "application/octet-stream", "application/zip", "binary/x", "text/plain"])
    def test_of_any_other_type_may_be_a_wheel(self, kind):
        assert judge(200, {"content-type": kind}) == Body(start=0, end=None, total=None)

    def test_that_is_encoded_is_foreign(self):
        assert fault_of(200, {"content-encoding": "gzip"}).fault is Fault.FOREIGN

    def test_that_says_identity_is_taken(self):
        assert judge(200, {"content-encoding": "Identity"}) == Body(start=0, end=None, total=None)


class TestAPart:
    def test_that_begins_where_asked_is_taken(self):
        answer = judge(206, {"content-range": "bytes 400-999/1000", "content-length": "600"}, offset=400)
        assert answer == Body(start=400, end=1000, total=1000)

    def test_may_be_shorter_than_asked_for(self):
        assert judge(206, {"content-range": "bytes 400-499/1000"}, offset=400) == Body(start=400, end=500, total=1000)

    def test_of_unknown_total_is_taken(self):
        assert judge(206, {"content-range": "bytes 400-999/*"}, offset=400) == Body(start=400, end=1000, total=None)

    @pytest.mark.parametrize(
        "found",
        [
            "bytes 399-999/1000",
            "bytes 401-999/1000",
            "bytes 0-999/1000",
            "bytes 400-1000/1000",
            "bytes 400-399/1000",
            "bytes */1000",
            "items 400-999/1000",
            "bytes 400-999",
            "",
        ],
    )
    def test_of_another_place_is_refused(self, found):
        assert fault_of(206, {"content-range": found}, offset=400).fault is Fault.RANGE

    def test_of_another_length_than_its_range_is_refused(self):
        headers = {"content-range": "bytes 400-999/1000", "content-length": "599"}
        assert fault_of(206, headers, offset=400).fault is Fault.RANGE

    def test_of_a_file_of_another_size_is_another_file(self):
        assert fault_of(206, {"content-range": "bytes 400-998/999"}, offset=400).fault is Fault.SIZE

    def test_in_several_ranges_is_refused(self):
        assert fault_of(206, {"content-type": "multipart/byteranges; boundary=x"}, offset=400).fault is Fault.RANGE

    def test_that_is_encoded_is_foreign(self):
        headers = {"content-range": "bytes 400-999/1000", "content-encoding": "gzip"}
        assert fault_of(206, headers, offset=400).fault is Fault.FOREIGN

    def test_nobody_asked_for_is_taken_from_the_start_only(self):
        assert judge(206, {"content-range": "bytes 0-999/1000"}) == Body(start=0, end=1000, total=1000)
        assert fault_of(206, {"content-range": "bytes 5-999/1000"}).fault is Fault.RANGE

    def test_is_of_no_use_where_the_whole_was_asked_for(self):
        headers = {"content-range": "bytes 400-999/1000"}
        assert fault_of(206, headers, offset=400, from_zero=True).fault is Fault.RANGE


class TestAnUnsatisfiedRange:
    def test_after_the_last_byte_means_that_all_is_there(self):
        assert judge(416, offset=1000) == Whole()

    def test_of_unknown_size_believes_the_server(self):
        assert judge(416, {"content-range": "bytes */1000"}, offset=1000, size=None) == Whole()

    @pytest.mark.parametrize(("headers", "size"), [({"content-range": "bytes */300"}, None), ({}, 1000), ({}, None)])
    def test_elsewhere_is_a_fault(self, headers, size):
        assert fault_of(416, headers, offset=400, size=size).fault is Fault.RANGE

    def test_without_a_range_is_a_fault(self):
        assert fault_of(416, {"content-range": "bytes */0"}, size=None).fault is Fault.RANGE


class TestARefusal:
    @pytest.mark.parametrize("status", [400, 401, 403, 404, 407, 410, 451, 501, 204, 304, 301])
    def test_is_final_for_its_source(self, status):
        fault = fault_of(status)
        assert fault.fault is Fault.REFUSED
        assert fault.fault in FATAL
        assert str(status) in fault.message

    @pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
    def test_may_pass(self, status):
        fault = fault_of(status, {"retry-after": "7"})
        assert (fault.fault, fault.retry_after) == (Fault.BUSY, 7.0)
        assert fault.fault not in FATAL

    @pytest.mark.parametrize("status", [401, 403, 404, 407, 410])
    def test_has_a_hint_where_something_can_be_done(self, status):
        assert refusal(status, {}, now=NOW).hint


class TestRetryAfter:
    def test_is_seconds(self):
        assert retry_after("12", now=NOW) == 12.0

    def test_is_a_date(self):
        date = format_datetime(datetime.fromtimestamp(NOW + 30, tz=UTC), usegmt=True)
        assert retry_after(date, now=NOW) == 30.0

    def test_that_has_passed_is_no_wait(self):
        assert retry_after("Wed, 21 Oct 2015 07:28:00 GMT", now=NOW) == 0.0

    @pytest.mark.parametrize("value", ["86400", "999999999", "Wed, 21 Oct 2099 07:28:00 GMT"])
    def test_is_capped(self, value):
        assert retry_after(value, now=NOW) == RETRY_AFTER_LIMIT

    @pytest.mark.parametrize("value", [None, "", "soon", "-5", "1.5", "99999999999999"])
    def test_that_says_nothing_is_none(self, value):
        assert retry_after(value, now=NOW) is None

    @given(st.text())
    def test_never_breaks_on_what_a_server_says(self, value):
        wait = retry_after(value, now=NOW)
        assert wait is None or 0 <= wait <= RETRY_AFTER_LIMIT


class TestTheBeginning:
    def test_of_a_zip_archive_is_a_wheels(self):
        judge_beginning(b"PK\x03\x04rest")

    def test_may_come_in_single_bytes(self):
        judge_beginning(b"P")

    @pytest.mark.parametrize("data", [b"<!DOCTYPE html>", b"\x1f\x8b\x08\x00", b"PK\x05\x06", b"", b"\x00" * 8])
    def test_of_anything_else_is_foreign(self, data):
        with pytest.raises(SourceFault) as caught:
            judge_beginning(data)
        assert caught.value.fault is Fault.FOREIGN


class TestTheEnd:
    def test_where_it_was_to_be_is_right(self):
        judge_end(1000, end=1000)

    def test_beyond_it_is_right_too(self):
        judge_end(1016, end=1000)  # somebody took the rest over while the last bytes came

    def test_that_nobody_told_is_right_anywhere(self):
        judge_end(600, end=None)

    def test_before_it_is_a_cut_and_not_a_wrong_digest(self):
        with pytest.raises(SourceFault, match="expected the bytes up to 1000, the body ended after 600") as caught:
            judge_end(600, end=1000)
        assert caught.value.fault is Fault.CUT
