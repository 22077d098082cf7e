"""One sentence for each configuration key, until config/model.py has them as docstrings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

DESCRIPTIONS: Final[Mapping[str, Mapping[str, str]]] = {
    "ProjectConfig": {
        "name": "The label `project`; unique.",
        "region": "Such as `cn-north-4`; optional if `endpoint` and `project_id` are given.",
        "project_id": "The project's id; if empty, looked up through the identity "
        "service by region.",
        "project_name": "The name for that look-up, for sub-projects; the region if empty.",
        "endpoint": "The URL of the DCS API, for another cloud or a VPC endpoint; by "
        "region if not given.",
        "iam_endpoint": "The URL of the identity service; by region if not given.",
        "cloud": "The domain of the region's endpoints; by region if empty (`myhuaweicloud.com`).",
        "proxy_url": "An HTTP proxy for this project; the environment's if not given.",
        "credentials": "Where the key or token is; one of the types below.",
        "instances": "Instances to watch; at least one unless `discovery` is enabled.",
    },
    "TlsConfig": {
        "ca_file": "Certificates to trust; those of the Python package `certifi` if not given.",
        "insecure_skip_verify": "Trust any certificate; for tests only.",
    },
    "AccessKeyCredentials": {
        "access_key": "The access key (AK).",
        "access_key_file": "A file that holds the access key.",
        "secret_key": "The secret key (SK).",
        "secret_key_file": "A file that holds the secret key.",
        "security_token": "The security token of a temporary key.",
        "security_token_file": "A file that holds the security token.",
        "expires_at": "When the credentials expire, such as `2026-01-31T12:00:00Z`.",
    },
    "TokenCredentials": {
        "token": "A project-scoped token of the identity service.",
        "token_file": "A file that holds the token.",
        "expires_at": "When the credentials expire, such as `2026-01-31T12:00:00Z`.",
    },
    "InstanceConfig": {
        "id": "The instance's id, as the console shows it.",
        "name": "The label `dcs_instance_name`; the id if empty.",
    },
    "DiscoveryConfig": {
        "enabled": "Find the instances of the project automatically.",
        "refresh_interval": "How often to list the instances; at least `1s`.",
        "include": "Watch only instances whose name matches this regular expression.",
        "exclude": "Do not watch instances whose name matches this regular expression.",
        "tags": "Watch only instances with all these tags and values.",
        "statuses": "Watch only instances with one of these statuses, such as `RUNNING`.",
        "engines": "Watch only instances with one of these engines, such as `Redis`.",
    },
    "TaskCenterConfig": {
        "enabled": "Ask the task center; needs the permission `dcs:task:list`.",
        "full_pass_interval": "Read each instance at least this often; less than "
        "`collector.max_staleness`.",
    },
    "CollectorConfig": {
        "lookback": "The look-back window: how far back tasks are listed.",
        "max_staleness": "Data older than this is not shown.",
        "min_refresh_interval": "An instance that was read more recently is not read again.",
        "concurrency": "Requests of a project that may be in flight at once.",
        "requests_per_second": "The rate limit of each project.",
        "timeout": "The time limit for one complete answer of the cloud.",
        "retries": "How often a failed request is sent again, if that can help.",
        "page_size": "Tasks per page of a listing.",
        "max_pages": "Pages after which a listing is cut.",
        "scrape_timeout_offset": "Answer a scrape this long before Prometheus' scrape timeout.",
        "default_scrape_timeout": "The scrape timeout of scrapers that do not send one.",
        "first_value_hold": "How long a counter shows its first value; at least the "
        "longest scrape interval.",
        "max_task_names": "Task names of an instance; the rest is counted as `other`.",
        "start_parameter": "The query parameter to try first for the start of the "
        "look-back window.",
        "personal_labels": "Show users, accounts and addresses; otherwise they are "
        "not kept at all.",
        "tag_labels": "Tags of instances that become labels `tag_...` of `dcs_instance_info`.",
        "task_progress": "Ask for the progress of active tasks: one more request for "
        "each at each refresh.",
        "refresh_interval": "Refresh in the background this often, at least `1s`; "
        "`0s`: refresh on scrapes.",
    },
    "StateConfig": {"path": "The file that keeps the counts; in memory only if not given."},
    "StatusWordsConfig": {
        "success": "Statuses that mean success, besides SUCCESS.",
        "failure": "Statuses that mean failure, besides FAILED, FAIL and ERROR.",
        "ended": "Statuses of tasks that ended otherwise, besides CANCELLED, CANCELED and DELETED.",
        "active": "Statuses of active tasks, besides CREATED, WAITING, EXECUTING, "
        "RUNNING and INIT.",
    },
    "Config": {"projects": "The projects to watch; at least one."},
}
