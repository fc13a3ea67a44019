from alembic import context
from parley_kit.migrate import run_env
from parley_registry.models import SCHEMA, metadata

run_env(context, metadata, SCHEMA)
