"""The list of models, and leases behind it."""

from ..framework.person import refusal


async def test_the_list_has_openais_shape_and_what_an_app_needs(me):
    listed = await me.get("/v1/models")
    assert listed["object"] == "list"
    chat = next(model for model in listed["data"] if model["id"] == "parley-nano-chat")
    assert (chat["object"], chat["task"], chat["available"]) == ("model", "chat", True)
    assert isinstance(chat["created"], int)
    assert chat["owned_by"]
    assert chat["context_window"] > chat["max_output_tokens"] > 0
    assert chat["tokens_per_minute"] > 0
    assert chat["aliases"]
    assert chat["price"]["input_micros_per_million_tokens"] > 0
    image = next(model for model in listed["data"] if model["id"] == "parley-nano-image")
    assert (image["task"], image["available"]) == ("image", True)
    assert image["price"]["micros_per_million_pixel_steps"] > 0


async def test_one_model_by_id_or_alias(me):
    chat = next(model for model in (await me.get("/v1/models"))["data"] if model["id"] == "parley-nano-chat")
    for name in (chat["id"], *chat["aliases"]):
        assert (await me.get(f"/v1/models/{name}"))["id"] == chat["id"]
    assert refusal(await me.call("GET", "/v1/models/no/such-model"))[:2] == (404, "MODEL_NOT_FOUND")
