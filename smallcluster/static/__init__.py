"""Checks of files alone: what a cluster would be, before anything of it runs."""

from __future__ import annotations

from typing import Any

from smallcluster.static import composition, environments, nginx
from smallcluster.static.base import Environments, StaticCheck
from smallcluster.static.composition import Composition
from smallcluster.static.nginx import Nginx

OF_ENVIRONMENTS: tuple[StaticCheck[Environments], ...] = (
    environments.env_names_two_or_three_nodes,
    environments.env_gives_each_node_an_id,
    environments.env_has_the_same_credentials,
    environments.env_is_one_release,
    environments.env_uses_one_redis,
    environments.env_uses_one_database,
    environments.env_has_one_default_namespace,
    environments.env_names_one_of_each_service,
    environments.env_names_one_region,
    environments.env_has_debug_off,
)
OF_NGINX: tuple[StaticCheck[Nginx], ...] = (
    nginx.nginx_passes_http_only,
    nginx.nginx_passes_to_every_node,
    nginx.nginx_binds_nobody_to_a_node,
    nginx.nginx_keeps_headers,
    nginx.nginx_sends_no_request_twice,
    nginx.nginx_outwaits_long_polls,
    nginx.nginx_passes_answers_at_once,
)
OF_COMPOSITION: tuple[StaticCheck[Composition], ...] = (
    composition.compose_keeps_data_services_private,
    composition.compose_runs_one_scheduler,
    composition.compose_runs_one_release,
    composition.compose_replaces_nothing_one_by_one,
    composition.compose_is_the_only_supervisor,
)
ALL: tuple[StaticCheck[Any], ...] = (*OF_ENVIRONMENTS, *OF_NGINX, *OF_COMPOSITION)
