from alembic import context
from parley_auth.models import SCHEMA, metadata
from parley_kit.migrate import run_env

run_env(context, metadata, SCHEMA)
