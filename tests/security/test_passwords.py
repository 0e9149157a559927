"""Passwords: argon2id off the event loop behind a bounded queue, and what is too weak to accept."""

import platform
import re
import subprocess
import sys
import threading
from importlib.resources import files

import anyio
import pytest
from anyio import wait_all_tasks_blocked
from anyio.lowlevel import checkpoint
from argon2 import PasswordHasher, extract_parameters
from argon2.exceptions import InvalidHashError
from hypothesis import given
from hypothesis import strategies as st

from app.errors import Unavailable
from app.security import passwords
from app.security.passwords import hash_password, needs_rehash, verify_password, weakness
from tests.forms import skip

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("real_passwords")]

GOOD = "wobbly-teapot-gazelle"
MEMORY_THAT_STAYS = f"""
import asyncio
from pathlib import Path
from app.security.passwords import hash_password, prepare

def resident():
    return int(Path("/proc/self/status").read_text().partition("VmRSS:")[2].split()[0])

async def hash_many():
    await asyncio.gather(*(hash_password("{GOOD}") for _ in range(8)))

prepare()
before = resident()
asyncio.run(hash_many())
print(resident() - before)
"""


class TestHashes:
    async def test_the_password_fits_its_hash_and_another_does_not(self) -> None:
        encoded = await hash_password(GOOD)
        assert await verify_password(GOOD, encoded)
        assert not await verify_password(GOOD + " ", encoded)
        assert not await verify_password(GOOD.upper(), encoded)
        assert not await verify_password("", encoded)

    async def test_one_password_has_many_hashes_none_of_which_contains_it(self) -> None:
        first, second = await hash_password(GOOD), await hash_password(GOOD)
        assert first != second
        assert GOOD not in first

    async def test_a_hash_is_argon2id_of_19_mib_in_two_passes(self) -> None:
        encoded = await hash_password(GOOD)
        assert encoded.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
        assert not needs_rehash(encoded)

    async def test_an_unknown_account_costs_the_same_work_and_is_refused(self) -> None:
        known, unknown = extract_parameters(await hash_password(GOOD)), extract_parameters(passwords.NOBODY)
        assert known == unknown
        for password in (GOOD, "", "nobody"):
            assert not await verify_password(password, None)

    async def test_an_unknown_account_is_really_checked_against_the_dummy(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(passwords, "NOBODY", "no hash at all")
        with pytest.raises(InvalidHashError):
            await verify_password(GOOD, None)

    async def test_an_unknown_account_is_refused_even_if_the_password_fits_the_dummy(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(passwords, "NOBODY", await hash_password(GOOD))
        assert not await verify_password(GOOD, None)

    async def test_a_hash_of_older_parameters_fits_and_asks_to_be_renewed(self) -> None:
        older = PasswordHasher(memory_cost=8192, time_cost=1, parallelism=1).hash(GOOD)
        assert await verify_password(GOOD, older)
        assert needs_rehash(older)

    async def test_a_damaged_hash_is_a_fault_not_a_wrong_password(self) -> None:
        with pytest.raises(InvalidHashError):
            await verify_password(GOOD, "no hash at all")

    async def test_the_same_letters_typed_in_another_unicode_form_fit(self) -> None:
        encoded = await hash_password("sch\u00f6ner \ufb01nger \u2460")
        assert await verify_password("scho\u0308ner finger 1", encoded)

    async def test_nothing_is_cut_off(self) -> None:
        encoded = await hash_password("x" * 1023 + "y")
        assert not await verify_password("x" * 1024, encoded)
        assert not await verify_password("x" * 1023, encoded)
        nul = await hash_password("before\0after")
        assert not await verify_password("before\0other", nul)

    def test_the_memory_of_a_hash_goes_back_when_it_is_done(self) -> None:
        if platform.libc_ver()[0] != "glibc":
            skip("another C library keeps memory in its own way")
        command = [sys.executable, "-c", MEMORY_THAT_STAYS]
        kilobytes = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        assert kilobytes < 19_456 / 2


async def turns_during_a_hash() -> int:
    """How often the event loop comes round meanwhile."""
    turns = 0
    hashed = anyio.Event()

    async def hash_one() -> None:
        await hash_password(GOOD)
        hashed.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(hash_one)
        while not hashed.is_set():
            await checkpoint()
            turns += 1
    return turns


class TestQueue:
    async def test_the_event_loop_goes_on_while_a_password_is_hashed(self) -> None:
        for _ in range(50):  # a busy machine may leave the loop out for the time of a hash
            if await turns_during_a_hash() > 20:  # a hash on the loop itself would leave two or three, every time
                return
        raise AssertionError("the loop stood still")

    async def test_hashing_runs_in_as_many_threads_as_there_are_processors(self) -> None:
        started = threading.Semaphore(0)
        release = threading.Event()

        def work() -> None:
            started.release()
            release.wait()

        async with anyio.create_task_group() as tasks:
            for _ in range(passwords._WORKERS + 1):
                tasks.start_soon(passwords._in_thread, work)
            for _ in range(passwords._WORKERS):
                await anyio.to_thread.run_sync(started.acquire)
            waiting = passwords._threads.statistics().tasks_waiting
            one_more_started = started.acquire(blocking=False)
            release.set()
        assert (waiting, one_more_started) == (1, False)

    async def test_a_full_queue_is_answered_at_once_and_drains(self) -> None:
        release = threading.Event()
        refusals: list[Unavailable] = []
        done = 0

        async def sign_in() -> None:
            nonlocal done
            try:
                await passwords._in_thread(release.wait)
                done += 1
            except Unavailable as refusal:
                refusals.append(refusal)

        room = passwords._WORKERS + passwords.QUEUE_LENGTH
        async with anyio.create_task_group() as tasks:
            for _ in range(room + 5):
                tasks.start_soon(sign_in)
            await wait_all_tasks_blocked()
            refused_while_full = len(refusals)
            release.set()
        assert (refused_while_full, len(refusals), done) == (5, 5, room)
        assert {refusal.retry_after for refusal in refusals} <= set(range(1, 6))
        assert not await verify_password(GOOD, None)

    async def test_neither_hashing_nor_verifying_passes_a_full_queue(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(passwords, "_pending", passwords._WORKERS + passwords.QUEUE_LENGTH)
        with pytest.raises(Unavailable):
            await hash_password(GOOD)
        with pytest.raises(Unavailable):
            await verify_password(GOOD, None)

    async def test_callers_that_give_up_make_room(self) -> None:
        release = threading.Event()
        async with anyio.create_task_group() as tasks:
            for _ in range(passwords._WORKERS + passwords.QUEUE_LENGTH):
                tasks.start_soon(passwords._in_thread, release.wait)
            await wait_all_tasks_blocked()
            tasks.cancel_scope.cancel()
            release.set()
        assert passwords._pending == 0
        assert await verify_password(GOOD, await hash_password(GOOD))

    async def test_a_fault_in_the_work_makes_room_too(self) -> None:
        with pytest.raises(InvalidHashError):
            await verify_password(GOOD, "no hash at all")
        assert passwords._pending == 0


SHORT, LONG = "needs at least", "at most 1024"
TRIVIAL, ADDRESS, GUESSED = "repetition or a simple sequence", "e-mail address", "guessed first"


class TestWeakness:
    @pytest.mark.parametrize(
        "password",
        [
            GOOD,
            "demo-demo-demo-demo",
            "fifteen letters",
            "1024" * 3 + "x" * 1012,
            "schöner roter Käfer",
            "пять зелёных жуков",
            "痛みの日記を毎日きちんとつけます",
            "🐢🐇🦊🐻🐼🐨🐯🦁🐮🐷🐸🐵🐔🐧🐦",
            "passwords are a nuisance, honestly",
            "anna.schmidt@example.org and more",
        ],
    )
    def test_a_good_password_is_accepted(self, password: str) -> None:
        assert weakness(password, second_factor=False, email="anna.schmidt@example.org") is None

    def test_the_demo_password_is_accepted_for_the_demo_address(self) -> None:
        assert weakness("demo-demo-demo-demo", second_factor=False, email="demo@example.org") is None

    @pytest.mark.parametrize(
        ("password", "reason"),
        [
            ("", SHORT),
            ("fourteen chars", SHORT),
            ("\ufdfa" * 3, SHORT),  # one ligature, which normalises to eighteen letters
            ("e\u0301\u0302\u0303" * 3 + "e\u0301e", SHORT + " 15"),
            ("xyzw" * 256 + "x", LONG),
            ("a" * 15, TRIVIAL),
            ("abababababababab", TRIVIAL),
            ("abcabcabcabcabc", TRIVIAL),
            ("xoxoxxooxoxoxoxxo", TRIVIAL),
            ("...............-", TRIVIAL),
            ("- . _ - . _ - . _", TRIVIAL),
            ("abcdefghijklmnop", TRIVIAL),
            ("ponmlkjihgfedcba", TRIVIAL),
            ("stuvwxyzabcdefghi", TRIVIAL),
            ("123456789012345", TRIVIAL),
            ("543210987654321", TRIVIAL),
            ("1234 1234 1234 1234", TRIVIAL),
            ("QwertyUiopAsdfgh", TRIVIAL),
            ("1qaz2wsx3edc4rfv", TRIVIAL),
            ("abcd-abcd-abcd-abcd", TRIVIAL),
            ("anna.schmidt@example.org", ADDRESS),
            ("Anna.Schmidt@Example.ORG", ADDRESS),
            ("anna.schmidtanna.schmidt", ADDRESS),
            ("passwordpassword", GUESSED),
            ("PassWord PassWord", GUESSED),
            ("ｐａｓｓｗｏｒｄｐａｓｓｗｏｒｄ", GUESSED),
            ("password123password123", GUESSED),
            ("correct horse battery staple", GUESSED),
            ("CorrectHorseBatteryStaple", GUESSED),
            ("let-me-in let-me-in", GUESSED),
            ("Pain Diary Pain Diary", GUESSED),
        ],
    )
    def test_a_weak_password_is_refused_with_its_reason(self, password: str, reason: str) -> None:
        assert reason in (weakness(password, second_factor=False, email="anna.schmidt@example.org") or "accepted")

    def test_a_second_factor_makes_eight_characters_enough(self) -> None:
        assert weakness("tea4pots", second_factor=True) is None
        assert weakness("tea4pot", second_factor=True) == "The password needs at least 8 characters."
        assert weakness("tea4pots", second_factor=False) == "The password needs at least 15 characters."

    @pytest.mark.parametrize("password", ["password", "P@ssw0rd", "12345678", "iloveyou1", "Summer2026", "trustno1"])
    def test_a_second_factor_does_not_excuse_a_common_password(self, password: str) -> None:
        assert weakness(password, second_factor=True) is not None

    def test_an_empty_address_matches_nothing(self) -> None:
        assert weakness(GOOD, second_factor=False, email="") is None

    @given(text=st.text(max_size=1100), second_factor=st.booleans())
    def test_a_reason_is_one_sentence_that_does_not_repeat_the_password(self, text: str, second_factor: bool) -> None:
        reason = weakness(text, second_factor=second_factor, email="anna@example.org")
        if len(text) < 8 or len(text) > 1024:
            assert reason is not None
        assert reason is None or re.fullmatch(r"The password [a-z0-9 -]+\.", reason)

    def test_every_line_of_the_list_is_refused_whatever_its_case_and_spacing(self) -> None:
        for line in blocked():
            for variant in (line, line.upper(), f" {line}-"):
                assert weakness(variant, second_factor=True) is not None, line

    def test_the_list_is_sorted_free_of_repetition_and_of_entries_too_short_to_matter(self) -> None:
        lines = blocked()
        assert lines == sorted(set(lines))
        assert len(lines) > 300
        assert min(map(len, lines)) >= 8


def blocked() -> list[str]:
    return files("app.security").joinpath("blocked_passwords.txt").read_text("utf-8").splitlines()
