"""The catalogue's file, checked before anything is written."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from parley_registry.model import DEFAULT, TOKENS_PER_MINUTE, Task

Name = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9][A-Za-z0-9._/:-]*$")]
Micros = Annotated[int, Field(ge=0, le=10**12)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class SeedPrice(_Strict):
    """Micros per million units; what a task does not count stays 0. Cached prompt tokens cost the same unless stated."""

    input_micros_per_million_tokens: Micros = 0
    cached_input_micros_per_million_tokens: Micros | None = None
    output_micros_per_million_tokens: Micros = 0
    micros_per_million_pixel_steps: Micros = 0
    micros_per_million_audio_seconds: Micros = 0

    @property
    def cached_price(self) -> int:
        """What cached prompt tokens cost."""
        stated = self.cached_input_micros_per_million_tokens
        return self.input_micros_per_million_tokens if stated is None else stated

    @model_validator(mode="after")
    def cached_tokens_are_not_dearer(self) -> Self:
        """Refuse a price that would exceed the hold, which is placed for a prompt that is not cached."""
        if self.cached_price > self.input_micros_per_million_tokens:
            raise ValueError("cached_input_micros_per_million_tokens is more than input_micros_per_million_tokens")
        return self


class SeedModel(_Strict):
    """One model of the file."""

    id: Name
    task: Annotated[Task, Field(strict=False)]
    display_name: Annotated[str, Field(min_length=1, max_length=100)]
    description: Annotated[str, Field(max_length=500)] = ""
    owned_by: Annotated[str, Field(min_length=1, max_length=100)]
    aliases: list[Name] = []
    default: bool = False
    context_window: Annotated[int, Field(ge=0)] = 0
    max_output_tokens: Annotated[int, Field(ge=0)] = 0
    tokens_per_minute: Annotated[int, Field(ge=0, le=10**9)] = TOKENS_PER_MINUTE
    fallbacks: Annotated[list[Name], Field(max_length=5)] = []
    price: SeedPrice

    @model_validator(mode="after")
    def chat_models_state_their_limits(self) -> Self:
        """Refuse a chat model without a window."""
        if self.task is Task.CHAT and not (self.context_window and self.max_output_tokens):
            raise ValueError("a chat model states context_window and max_output_tokens")
        return self


class AnnouncedPrices(_Strict):
    """Prices of models that only replicas know, by task."""

    chat: SeedPrice
    image: SeedPrice


class Catalogue(_Strict):
    """The whole file."""

    models: list[SeedModel]
    announced_prices: AnnouncedPrices

    @model_validator(mode="after")
    def names_mean_one_model(self) -> Self:
        """Refuse names and defaults that would mean two models."""
        owner: dict[str, str] = {DEFAULT: "(the default model of a task)"}
        for model in self.models:
            for name in (model.id, *model.aliases):
                if name in owner:
                    raise ValueError(f"the name {name} belongs to both {owner[name]} and {model.id}")
                owner[name] = model.id
        chat = {model.id for model in self.models if model.task is Task.CHAT}
        for model in self.models:
            for name in model.fallbacks:
                if model.task is not Task.CHAT or name not in chat - {model.id}:
                    raise ValueError(
                        f"{name} cannot be a fallback of {model.id}: both are to be chat models of this file"
                    )
        for task in Task:
            defaults = [model.id for model in self.models if model.task is task and model.default]
            if len(defaults) > 1:
                raise ValueError(f"{' and '.join(defaults)} are both the default of {task}")
        return self


def read(path: Path) -> Catalogue:
    """Read a catalogue file; SystemExit names what is wrong in it."""
    try:
        return Catalogue.model_validate(yaml.safe_load(path.read_text()))
    except OSError as error:
        raise SystemExit(f"The catalogue {path} cannot be read: {error.strerror}.") from None
    except yaml.YAMLError as error:
        raise SystemExit(f"The catalogue {path} is not YAML: {error}") from None
    except ValidationError as error:
        wrong = [f"  {'.'.join(map(str, e['loc'])) or 'file'}: {e['msg']}" for e in error.errors()]
        raise SystemExit(f"The catalogue {path} is wrong:\n" + "\n".join(wrong)) from None
