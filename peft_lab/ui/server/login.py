"""Signing in at an identity provider (OpenID Connect), by Streamlit's own routes: ``[auth]`` in its secrets.toml.

Streamlit and Authlib do the protocol: code flow with state and nonce, the ID token's signature, issuer and audience.
What comes of it is Streamlit's cookie ``_streamlit_user``, signed with ``cookie_secret``, which holds what ``st.user``
tells a page. The door asks the same cookie, once: it gives the class's own cookie for it, which all else goes by.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import util
from typing import Any
from urllib.parse import urlsplit

import streamlit as st
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import Message, Send
from streamlit import auth_util
from streamlit.errors import StreamlitAuthError
from streamlit.user_info import generate_login_redirect_url
from streamlit.web.server.server_util import get_cookie_secret
from streamlit.web.server.starlette.starlette_app_utils import decode_signed_value
from streamlit.web.server.starlette.starlette_server_config import USER_COOKIE_NAME

from peft_lab.classroom import marks, verified
from peft_lab.errors import BadInput

BEGIN = "join/login"
LOGIN, CALLBACK, LOGOUT = "auth/login", "oauth2callback", "auth/logout"
#: Where who has not joined must get to, to join by signing in.
OPEN = (LOGIN, CALLBACK, LOGOUT)
WANTED = "peft_lab_wanted"
PROVIDER = "default"
SHORTEST_SECRET = 32  # characters


def ready() -> None:
    """Find out at the start whether anybody can sign in. Raises BadInput with what is missing."""
    if not verified.on():
        return
    verified.listed(verified.WHO)
    verified.listed(verified.TEACHERS)
    if util.find_spec("authlib") is None:
        raise BadInput("Signing in needs Authlib: pip install 'peft-lab[oidc]'.")
    try:
        auth_util.validate_auth_credentials(PROVIDER)
    except StreamlitAuthError as error:
        raise BadInput(f"Nobody can sign in: {' '.join(str(error).split())}") from error
    if len(get_cookie_secret()) < SHORTEST_SECRET:
        raise BadInput(
            f"cookie_secret in secrets.toml signs who somebody is: it takes at least {SHORTEST_SECRET} characters, "
            "such as those of 'openssl rand -hex 32'."
        )
    address = urlsplit(auth_util.get_redirect_uri(auth_util.get_secrets_auth_section()) or "")
    base = str(st.get_option("server.baseUrlPath") or "").strip("/")
    if address.path != (f"/{base}/{CALLBACK}" if base else f"/{CALLBACK}"):
        raise BadInput(f"redirect_uri in secrets.toml has to end with this app's path and {CALLBACK}.")


def address() -> str:
    """Where signing in begins: good for some minutes."""
    return generate_login_redirect_url(PROVIDER)


def claims(cookies: Mapping[str, str]) -> dict[str, Any] | None:
    """What Streamlit's cookie says of who signed in; ``None`` without one that it signed for this app's address."""

    def one(name: str) -> bytes | None:
        return decode_signed_value(get_cookie_secret(), name, cookies.get(name, ""))

    if USER_COOKIE_NAME not in cookies or not get_cookie_secret():
        return None
    found = auth_util.get_cookie_with_chunks(one, USER_COOKIE_NAME)
    try:
        said = json.loads(found or b"null")
    except ValueError:
        return None
    if not isinstance(said, dict) or said.get("is_logged_in") is not True or said.get("provider") != PROVIDER:
        return None
    return said if said.get("origin") == auth_util.get_origin_from_redirect_uri() else None


def forgetting(send: Send, path: str, root: str) -> Send:
    """An answer of Streamlit's routes, by which somebody comes or goes: the class's cookie of who was there before is
    taken back with it. Where signing in failed it stays."""

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            signed_in = any(each.startswith(f"{USER_COOKIE_NAME}=") for each in headers.getlist("set-cookie"))
            if path == LOGOUT or (path == CALLBACK and signed_in and not _cleared(headers)):
                headers.append(
                    "set-cookie", f"{marks.COOKIE}=; Path={root}; Max-Age=0; HttpOnly; SameSite=lax"
                )
        await send(message)

    return sending


def _cleared(headers: Headers) -> bool:
    return any(each.startswith(f'{USER_COOKIE_NAME}=""') for each in headers.getlist("set-cookie"))
