"""The source of credentials that a configuration asks for, with the calls that it makes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from dcs_task_exporter.cloud.credential import CredentialSource
from dcs_task_exporter.config.credentials import (
    AccessKeyCredentials,
    AssumeAgencyCredentials,
    AutoCredentials,
    Credentials,
    EnvironmentCredentials,
    MetadataCredentials,
    PasswordCredentials,
    PodIdentityCredentials,
    ProfileCredentials,
    TokenCredentials,
)
from dcs_task_exporter.config.model import ProjectConfig
from dcs_task_exporter.config.secrets import read_password, read_secret
from dcs_task_exporter.credentials.chain import Chain
from dcs_task_exporter.credentials.context import CredentialContext
from dcs_task_exporter.credentials.fixed import FixedSource, credential_reader, environment_key
from dcs_task_exporter.credentials.identity import (
    ASSUME_AGENCY,
    ASSUME_WITH_OIDC,
    CREATE_TOKEN,
    AgencyLogin,
    PasswordLogin,
    Service,
    is_safe,
)
from dcs_task_exporter.credentials.metadata import (
    METADATA_KEY,
    METADATA_TOKEN,
    POD_IDENTITY,
    PodIdentity,
    ServerAgency,
    pod_place,
)
from dcs_task_exporter.credentials.oidc import OidcLogin, sts_url
from dcs_task_exporter.credentials.profile import ProfileKey
from dcs_task_exporter.credentials.renewal import Fresh, Renewal

METADATA_OPERATIONS: Final = (METADATA_TOKEN, METADATA_KEY)


def source_of(config: Credentials, context: CredentialContext) -> CredentialSource:
    """Return the source that a section `credentials` asks for."""
    match config:
        case PasswordCredentials():
            return _password(config, context)
        case MetadataCredentials():
            return _metadata(config.endpoint, context)
        case ProfileCredentials():
            return _profile(config, context)
        case PodIdentityCredentials():
            return _pod_identity(context)
        case AssumeAgencyCredentials():
            return _assume_agency(config, context)
        case AutoCredentials():
            return _chain(config, context)
        case _:
            return FixedSource(credential_reader(config, context.environ, context.others))


def identity_operations(config: Credentials) -> Sequence[str]:
    """Return the operations by which these credentials are made."""
    match config:
        case PasswordCredentials():
            return [CREATE_TOKEN]
        case MetadataCredentials():
            return METADATA_OPERATIONS
        case PodIdentityCredentials():
            return [POD_IDENTITY]
        case AssumeAgencyCredentials():
            return [*identity_operations(config.source), ASSUME_AGENCY]
        case AutoCredentials():
            return [ASSUME_WITH_OIDC, *METADATA_OPERATIONS, POD_IDENTITY]
        case _:
            return []


def service_urls(
    config: Credentials, project: ProjectConfig, environ: Mapping[str, str]
) -> Sequence[str]:
    """Return the URLs that are asked for these credentials, beside the identity service's."""
    match config:
        case AssumeAgencyCredentials():
            return service_urls(config.source, project, environ)
        case AutoCredentials():
            # One that is unusable is told when it is asked.
            return [url for url in [sts_url(project, environ)] if is_safe(url)]
        case _:
            return []


def check_this_machine(config: Credentials, environ: Mapping[str, str]) -> None:
    """Read what credentials need of this machine, and ask nobody.

    Raises `CredentialsError` where it is missing.
    """
    match config:
        case ProfileCredentials():
            ProfileKey(config.path, config.profile, environ)()
        case PodIdentityCredentials():
            pod_place(environ)
        case AssumeAgencyCredentials():
            check_this_machine(config.source, environ)
        case AccessKeyCredentials() | TokenCredentials() | EnvironmentCredentials():
            credential_reader(config, environ)()
        case _:
            pass  # a password is read with the configuration; the others are somewhere else


def _password(config: PasswordCredentials, context: CredentialContext) -> CredentialSource:
    project = context.project
    named = {"name": project.project_name or project.region}

    def password() -> str:
        if config.password_file is not None:
            return read_password(config.password_file)
        return config.password.get_secret_value() if config.password else ""

    service = _cloud_service(project.iam_url, CREATE_TOKEN, context)
    scope = {"id": project.project_id} if project.project_id else named
    login = PasswordLogin(service, config.user_name, config.domain_name, scope, password)
    return _renewal(login, context, service.caller.make_way)


def _metadata(url: str, context: CredentialContext) -> CredentialSource:
    service = _local_service(url, context)
    return _renewal(ServerAgency(service), context, service.caller.close)


def _pod_identity(context: CredentialContext) -> CredentialSource:
    service = _local_service("", context)
    pod = PodIdentity(service, context.environ, read_secret)
    return _renewal(pod, context, service.caller.close)


def _profile(config: ProfileCredentials, context: CredentialContext) -> CredentialSource:
    key = ProfileKey(config.path, config.profile, context.environ, context.others)
    return FixedSource(key)


def _assume_agency(config: AssumeAgencyCredentials, context: CredentialContext) -> CredentialSource:
    inner = source_of(config.source, context)
    domain = {"domain_id": config.domain_id, "domain_name": config.domain_name}
    service = _cloud_service(context.project.iam_url, ASSUME_AGENCY, context)
    login = AgencyLogin(
        service,
        inner,
        config.agency_name,
        {key: value for key, value in domain.items() if value},
        config.duration,
    )

    def end() -> None:
        inner.close()
        service.caller.make_way()

    return _renewal(login, context, end)


def _chain(config: AutoCredentials, context: CredentialContext) -> CredentialSource:
    """Return the chain of the official SDK, in its order."""
    url = sts_url(context.project, context.environ)
    service = _cloud_service(url, ASSUME_WITH_OIDC, context)
    oidc = OidcLogin(service, context.environ, read_secret)
    return Chain(
        context.project.name,
        {
            "oidc": _renewal(oidc, context, service.caller.make_way),
            "environment": FixedSource(lambda: environment_key(context.environ, context.others)),
            "profile": _profile(ProfileCredentials(type="profile"), context),
            "metadata": _metadata(config.metadata_endpoint, context),
            "pod_identity": _pod_identity(context),
        },
    )


def _cloud_service(url: str, operation: str, context: CredentialContext) -> Service:
    return Service(url, context.caller(operation), context.clock.now, context.others)


def _local_service(url: str, context: CredentialContext) -> Service:
    return Service(url, context.local_caller(), context.clock.now, context.others)


def _renewal(
    fetch: Callable[[float], Fresh], context: CredentialContext, end: Callable[[], None]
) -> CredentialSource:
    return Renewal(context.project.name, fetch, context.clock, context.retries.jitter, end)
