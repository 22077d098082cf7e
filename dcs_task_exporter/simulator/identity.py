"""The simulated identity service: tokens for passwords, temporary keys for agencies and pods.

It also is the metadata service of a server, and what a pod asks for its identity. The official
SDK's own credentials work against it with nothing but their addresses changed.
"""

from __future__ import annotations

import json
import random
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from typing import Any, Final

from dcs_task_exporter.simulator.access import AccessCheck
from dcs_task_exporter.simulator.faults import RefusedError, Reply, gateway_error, json_reply
from dcs_task_exporter.simulator.quirks import Quirks
from dcs_task_exporter.simulator.request import Request

MAX_WRONG_PASSWORDS: Final = 5
USER_LOCK_SECONDS: Final = 900.0

NO_AGENCY: Final = "Please configure Cloud Service Agency first"


class IdentityService:
    """Its users, agencies, servers and pods; safe to use from threads.

    `made` counts what was made, by operation. What it makes works in `access` until its end.
    """

    def __init__(
        self, clock: Callable[[], float], access: AccessCheck, quirks: Quirks, seed: int
    ) -> None:
        self.made: Counter[str] = Counter()
        self._clock = clock
        self._access = access
        self._quirks = quirks
        self._lock = threading.RLock()
        self._random = random.Random(seed)
        self._users: dict[tuple[str, str], str] = {}
        self._wrong: Counter[tuple[str, str]] = Counter()
        self._locked_until: dict[tuple[str, str], float] = {}
        self._agencies: set[tuple[str, str]] = set()
        self._pods: set[str] = set()
        self._id_tokens: dict[str, str] = {}
        self._has_agency = False
        self._server_keys: tuple[float, Mapping[str, str]] | None = None
        self._metadata_tokens: dict[str, float] = {}
        self._answers: Mapping[str, Callable[[Request], Reply]] = {
            "create_token": self._create_token,
            "create_token_by_id_token": self._create_token_by_id_token,
            "assume_agency": self._create_keys,
            "assume_agency_with_oidc": self._assume_with_oidc,
            "metadata_token": self._metadata_token,
            "metadata_key": self._metadata_key,
            "pod_identity": self._pod_identity,
        }

    # Changing it.

    def add_user(self, domain: str, name: str, password: str) -> None:
        """Create a user, or change the password of one."""
        with self._lock:
            self._users[domain, name] = password

    def add_agency(self, domain: str, name: str) -> None:
        """Create an agency of another account, which `domain` names."""
        with self._lock:
            self._agencies.add((domain, name))

    def give_server_agency(self) -> None:
        """Choose an agency for the server that asks for metadata."""
        with self._lock:
            self._has_agency = True

    def add_pod(self, token: str) -> None:
        """Create a pod with an identity; it proves itself with `token`."""
        with self._lock:
            self._pods.add(token)

    def add_id_token(self, provider: str, token: str) -> None:
        """Let a token of another identity provider be worth one of this service."""
        with self._lock:
            self._id_tokens[token] = provider

    # Answering.

    def knows(self, operation: str) -> bool:
        """Whether this is an operation of the identity service."""
        return operation in self._answers

    def answer(self, request: Request) -> Reply:
        """Return the answer to a request. Raises `RefusedError`."""
        with self._lock:
            reply = self._answers[request.operation](request)
            self.made[request.operation] += 1
            return reply

    def _create_token(self, request: Request) -> Reply:
        asked = _body(request)
        user = _at(asked, "auth", "identity", "password", "user")
        project = _at(asked, "auth", "scope", "project")
        name = (str(_at(user, "domain").get("name")), str(user.get("name")))
        if self._locked_until.get(name, 0.0) > self._clock():
            raise RefusedError(_keystone(401, "The user is locked: too many wrong passwords."))
        if name not in self._users or self._users[name] != user.get("password"):
            self._wrong[name] += 1
            if self._wrong[name] >= MAX_WRONG_PASSWORDS:
                self._locked_until[name] = self._clock() + USER_LOCK_SECONDS
                self._wrong[name] = 0
            raise RefusedError(_keystone(401, "The username or password is wrong."))
        self._wrong.pop(name, None)
        return self._token({"project": dict(project), "methods": ["password"]})

    def _create_token_by_id_token(self, request: Request) -> Reply:
        token = str(_at(_body(request), "auth", "id_token").get("id"))
        if self._id_tokens.get(token, "") != request.headers.get("x-idp-id"):
            raise RefusedError(_keystone(401, "The id token is wrong."))
        return self._token({"methods": ["mapped"]})

    def _token(self, more: Mapping[str, Any]) -> Reply:
        now, token = self._clock(), f"MIIatAYJKoZI{self._letters()}"
        ends_at = now + self._quirks.token_life
        self._access.add_token(token, ends_at)
        described = {"issued_at": _time(now), "expires_at": _time(ends_at), **more}
        return json_reply(201, {"token": described}, {"X-Subject-Token": token})

    def _create_keys(self, request: Request) -> Reply:
        identity = _at(_body(request), "auth", "identity")
        if identity.get("methods") == ["token"]:
            self._access.check_token(str(_at(identity, "token").get("id")))
            life = float(_at(identity, "token").get("duration_seconds", 900))
        else:
            self._access.check(request)
            role = _at(identity, "assume_role")
            life = float(role.get("duration_seconds", 900))
            domain = str(role.get("domain_name") or role.get("domain_id"))
            if (domain, role.get("agency_name")) not in self._agencies:
                raise RefusedError(_keystone(404, "Could not find agency."))
        return json_reply(201, {"credential": self._keys(life)})

    def _assume_with_oidc(self, request: Request) -> Reply:
        asked = _body(request)
        if self._id_tokens.get(str(asked.get("id_token")), "") != asked.get("provider_urn"):
            raise RefusedError(gateway_error(401, "STS.0401", "The id token is wrong."))
        keys = self._keys(float(asked.get("duration_seconds", 3600)))
        return json_reply(200, {"credentials": _in_snake_case(keys)})

    def _metadata_token(self, request: Request) -> Reply:
        if self._quirks.metadata == "1":
            return Reply(404, b"404 Not Found", {"Content-Type": "text/plain"})
        life = float(request.headers.get("x-metadata-token-ttl-seconds", "0"))
        token = self._letters()
        self._metadata_tokens[token] = self._clock() + life
        return Reply(200, token.encode(), {"Content-Type": "text/plain"})

    def _metadata_key(self, request: Request) -> Reply:
        token = request.headers.get("x-metadata-token", "")
        is_known = self._metadata_tokens.get(token, 0.0) > self._clock()
        if (token and not is_known) or (not token and self._quirks.metadata == "2"):
            raise RefusedError(Reply(401, b"Unauthorized", {"Content-Type": "text/plain"}))
        if not self._has_agency:
            raise RefusedError(Reply(401, NO_AGENCY.encode(), {"Content-Type": "text/plain"}))
        now = self._clock()
        if self._server_keys is None or now >= self._server_keys[0]:
            # The service makes new keys when the old ones have an hour left.
            renewed_at = now + max(0.0, self._quirks.key_life - self._quirks.key_overlap)
            self._server_keys = (renewed_at, self._keys(self._quirks.key_life))
        return json_reply(200, {"credential": self._server_keys[1]})

    def _pod_identity(self, request: Request) -> Reply:
        if request.headers.get("authorization") not in self._pods:
            raise RefusedError(gateway_error(401, "CCE.01401001", "Authentication failed."))
        keys = self._keys(self._quirks.key_life)
        made = {
            "accessKeyId": keys["access"],
            "secretAccessKey": keys["secret"],
            "securityToken": keys["securitytoken"],
            "expiration": keys["expires_at"],
        }
        body = {"credentials": made, "subject": {"namespace": "default", "serviceAccount": "dcs"}}
        return json_reply(200, body)

    def _keys(self, life: float) -> Mapping[str, str]:
        access, secret, token = (
            f"HST{self._letters()[:17].upper()}",
            self._letters(),
            self._letters(),
        )
        ends_at = self._clock() + life
        self._access.add_key(access, secret, token, ends_at)
        return {
            "access": access,
            "secret": secret,
            "securitytoken": token,
            "expires_at": _time(ends_at),
        }

    def _letters(self) -> str:
        return f"{self._random.getrandbits(160):040x}"


def _body(request: Request) -> Mapping[str, Any]:
    try:
        found = json.loads(request.body)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise RefusedError(_keystone(400, "The request body is invalid."))
    return found


def _at(data: Mapping[str, Any], *keys: str) -> Mapping[str, Any]:
    """Return the object under some keys, one in another. Raises `RefusedError`."""
    for key in keys:
        data = data.get(key) or {}
        if not isinstance(data, dict):
            raise RefusedError(_keystone(400, "The request body is invalid."))
    return data


def _in_snake_case(keys: Mapping[str, str]) -> Mapping[str, str]:
    return {
        "access_key_id": keys["access"],
        "secret_access_key": keys["secret"],
        "security_token": keys["securitytoken"],
        "expiration": keys["expires_at"],
    }


def _keystone(status: int, message: str) -> Reply:
    """Return an error in the form of the identity service."""
    titles = {400: "Bad Request", 401: "Unauthorized", 404: "Not Found"}
    body = {"error": {"message": message, "code": status, "title": titles[status]}}
    return json_reply(status, body, {"X-IAM-Trace-Id": "token_cn-north-4_null_5d9b0a"})


def _time(moment: float) -> str:
    return datetime.fromtimestamp(moment, tz=timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
