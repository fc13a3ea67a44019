"""What is sold: packages of credits and plans, read from the catalogue's file and checked before anything is served."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

Id = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9._-]+$")]
Name = Annotated[str, Field(min_length=1, max_length=100)]
StoreProduct = Annotated[str, Field(min_length=1, max_length=200)]
Currency = Annotated[str, Field(pattern=r"^[a-z]{3}$")]
Micros = Annotated[int, Field(ge=1, le=10**15)]
TrialMicros = Annotated[int, Field(ge=0, le=10**15)]
Minor = Annotated[int, Field(ge=1, le=10**8)]  # Stripe takes no more than eight digits


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Package(_Strict):
    """Credits that are sold together; `prices` by currency, in its smallest unit."""

    id: Id
    display_name: Name
    credits_micros: Micros
    prices: Annotated[dict[Currency, Minor], Field(min_length=1)]
    stripe_product: StoreProduct | None = None
    store_products: list[StoreProduct] = []


class Plan(_Strict):
    """Credits that come with each paid period of a subscription, and fewer or none with a free one.

    They go at its end, as does what its user may do until then.
    """

    id: Id
    display_name: Name
    credits_micros: Micros
    tokens_per_minute_factor: Annotated[int, Field(ge=1, le=1000)] = 1
    max_generations: Annotated[int, Field(ge=0, le=1000)] = 0
    trial_credits_micros: TrialMicros = 0
    stripe_prices: list[StoreProduct] = []
    store_products: list[StoreProduct] = []


class Catalogue(_Strict):
    """The whole file."""

    packages: list[Package] = []
    plans: list[Plan] = []

    @model_validator(mode="after")
    def names_mean_one_thing(self) -> Self:
        """Refuse ids and products that would mean two things."""
        of_stores: list[Package | Plan] = [*self.packages, *self.plans]
        for what, names in (
            ("package", [package.id for package in self.packages]),
            ("plan", [plan.id for plan in self.plans]),
            ("Stripe price", [price for plan in self.plans for price in plan.stripe_prices]),
            ("store product", [product for sold in of_stores for product in sold.store_products]),
        ):
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise ValueError(f"the {what} {twice[0]} is there twice")
        return self

    def package(self, package_id: str) -> Package | None:
        """Return a package by its id."""
        return next((package for package in self.packages if package.id == package_id), None)

    def plan(self, plan_id: str) -> Plan | None:
        """Return a plan by its id."""
        return next((plan for plan in self.plans if plan.id == plan_id), None)

    def plan_at_stripe(self, price: str) -> Plan | None:
        """Return the plan that a price of Stripe's pays for."""
        return next((plan for plan in self.plans if price in plan.stripe_prices), None)

    def in_stores(self, product: str) -> Package | Plan | None:
        """Return what an app store's product stands for; a Play subscription's is `product:base-plan`."""
        sold: list[Package | Plan] = [*self.packages, *self.plans]
        return next((one for one in sold if product in one.store_products), None)


def read(path: Path) -> Catalogue:
    """Read a catalogue file; SystemExit names what is wrong in it."""
    try:
        return Catalogue.model_validate(yaml.safe_load(path.read_text()) or {})
    except OSError as error:
        raise SystemExit(f"The catalogue {path} cannot be read: {error.strerror}.") from None
    except yaml.YAMLError as error:
        raise SystemExit(f"The catalogue {path} is not YAML: {error}") from None
    except ValidationError as error:
        wrong = [f"  {'.'.join(map(str, e['loc'])) or 'file'}: {e['msg']}" for e in error.errors()]
        raise SystemExit(f"The catalogue {path} is wrong:\n" + "\n".join(wrong)) from None
