"""Checks of env files alone: what a cluster would be, before anything of it runs."""

from __future__ import annotations

from smallcluster.static import environments
from smallcluster.static.base import StaticCheck

ALL: tuple[StaticCheck, ...] = (
    environments.env_names_two_or_three_nodes,
    environments.env_gives_each_node_an_id,
    environments.env_has_the_same_credentials,
    environments.env_is_one_release,
    environments.env_uses_one_redis,
    environments.env_uses_one_database,
    environments.env_has_one_default_namespace,
)
