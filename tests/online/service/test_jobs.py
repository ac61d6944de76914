import asyncio
import os
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.online.service.fakes import SPOOL_SECRET, FakeCrafting, Running, png, released, running
from tests.online.service.test_protect import detail, opened

from withhold.errors import RunStopped
from withhold.online.ledger import JobState, LedgerUnavailable
from withhold.online.protector import Protector
from withhold.online.service import job_images, retrying
from withhold.online.service.accounting import THREADS
from withhold.online.service.answers import BYTES_PER_PIXEL
from withhold.online.service.crafting import Stopping
from withhold.online.service.spool import Spool
from withhold.online.service.stored_jobs import OVERHEAD

pytestmark = pytest.mark.anyio
CONTENTS = [png(1), png(2), png(3)]


async def accepted(service: Running, contents: list[bytes], labels: list[str] | None = None, **options: Any) -> str:  # noqa: ANN401
    response = await service.send_many("/v1/jobs", contents, labels, **options)
    assert response.status_code == 202
    job = str(response.json()["id"])
    assert response.headers["location"] == f"/v1/jobs/{job}"
    return job


async def usage(service: Running) -> dict[str, Any]:
    return dict((await service.http.get("/v1/usage", headers=service.headers())).json())


def stored(service: Running, ending: str = "") -> list[str]:
    """Name the files of all jobs; folders may go meanwhile."""
    folders = [names for folder, _, names in os.walk(service.spool) if Path(folder) != service.spool]
    return sorted(name for names in folders for name in names if name.endswith(ending))


async def emptied(service: Running) -> None:
    """Wait until no job has a file."""
    async with asyncio.timeout(30):
        while stored(service):
            await asyncio.sleep(0.001)


async def test_a_job_is_accepted_polled_fetched_and_deleted(tmp_path: Path, protector: Protector) -> None:
    async with running(tmp_path, crafting=protector, speed="instant") as service:
        job = await accepted(service, CONTENTS, ["dog", "", "2"])
        report = await service.finished(job)
        assert (report["state"], report["images"], report["done"], report["problem"]) == ("done", 3, 3, None)
        place = f"/v1/jobs/{job}/released"
        responses = [await service.http.get(place, headers=service.headers()) for _ in range(2)]
        many = await service.send_many("/v1/protect/many", CONTENTS, ["dog", "", "2"])
        assert responses[0].content == responses[1].content == many.content
        files, _ = opened(responses[0])
        labels = ("dog", None, "owl")
        expected = [
            protector.protect(content, label, speed="instant").content
            for content, label in zip(CONTENTS, labels, strict=True)
        ]
        assert [files[f"{number}.png"] for number in (1, 2, 3)] == expected
        assert stored(service, ".original") == []
        assert (await service.http.delete(f"/v1/jobs/{job}", headers=service.headers())).status_code == 204
        assert stored(service) == []
        assert "is deleted" in detail(await service.http.get(place, headers=service.headers()), 410, "no-results")
    assert service.logged("job")[0]["state"] == "done"


async def test_a_deleted_job_says_so_and_stays_deleted(tmp_path: Path) -> None:
    async with running(tmp_path) as service:
        job = await accepted(service, CONTENTS, key="k")
        await service.finished(job)
        for _ in range(2):
            assert (await service.http.delete(f"/v1/jobs/{job}", headers=service.headers())).status_code == 204
            report = await service.finished(job)
            assert (report["state"], report["done"]) == ("deleted", 3)
        assert await accepted(service, CONTENTS, key="k") == job
    async with running(tmp_path) as service:
        assert (await service.finished(job))["state"] == "deleted"
        assert stored(service) == []
        assert service.crafting.begun == []


async def test_a_kill_while_results_are_deleted_leaves_none_to_fetch(tmp_path: Path) -> None:
    """A ledger that is away stands for the kill: the job is done there, and most of its files are left."""
    async with running(tmp_path) as service:
        job = await accepted(service, CONTENTS)
        await service.finished(job)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(service.ledger.jobs, "end", failing(1, service.ledger.jobs.end, LedgerUnavailable("away")))
            place = f"/v1/jobs/{job}"
            detail(await service.http.delete(place, headers=service.headers()), 503, "ledger-unavailable")
        detail(await service.http.get(f"{place}/released", headers=service.headers()), 410, "no-results")
    assert stored(service, ".result") != []
    async with running(tmp_path) as service:
        await emptied(service)
        assert service.crafting.begun == []


async def test_until_it_is_done_there_is_nothing_to_fetch_and_nobody_else_sees_it(tmp_path: Path) -> None:
    async with running(tmp_path) as service:
        service.crafting.gate.clear()
        job = await accepted(service, CONTENTS)
        await service.crafting.has_begun(1)
        place = f"/v1/jobs/{job}"
        said = detail(await service.http.get(f"{place}/released", headers=service.headers()), 409, "job-unfinished")
        assert "0 of 3 images" in said
        assert "withhold_jobs_unfinished 1.0" in (await service.http.get("/metrics")).text
        other = service.headers(service.ledger.add_client("other"))
        for method, path in (("GET", place), ("GET", f"{place}/released"), ("DELETE", place), ("GET", "/v1/jobs/x")):
            detail(await service.http.request(method, path, headers=other), 404, "no-such-job")
        service.crafting.gate.set()
        assert (await service.finished(job))["state"] == "done"


async def test_a_cancelled_job_is_not_crafted_and_gives_back_what_it_reserved(tmp_path: Path) -> None:
    async with running(tmp_path) as service:
        service.crafting.gate.clear()
        job = await accepted(service, CONTENTS)
        await service.crafting.has_begun(1)
        assert (await usage(service))["images_today"] == 3
        assert (await service.http.delete(f"/v1/jobs/{job}", headers=service.headers())).status_code == 204
        assert service.crafting.cancelled == [png(1)]
        assert stored(service) == []
        assert (await usage(service))["images_today"] == 0
        assert (await service.finished(job))["state"] == "cancelled"
        place = f"/v1/jobs/{job}/released"
        detail(await service.http.get(place, headers=service.headers()), 410, "no-results")
    async with running(tmp_path) as service:
        assert (await service.finished(job))["state"] == "cancelled"
        assert service.crafting.begun == []


async def test_what_is_wrong_with_an_image_stands_in_its_place(tmp_path: Path) -> None:
    crafting = FakeCrafting()
    crafting.errors[png(2)] = RuntimeError("secret")
    async with running(tmp_path, crafting=crafting) as service:
        job = await accepted(service, [png(1), b"text", png(2)], ["dog", "", ""])
        assert (await service.finished(job))["done"] == 3
        response = await service.http.get(f"/v1/jobs/{job}/released", headers=service.headers())
        files, images = opened(response)
        assert files == {"1.png": released(png(1), "dog", "full").content}
        problems = [image["problem"]["type"] for image in images if "problem" in image]  # type: ignore[index]
        assert problems == ["urn:withhold:unknown-kind", "urn:withhold:internal-error"]
        assert (await usage(service))["images_today"] == 1
        detail(await service.send_many("/v1/jobs", [b"text"]), 415, "unknown-kind")


async def test_the_same_key_is_the_same_job(tmp_path: Path) -> None:
    async with running(tmp_path, images_per_day=3) as service:
        first, second = [await accepted(service, CONTENTS, key="k") for _ in range(2)]
        assert first == second
        detail(await service.send_many("/v1/jobs", [png(4)], key="k"), 409, "idempotency-conflict")
        await service.finished(first)
        assert await accepted(service, CONTENTS, key="k") == first
        assert service.crafting.begun == CONTENTS
        assert (await usage(service))["images_today"] == 3


async def test_a_job_counts_before_it_is_done(tmp_path: Path) -> None:
    async with running(tmp_path, images_per_day=3) as service:
        service.crafting.gate.clear()
        await accepted(service, CONTENTS)
        detail(await service.protect(png(4)), 429, "quota")
        detail(await service.send_many("/v1/jobs", [png(4)]), 429, "quota")
        service.crafting.gate.set()


async def test_the_next_process_goes_on_where_this_one_ended(tmp_path: Path) -> None:
    async with running(tmp_path, images_per_day=3) as service:
        job = await accepted(service, CONTENTS, ["dog", "cat", ""], key="k")
        async with asyncio.timeout(30):
            while stored(service, ".result") == []:  # the first is done, then the gate closes
                service.crafting.gate.clear()
                await service.crafting.has_begun(1)
                service.crafting.gate.set()
                await asyncio.sleep(0.001)
        service.crafting.gate.clear()
    finished = len(stored(service, ".result"))
    async with running(tmp_path) as service:
        assert (await service.finished(job))["state"] == "done"
        assert len(service.crafting.begun) == 3 - finished
        files, _ = opened(await service.http.get(f"/v1/jobs/{job}/released", headers=service.headers()))
        assert files == {
            f"{number}.png": released(content, label, "full").content
            for number, content, label in zip((1, 2, 3), CONTENTS, ("dog", "cat", None), strict=True)
        }
        assert await accepted(service, CONTENTS, ["dog", "cat", ""], key="k") == job
        assert (await usage(service))["images_today"] == 3
        assert len(list(service.ledger.entries())) == 3


async def test_results_outlast_the_process(tmp_path: Path) -> None:
    async with running(tmp_path) as service:
        job = await accepted(service, CONTENTS)
        await service.finished(job)
        before = await service.http.get(f"/v1/jobs/{job}/released", headers=service.headers())
    async with running(tmp_path) as service:
        after = await service.http.get(f"/v1/jobs/{job}/released", headers=service.headers())
        assert before.content == after.content
        assert service.crafting.begun == []


async def test_a_kill_between_result_and_deletion_does_not_craft_again(tmp_path: Path) -> None:
    """The state that such a kill leaves is made by hand: job, original and result are all there."""
    async with running(tmp_path) as service:
        service.crafting.gate.clear()
        job = await accepted(service, [png(1)])
        await service.crafting.has_begun(1)
        originals = {path: path.read_bytes() for path in service.spool.glob("*/*")}
        service.crafting.gate.set()
        await service.finished(job)
        (result,) = service.spool.glob("*/*.result")
        originals[result] = result.read_bytes()
    for path in result.parent.iterdir():
        path.unlink()
    for path, content in originals.items():
        path.write_bytes(content)
    async with running(tmp_path) as service:
        (service.spool / job / "end").unlink(missing_ok=True)
        report = await service.finished(job)
        assert report["state"] == "done"
        assert service.crafting.begun == []


async def test_files_of_a_job_that_was_never_answered_are_deleted(tmp_path: Path) -> None:
    spool = Spool.open(tmp_path / "spool", SPOOL_SECRET)
    spool.write("0" * 32, "1.original", b"x")  # a kill while they are stored
    for name in ("pending", "manifest"):  # a kill before the ledger has it
        spool.write("1" * 32, name, b"x")
    spool.close()
    async with running(tmp_path) as service:
        await emptied(service)


async def test_a_start_with_another_ledger_keeps_the_jobs_of_the_first(tmp_path: Path) -> None:
    async with running(tmp_path) as service:
        service.crafting.gate.clear()
        job = await accepted(service, CONTENTS)
        await service.crafting.has_begun(1)
    async with running(tmp_path, ledger=f"sqlite:///{tmp_path / 'other.db'}") as service:
        async with asyncio.timeout(30):
            while not service.logged("job-kept"):
                await asyncio.sleep(0.001)
        assert service.logged("job-kept")[0]["job"] == job
        await service.service.jobs.expire()
    async with running(tmp_path) as service:
        assert (await service.finished(job))["done"] == 3
        assert service.logged("job-kept") == []


async def test_files_that_a_kill_left_of_a_cancelled_job_are_deleted(tmp_path: Path) -> None:
    async with running(tmp_path) as service:
        service.crafting.gate.clear()
        job = await accepted(service, CONTENTS)
        await service.crafting.has_begun(1)
        service.ledger.jobs.update(job, state=JobState.CANCELLED)  # and the kill comes before the files are deleted
    assert stored(service, ".original") != []
    async with running(tmp_path) as service:
        await emptied(service)
        assert service.crafting.begun == []


async def lost_answer(service: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """Send a job that the ledger makes, and does not say so."""
    create = service.ledger.jobs.create

    def commit_and_die(*args: Any) -> None:  # noqa: ANN401
        create(*args)
        raise LedgerUnavailable("away")

    with monkeypatch.context() as patch:
        patch.setattr(service.ledger.jobs, "create", commit_and_die)
        detail(await service.send_many("/v1/jobs", [*CONTENTS, b"text"], key="k"), 503, "ledger-unavailable")
    assert stored(service) == []


@pytest.mark.parametrize("restart", [False, True])
async def test_a_job_whose_making_was_not_confirmed_is_done_when_it_is_sent_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, restart: bool
) -> None:
    async with running(tmp_path, images_per_day=3) as service:
        await lost_answer(service, monkeypatch)
        if not restart:
            await check_sent_again(service)
    if restart:
        async with running(tmp_path) as service:
            await check_sent_again(service)


async def check_sent_again(service: Running) -> None:
    service.crafting.gate.clear()
    sent = [accepted(service, [*CONTENTS, b"text"], key="k") for _ in range(3)]
    job, *others = await asyncio.gather(*sent)
    assert set(others) == {job}
    service.crafting.gate.set()
    assert (await service.finished(job))["done"] == 4
    assert service.crafting.begun == CONTENTS
    files, _ = opened(await service.http.get(f"/v1/jobs/{job}/released", headers=service.headers()))
    assert sorted(files) == ["1.png", "2.png", "3.png"]
    assert (await usage(service))["images_today"] == 3
    assert {path.parent.name for path in service.spool.glob("*/*")} == {job}


async def test_an_unconfirmed_job_that_was_cancelled_stays_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(tmp_path) as service:
        await lost_answer(service, monkeypatch)
        (job,) = service.ledger.jobs.unfinished()
        service.ledger.jobs.update(job.id, state=JobState.CANCELLED)
        assert await accepted(service, [*CONTENTS, b"text"], key="k") == job.id
        assert service.crafting.begun == stored(service) == []


def failing(times: int, work: Callable[..., Any], error: Exception) -> Callable[..., Any]:
    """Let the first calls of a function fail."""
    left = iter(range(times))

    def call(*args: Any, **options: Any) -> Any:  # noqa: ANN401
        if next(left, None) is not None:
            raise error
        return work(*args, **options)

    return call


async def test_a_job_waits_for_a_ledger_that_is_away_and_for_space_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retrying, "FIRST_PAUSE", 0.0)
    async with running(tmp_path) as service:
        service.crafting.gate.clear()
        job = await accepted(service, CONTENTS)
        await service.crafting.has_begun(1)
        away, full = LedgerUnavailable("away"), RunStopped("no space left on the disk")
        for target, name, error in (
            (service.ledger, "record", away),
            (service.ledger.jobs, "update", away),
            (Spool, "write", full),
        ):
            monkeypatch.setattr(target, name, failing(3, getattr(target, name), error))
        service.crafting.gate.set()
        assert (await service.finished(job))["state"] == "done"
        assert len(list(service.ledger.entries())) == 3
    assert {line["error"] for line in service.logged("job-waits")} == {"LedgerUnavailable", "RunStopped"}


async def test_a_job_that_finds_no_space_is_not_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(tmp_path, images_per_day=3) as service:
        with monkeypatch.context() as patch:
            patch.setattr(Spool, "write", failing(1, Spool.write, RunStopped("no space left on the disk")))
            detail(await service.send_many("/v1/jobs", CONTENTS), 507, "disk-full")
        assert stored(service) == []
        assert (await service.finished(await accepted(service, CONTENTS)))["state"] == "done"


def room(*contents: bytes) -> int:
    """Bytes that a job of images of 16 px may take."""
    return sum(len(content) + BYTES_PER_PIXEL * 16 * 16 + OVERHEAD for content in contents)


async def test_a_job_that_finds_no_room_beside_others_is_refused_until_there_is_some(tmp_path: Path) -> None:
    most = room(*CONTENTS) + OVERHEAD  # for one job, and for the results of others
    async with running(tmp_path, images_per_day=7, max_spool_bytes=most) as service:
        service.crafting.gate.clear()
        job = await accepted(service, CONTENTS, key="k")
        response = await service.send_many("/v1/jobs", [png(4)])
        said = detail(response, 507, "spool-full")
        assert said.startswith("There is no space left for jobs; those whose results you have fetched can be deleted.")
        assert response.headers["retry-after"] == "60"
        assert await accepted(service, CONTENTS, key="k") == job  # which was accepted, and needs nothing more
        assert (await usage(service))["images_today"] == 3
        assert {path.parent.name for path in service.spool.glob("*/*")} == {job}
        service.crafting.gate.set()
        await service.finished(job)
        await service.finished(await accepted(service, [png(4)]))  # results take less than was kept free for them


async def test_results_count_until_they_are_deleted(tmp_path: Path) -> None:
    most = room(*CONTENTS)
    async with running(tmp_path, max_spool_bytes=most) as service:
        job = await accepted(service, CONTENTS)
        await service.finished(job)
        detail(await service.send_many("/v1/jobs", CONTENTS), 507, "spool-full")
        await service.http.delete(f"/v1/jobs/{job}", headers=service.headers())
        await service.finished(await accepted(service, CONTENTS))


async def test_after_a_restart_room_is_kept_for_what_an_accepted_job_still_needs(tmp_path: Path) -> None:
    most = room(*CONTENTS) + OVERHEAD
    async with running(tmp_path, max_spool_bytes=most) as service:
        service.crafting.gate.clear()
        job = await accepted(service, CONTENTS)
        await service.crafting.has_begun(1)
    crafting = FakeCrafting()
    crafting.gate.clear()
    async with running(tmp_path, crafting=crafting, max_spool_bytes=most) as service:
        detail(await service.send_many("/v1/jobs", [png(4)]), 507, "spool-full")
        crafting.gate.set()
        assert (await service.finished(job))["done"] == 3
        await service.finished(await accepted(service, [png(4)]))


async def test_a_job_that_is_too_large_for_an_empty_spool_is_not_asked_to_come_again(tmp_path: Path) -> None:
    needed, most = room(*CONTENTS), room(*CONTENTS) - 1
    async with running(tmp_path, max_spool_bytes=most) as service:
        response = await service.send_many("/v1/jobs", CONTENTS)
        said = detail(response, 413, "job-too-large")
        assert said.startswith(f"The job and its results may take {needed} bytes, and all jobs together have {most}.")
        assert "retry-after" not in response.headers
        assert (await usage(service))["images_today"] == 0


async def test_a_ledger_that_does_not_answer_keeps_no_file_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An orderly end takes back that the image was begun, while every thread of the ledger waits."""
    answers = threading.Event()
    async with running(tmp_path) as service:
        service.crafting.gate.clear()
        job = await accepted(service, [png(1)])
        await service.crafting.has_begun(1)
        monkeypatch.setattr(service.ledger, "ping", answers.wait)
        waiting = [asyncio.create_task(service.service.accounting.ping()) for _ in range(2 * THREADS)]
        stopping = asyncio.create_task(service.service.jobs.stop())
        stopped, _ = await asyncio.wait({stopping}, timeout=30)  # it cannot be cancelled
        answers.set()
        await asyncio.gather(stopping, *waiting)
        assert stopped
        assert stored(service, ".starts") == []
    async with running(tmp_path) as service:
        assert (await service.finished(job))["done"] == 1


async def test_what_fails_around_the_application_ends_the_service_too(tmp_path: Path) -> None:
    crafting = FakeCrafting()
    with pytest.raises(ZeroDivisionError):
        async with running(tmp_path, crafting=crafting):
            raise ZeroDivisionError
    assert crafting.closed


async def test_only_so_many_jobs_wait(tmp_path: Path) -> None:
    async with running(tmp_path, max_jobs=1) as service:
        service.crafting.gate.clear()
        job = await accepted(service, [png(1)])
        response = await service.send_many("/v1/jobs", [png(2)])
        detail(response, 429, "jobs-full")
        assert response.headers["retry-after"] == "60"
        service.crafting.gate.set()
        await service.finished(job)
        await accepted(service, [png(2)])


async def test_a_job_whose_files_cannot_be_read_back_fails_with_a_sentence(tmp_path: Path) -> None:
    async with running(tmp_path, images_per_day=1) as service:
        service.crafting.gate.clear()
        job = await accepted(service, [png(1)])
        await service.crafting.has_begun(1)
    for path in (tmp_path / "spool").glob("*/*.original"):
        path.write_bytes(b"damaged by something else")
    async with running(tmp_path) as service:
        report = await service.finished(job)
        assert report["state"] == "failed"
        assert report["problem"] == "The images of this job cannot be read back. Send them again."
        await emptied(service)
        assert (await usage(service))["images_today"] == 0


async def test_a_job_whose_manifest_cannot_be_understood_fails_and_the_service_goes_on(tmp_path: Path) -> None:
    async with running(tmp_path) as service:
        service.crafting.gate.clear()
        job = await accepted(service, [png(1)])
        await service.crafting.has_begun(1)
    spool = Spool.open(tmp_path / "spool", SPOOL_SECRET)
    spool.write(job, "manifest", b'{"written": "by another version"}')
    spool.close()
    async with running(tmp_path) as service:
        report = await service.finished(job)
        assert report["state"] == "failed"
        assert report["problem"] == "The images of this job cannot be read back. Send them again."
        await emptied(service)
        await service.finished(await accepted(service, [png(2)]))


async def test_what_is_being_written_when_a_job_is_deleted_is_deleted_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writes, may_go_on = threading.Event(), threading.Event()
    write = Spool.write

    def slow(self: Spool, job: str, name: str, content: bytes) -> None:
        if name.endswith(".result"):
            writes.set()
            may_go_on.wait()
        write(self, job, name, content)

    monkeypatch.setattr(Spool, "write", slow)
    async with running(tmp_path, max_spool_bytes=room(png(1))) as service:
        job = await accepted(service, [png(1)])
        await asyncio.to_thread(writes.wait)
        deleting = asyncio.create_task(service.http.delete(f"/v1/jobs/{job}", headers=service.headers()))
        assert (await service.finished(job))["state"] == "cancelled"
        may_go_on.set()
        assert (await deleting).status_code == 204
        assert stored(service) == []
        await service.finished(await accepted(service, [png(1)]))  # nothing is left that would take its room


@asynccontextmanager
async def dying(folder: Path, crafting: FakeCrafting) -> AsyncIterator[Running]:
    """Run a service whose files are put back at the end as a kill would have left them."""
    async with running(folder, crafting=crafting, max_batch=2) as service, asyncio.timeout(30):
        yield service
        left = {path: path.read_bytes() for path in service.spool.glob("*/*")}
    for path in service.spool.glob("*/*"):
        path.unlink()
    for path, content in left.items():
        path.write_bytes(content)


async def test_an_image_that_kills_the_process_is_refused_after_some_starts(tmp_path: Path) -> None:
    """Each kill finds the image `bad` in work; at the first one, so is its neighbour."""
    bad = png(2)
    starts: list[bytes] = []
    for _ in range(job_images.MOST_STARTS):
        crafting = FakeCrafting()
        crafting.stuck = {bad} if starts else {bad, png(1)}
        async with dying(tmp_path, crafting) as service:
            if not starts:
                job = await accepted(service, [png(1), bad])
            await crafting.has_begun_with(bad)
            if not starts:
                await crafting.has_begun(2)
            while starts and png(1) in crafting.begun and "1.starts" in stored(service):  # it ends
                await asyncio.sleep(0.001)
            starts.append(bad)
    async with running(tmp_path) as service:
        assert (await service.finished(job))["state"] == "done"
        assert bad not in service.crafting.begun
        files, images = opened(await service.http.get(f"/v1/jobs/{job}/released", headers=service.headers()))
        assert sorted(files) == ["1.png"]
        problems = [image["problem"] for image in images if "problem" in image]
        assert [problem["type"] for problem in problems] == ["urn:withhold:not-protectable"]  # type: ignore[index]
        assert "ended 5 times" in problems[0]["detail"]  # type: ignore[index]
        assert stored(service, ".starts") == stored(service, ".original") == []
        assert (await usage(service))["images_today"] == 1


async def test_orderly_ends_do_not_count_against_an_image(tmp_path: Path) -> None:
    for number in range(job_images.MOST_STARTS + 1):
        async with running(tmp_path) as service:
            service.crafting.gate.clear()
            if number == 0:
                job = await accepted(service, [png(1)])
            await service.crafting.has_begun(1)
    async with running(tmp_path) as service:
        assert (await service.finished(job))["done"] == 1
        assert service.crafting.begun == [png(1)]


async def test_an_image_that_loses_every_replica_is_refused_and_the_others_are_not(tmp_path: Path) -> None:
    crafting = FakeCrafting()
    crafting.errors[png(2)] = Stopping(1)
    async with running(tmp_path, crafting=crafting) as service:
        job = await accepted(service, CONTENTS)
        assert (await service.finished(job))["done"] == 3
        files, _ = opened(await service.http.get(f"/v1/jobs/{job}/released", headers=service.headers()))
        assert sorted(files) == ["1.png", "3.png"]
        assert crafting.begun.count(png(2)) == job_images.MOST_STARTS


async def test_while_there_is_no_replica_at_all_a_job_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrying, "FIRST_PAUSE", 0.0)
    crafting = FakeCrafting()
    monkeypatch.setattr(crafting, "check", failing(3 * job_images.MOST_STARTS, crafting.check, Stopping(1)))
    async with running(tmp_path, crafting=crafting) as service:
        job = await accepted(service, [png(1)])
        assert (await service.finished(job))["done"] == 1
        assert crafting.begun == [png(1)]


async def test_results_that_are_too_old_are_deleted(tmp_path: Path) -> None:
    async with running(tmp_path, job_hours=24) as service:
        old, new = [await accepted(service, [png(seed)]) for seed in (1, 2)]
        for job in (old, new):
            await service.finished(job)
        then = time.time() - 25 * 3600
        os.utime(service.spool / old / "end", (then, then))
        await service.service.jobs.expire()
        for job, status in ((old, 410), (new, 200)):
            response = await service.http.get(f"/v1/jobs/{job}/released", headers=service.headers())
            assert response.status_code == status
        assert not (service.spool / old).exists()


async def test_single_images_are_not_kept_back_by_jobs(tmp_path: Path, protector: Protector) -> None:
    async with running(tmp_path, crafting=protector, speed="instant", max_queue=4) as service:
        job = await accepted(service, [png(seed) for seed in range(20)])
        assert (await service.protect(png(99))).status_code == 200
        report = (await service.http.get(f"/v1/jobs/{job}", headers=service.headers())).json()
        assert report["done"] < 20
        assert (await service.finished(job))["done"] == 20
