"""A class that can be joined by signing in: the settings of Streamlit's login, and cookies as it writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from streamlit import auth_util
from streamlit.web.server.starlette.starlette_app_utils import create_signed_value
from streamlit.web.server.starlette.starlette_server_config import USER_COOKIE_NAME

from tests.classroom.provider import CLIENT, SECRET

COOKIE_SECRET = "0123456789abcdef" * 4


def secrets(folder: Path, address: str, provider: str, cookie_secret: str = COOKIE_SECRET) -> Path:
    """A folder's ``.streamlit/secrets.toml``."""
    file = folder / ".streamlit/secrets.toml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(
        f'[auth]\nredirect_uri = "{address}/oauth2callback"\ncookie_secret = "{cookie_secret}"\n'
        f'client_id = "{CLIENT}"\n'
        f'client_secret = "{SECRET}"\nserver_metadata_url = "{provider}/.well-known/openid-configuration"\n'
    )
    return file


def cookie(claims: dict[str, Any], secret: str = COOKIE_SECRET, **changed: Any) -> str:
    """Streamlit's cookie for these claims, as a header says it; in pieces where it is long."""
    said = {**claims, "origin": "http://lab", "is_logged_in": True, "provider": "default", **changed}
    found: dict[str, str] = {}
    auth_util.set_cookie_with_chunks(
        lambda name, value: found.update({name: create_signed_value(secret, name, value).decode()}),
        lambda name, value: create_signed_value(secret, name, value),
        USER_COOKIE_NAME,
        said,
        cookie_attr_size=100,
    )
    return "; ".join(f"{name}={value}" for name, value in found.items())
