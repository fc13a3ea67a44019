"""Pictures: queued, watched, fetched, cancelled; and what each costs."""

import io
import math
import uuid

import pytest
from PIL import Image

from ..framework.person import good, refusal

ASK = {"prompt": "a red circle", "width": 64, "height": 64, "steps": 4, "seed": 7}


async def done(me, job):
    """Wait for the end of a job; returns its events."""
    return await me.events("GET", f"/v1/image-jobs/{job}:stream")


async def test_a_picture(me):
    made = await me.post("/v1/image-jobs", **ASK)
    assert made["state"] in {"QUEUED", "RUNNING"}
    events = await done(me, made["id"])
    kinds = [event["type"] for event in events if event["type"] != "heartbeat"]
    assert kinds[0] in {"queued", "progress"}  # the first event tells how it stands now
    assert kinds[-1] == "done"
    assert [event["step"] for event in events if event["type"] == "progress"][-1] == 4
    job = await me.get(f"/v1/image-jobs/{made['id']}")
    assert job["state"] == "SUCCEEDED"
    price = (await me.get(f"/v1/models/{job['model']}"))["price"]["micros_per_million_pixel_steps"]
    charged = math.ceil(64 * 64 * 4 * price / 1_000_000)
    assert int(job["chargedMicros"]) == charged
    (charge,) = await me.charges()
    assert (int(charge["amountMicros"]), charge["reference"]) == (-charged, made["id"])
    answer = await me.call("GET", f"/v1/image-jobs/{made['id']}/image")
    assert answer.headers["content-type"] == "image/png"
    picture = Image.open(io.BytesIO(answer.content))
    assert (picture.format, picture.size) == ("PNG", (64, 64))


async def test_the_same_seed_is_the_same_picture(me):
    pictures = []
    for _ in range(2):
        made = await me.post("/v1/image-jobs", **ASK)
        await done(me, made["id"])
        pictures.append((await me.call("GET", f"/v1/image-jobs/{made['id']}/image")).content)
    assert pictures[0] == pictures[1]


async def test_a_cancelled_job_stays_cancelled(me):
    made = await me.post("/v1/image-jobs", **ASK | {"steps": 100, "width": 256, "height": 256})
    cancelled = await me.post(f"/v1/image-jobs/{made['id']}:cancel")
    assert cancelled["id"] == made["id"]
    events = await done(me, made["id"])
    assert events[-1]["job"]["state"] == "CANCELLED"
    answer = await me.call("GET", f"/v1/image-jobs/{made['id']}/image")
    assert refusal(answer)[:2] == (409, "FAILED_PRECONDITION")
    assert (await me.credits())[1] == 0


async def test_the_same_request_id_is_one_job(me):
    first = await me.post("/v1/image-jobs", **ASK, requestId="r")
    again = await me.post("/v1/image-jobs", **ASK, requestId="r")
    assert again["id"] == first["id"]
    answer = await me.call("POST", "/v1/image-jobs", **ASK | {"prompt": "else"}, requestId="r")
    assert refusal(answer) == (409, "IDEMPOTENCY_CONFLICT", "requestId")
    await done(me, first["id"])
    assert len(await me.charges()) == 1


async def test_too_few_credits_is_402_and_nothing_is_queued(pauper):
    assert refusal(await pauper.call("POST", "/v1/image-jobs", **ASK))[:2] == (402, "INSUFFICIENT_CREDITS")
    assert (await pauper.get("/v1/image-jobs")).get("jobs", []) == []


@pytest.mark.parametrize(("method", "path"), [("GET", ""), ("GET", ":stream"), ("POST", ":cancel"), ("GET", "/image")])
@pytest.mark.parametrize("whose", ["somebody else's", "nobody's"])
async def test_what_is_not_mine_does_not_exist(me, other, method, path, whose):
    job = (await other.post("/v1/image-jobs", **ASK))["id"] if whose == "somebody else's" else str(uuid.uuid4())
    assert refusal(await me.call(method, f"/v1/image-jobs/{job}{path}"))[:2] == (404, "NOT_FOUND")
    if whose == "somebody else's":
        assert (await done(other, job))[-1]["job"]["state"] == "SUCCEEDED"


async def test_the_list_is_newest_first(me):
    made = [(await me.post("/v1/image-jobs", **ASK | {"steps": 1}))["id"] for _ in range(3)]
    page = good(await me.call("GET", "/v1/image-jobs?pageSize=2"))
    rest = await me.get(f"/v1/image-jobs?pageSize=2&pageToken={page['nextPageToken']}")
    assert [job["id"] for job in page["jobs"] + rest["jobs"]] == made[::-1]


async def test_a_job_that_waits_knows_its_place(me):
    first, second = [(await me.post("/v1/image-jobs", **ASK | {"steps": 30}))["id"] for _ in range(2)]
    events = await done(me, second)
    places = [event["position"] for event in events if event["type"] == "queued"]
    assert places == sorted(places, reverse=True)
    assert places[0] >= 0
    assert (await done(me, first))[-1]["job"]["state"] == "SUCCEEDED"
