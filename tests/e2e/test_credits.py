"""Credits: granted, spent, listed; the books add up."""

import asyncio
import uuid


async def test_a_new_account_has_the_welcome_grant(me):
    balance, held, available = await me.credits()
    assert balance == available == 5_000_000
    assert held == 0
    (entry,) = (await me.get("/v1/credits/entries"))["entries"]
    assert (entry["kind"], int(entry["amountMicros"])) == ("welcome_grant", balance)


async def test_entries_are_paginated_newest_first_and_add_up(me):
    conversation = await me.conversation()
    for _ in range(3):
        await me.say(conversation, "Hello!", maxOutputTokens=3)
    seen, token = [], ""
    while True:
        page = await me.get(f"/v1/credits/entries?pageSize=2&pageToken={token}")
        seen += page["entries"]
        token = page.get("nextPageToken", "")
        if not token:
            break
    assert len(seen) == 4
    assert seen[-1]["kind"] == "welcome_grant"
    balance = 0
    for entry in reversed(seen):
        balance += int(entry["amountMicros"])
        assert int(entry["balanceAfterMicros"]) == balance
    assert (await me.credits())[0] == balance


async def test_the_books_balance(operator, me):
    await me.say(await me.conversation(), "Hello!", maxOutputTokens=3)
    audit = await operator.audit()
    assert audit.accounts > 2
    assert audit.entries > 2
    assert (audit.sum_micros, audit.drifted_balances, audit.drifted_holds, audit.overdue_holds) == (0, 0, 0, 0)


async def test_billing_hears_of_a_proved_address(me, sql):
    await me.verify()
    waiting = "SELECT 1 FROM auth.welcomes WHERE user_id = $1"
    async with asyncio.timeout(60):
        while await sql("auth_app", waiting, uuid.UUID(me.id)):
            await asyncio.sleep(0.1)
    assert (await me.credits())[0] == 5_000_000  # on one machine all of it was given at once
