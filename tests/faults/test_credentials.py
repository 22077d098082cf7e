"""Keys and tokens that the cloud does not take, that are gone, or that end."""

from __future__ import annotations

from dcs_task_exporter.simulator.quirks import Quirks
from tests.support.clouds import PROJECT, SECRET_KEY, World
from tests.support.credentials import ACCOUNT, PASSWORD, USER, ask, with_section
from tests.support.fault_rows import fault
from tests.support.fault_scene import Scene

LIFE = Quirks().token_life
"""Seconds for which a token of the simulated cloud lives."""


def by_password(text: str) -> str:
    """Return a configuration that gets its tokens for a password."""
    names = {"user_name": USER, "domain_name": ACCOUNT, "password": PASSWORD}
    return with_section(text, {"type": "password", **names})


@fault(
    "The cloud refuses the key or token (401)",
    where="credentials",
    metrics=(
        "dcs_instance_up = 0",
        'dcs_api_errors_total{operation="list_tasks",reason="auth"} rises',
    ),
    log=(
        (
            "error: the cloud refuses the credentials of this project, for all instances or for "
            "one: check them, and the clock; the next try is in five minutes, when they change, or "
            "at a reload"
        ),
    ),
    page=("Reading failed: auth", "down: data are old"),
    alerts=("DCSCredentialsRefused", "DCSInstanceUnreadable", "DCSProjectUnreadable"),
    recovers="a changed key file at once; the same key is tried again 310 s after the refusal",
    within=315,
    causes=(
        "bad_signature",
        "no_such_key",
        "locked_key",
        "clock_skew",
        "bad_token",
        "expired_token",
        "old_token",
        "keystone_401",
        "dcs_401",
        "401 APIGW.0303",
        "401 APIGW.0305",
        "401 DCS.1001",
        "401 DCS.1003",
        "401 DCS.1004",
    ),
)
def test_a_refused_key(scene: Scene) -> None:
    """A refused key fails all instances of its project, and is tried once in five minutes."""
    scene.begin()
    scene.cloud.faults.add(scene.reply)
    scene.shows()
    scene.cloud.faults.clear()
    scene.recovers()


@fault(
    "The cloud refuses one instance (401), and takes the same key for the others",
    where="credentials",
    metrics=(
        "dcs_instance_up = 0 for it alone",
        'dcs_api_errors_total{operation="list_tasks",reason="auth"} rises',
    ),
    log=(
        (
            "error: the cloud refuses the credentials of this project, for all instances or for "
            "one: check them, and the clock; the next try is in five minutes, when they change, or "
            "at a reload"
        ),
        (
            "warning: the cloud refuses this instance and takes the same key for another: only "
            "this one waits until it is asked again"
        ),
    ),
    page=("Reading failed: auth", "1 of 2 instances read, 1 failing"),
    alerts=("DCSInstanceUnreadable",),
    recovers="the first scrape 310 s after the refusal",
    within=315,
)
def test_one_refused_instance(scene: Scene) -> None:
    """An instance that alone is refused costs itself alone."""
    scene.begin(concurrency=1)  # the other one is asked after it
    scene.cloud.faults.add("bad_token", instance_id="i0")
    scene.shows()
    scene.cloud.faults.clear()
    scene.recovers()


@fault(
    "The key may not read one instance (403)",
    where="credentials",
    metrics=(
        "dcs_instance_up = 0 for it alone",
        'dcs_api_errors_total{operation="list_tasks",reason="forbidden"} rises',
    ),
    log=("warning: the instance cannot be read",),
    page=("Reading failed: forbidden", "down: data are old"),
    alerts=("DCSInstanceUnreadable",),
    recovers="the next scrape after the permission is given",
    within=15,
    causes=(
        "forbidden",
        "gateway_403",
        "policy_403",
        "403 APIGW.0304",
        "403 APIGW.0306",
        "403 APIGW.0310",
        "403 APIGW.0401",
        "403 APIGW.0402",
        "403 APIGW.0802",
        "403 DCS.2003",
        "403 DCS.3002",
        "403 DCS.3003",
    ),
)
def test_one_forbidden_instance(scene: Scene) -> None:
    """An instance that the key may not read costs itself alone."""
    scene.begin()
    scene.cloud.faults.add(scene.reply, instance_id="i0")
    scene.shows()
    scene.cloud.faults.clear()
    scene.recovers()


@fault(
    "The key may read no instance (403)",
    where="credentials",
    metrics=(
        "dcs_instance_up = 0",
        'dcs_api_errors_total{operation="list_tasks",reason="forbidden"} rises',
    ),
    log=("warning: the instance cannot be read", "warning: the instance cannot be read"),
    page=("Reading failed: forbidden", "0 of 2 instances read, 2 failing"),
    alerts=("DCSCredentialsRefused", "DCSInstanceUnreadable", "DCSProjectUnreadable"),
    recovers="the next scrape after the permission is given",
    within=15,
)
def test_nothing_is_allowed(scene: Scene) -> None:
    """A key without the permission fails all instances."""
    scene.begin()
    scene.cloud.faults.add("forbidden")
    scene.shows()
    scene.cloud.faults.clear()
    scene.recovers()


@fault(
    "The file of a secret is gone, empty or unreadable",
    where="credentials",
    metrics=(
        "dcs_instance_up = 0",
        'dcs_api_errors_total{operation="list_tasks",reason="auth"} rises',
    ),
    log=("error: there is no usable key or token for this project",),
    page=("Reading failed: auth", "secret-key"),
    alerts=("DCSCredentialsRefused", "DCSInstanceUnreadable", "DCSProjectUnreadable"),
    recovers="the next scrape after the file is back",
    within=15,
    causes=("gone", "empty", "two lines"),
)
def test_no_secret_file(scene: Scene) -> None:
    """Without its secret the exporter sends nothing, and begins again when the file is back."""
    path = scene.folder / "secret-key"
    path.write_text(SECRET_KEY)
    scene.begin(
        edit=lambda text: text.replace(f"secret_key: {SECRET_KEY}", f"secret_key_file: {path}")
    )
    if scene.cause == "gone":
        path.unlink()
    else:
        path.write_text({"empty": "", "two lines": f"{SECRET_KEY}\nand more"}[scene.cause])
    scene.shows()
    path.write_text(SECRET_KEY)
    scene.recovers()


@fault(
    "Temporary credentials end within the hour",
    where="credentials",
    metrics=("dcs_instance_up = 1", "dcs_credentials_expiry_timestamp_seconds is there"),
    alerts=("DCSCredentialsExpireSoon",),
    recovers="a new key in its file is used with the next request",
)
def test_credentials_that_end(scene: Scene) -> None:
    """The end of credentials is a metric, and an alert before they end."""
    ends = 'expires_at: "2025-06-15T16:06:40Z"'
    scene.begin(edit=lambda text: text.replace(f"{SECRET_KEY}\n", f"{SECRET_KEY}\n      {ends}\n"))
    scene.shows()


@fault(
    "Credentials that end cannot be renewed, and the old ones still live",
    where="credentials",
    metrics=("dcs_instance_up = 1", 'dcs_api_errors_total{operation="create_token"} rises'),
    log=(
        (
            "warning: the credentials of a project cannot be renewed: the old ones are used while "
            "they live"
        ),
    ),
    alerts=("DCSCredentialsExpireSoon",),
    recovers="the next try, which comes after 5 s, after later failures within 75 s",
    causes=("close", "502 APIGW.0201"),
)
def test_a_renewal_that_fails(scene: Scene) -> None:
    """While the old credentials live, a renewal that fails costs no read, and is tried again."""
    left = 1_790  # the alert fires within the last hour, and renewals begin 1,800 s before the end

    def prepare(here: World) -> None:
        here.cloud.identity.add_user(ACCOUNT, USER, PASSWORD)
        here.clock.wall -= LIFE - left  # then all scrapes are on time

    step = 44 if scene.is_long else None  # so that they live for all scrapes
    scene.begin(edit=by_password, prepare=prepare, is_well=False, step=step)
    ask(scene.exporter, scene.here)
    scene.here.clock.advance(LIFE - left)
    scene.cloud.faults.add(scene.reply, operation="create_token")
    scene.shows(counts=False)
    scene.cloud.faults.clear()
    scene.pass_time(75)
    for _ in range(2):
        scene.scrape()
    assert scene.cloud.identity.made["create_token"] == 2


@fault(
    "Credentials that end cannot be renewed, and the old ones have ended",
    where="credentials",
    metrics=("dcs_instance_up = 0", 'dcs_api_errors_total{operation="create_token"} rises'),
    log=(
        (
            "error: the credentials of a project cannot be renewed: no request is sent without "
            "new ones"
        ),
        "warning: the instance cannot be read",
        "warning: the instance cannot be read",
    ),
    page=("0 of 2 instances read, 2 failing", "no credentials can be obtained"),
    alerts=("DCSCredentialsExpireSoon", "DCSInstanceUnreadable", "DCSProjectUnreadable"),
    recovers="the next try, which comes after 5 s, after later failures within 75 s",
    within=15,
    causes=("close", "502 APIGW.0201"),
)
def test_no_renewal_in_time(scene: Scene) -> None:
    """Without living credentials nothing is read, until a renewal succeeds."""
    scene.begin(
        edit=by_password,
        prepare=lambda here: here.cloud.identity.add_user(ACCOUNT, USER, PASSWORD),
        quirks=Quirks(token_life=150),
        concurrency=1,  # the first one asks for credentials, and the second finds that it failed
    )
    scene.pass_time(150)
    scene.cloud.faults.add(scene.reply, operation="create_token")
    scene.shows()
    scene.cloud.faults.clear()
    scene.recovers()


@fault(
    "The identity service knows no project of this name, or several (no `project_id`)",
    where="credentials",
    metrics=("dcs_instance_up = 0",),
    log=("warning: the instance cannot be read", "warning: the instance cannot be read"),
    page=("Reading failed: not_found", "set project_id in the configuration"),
    alerts=("DCSInstanceUnreadable", "DCSProjectUnreadable"),
    recovers="the first scrape after a pause of some seconds, or after `project_id` is set",
    causes=("none", "several"),
)
def test_no_project(scene: Scene) -> None:
    """A project that cannot be found fails its instances, and the remedy is named."""
    scene.begin(edit=lambda text: text.replace(f"    project_id: {PROJECT}\n", ""))
    scene.cloud.add_project(PROJECT, "other" if scene.cause == "none" else "cn-north-4")
    if scene.cause == "several":
        scene.cloud.add_project("b" * 32, "cn-north-4")
    scene.restart()
    scene.shows(counts=False)
