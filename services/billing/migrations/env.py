from alembic import context
from parley_billing.models import SCHEMA, metadata
from parley_kit.migrate import run_env

run_env(context, metadata, SCHEMA)
