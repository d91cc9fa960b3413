"""An identity provider for tests (discovery, authorisation, token and keys of OpenID Connect; its page has a link for
each of its people), Streamlit's settings for it, and cookies as Streamlit writes them."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from secrets import token_hex
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from streamlit import auth_util
from streamlit.web.server.starlette.starlette_app_utils import create_signed_value
from streamlit.web.server.starlette.starlette_server_config import USER_COOKIE_NAME

CLIENT, SECRET = "peft-lab", "known-to-both"


@dataclass
class Provider:
    """Attributes:
    people: their claims, by subject. address: where it answers. ended: how often somebody signed out.
    """

    people: Mapping[str, Mapping[str, Any]]
    address: str = ""
    ended: int = 0
    _codes: dict[str, dict[str, str]] = field(default_factory=dict)
    _key: Any = None

    def metadata(self) -> dict[str, Any]:
        return {
            "issuer": self.address,
            "authorization_endpoint": f"{self.address}/authorize",
            "token_endpoint": f"{self.address}/token",
            "jwks_uri": f"{self.address}/keys",
            "end_session_endpoint": f"{self.address}/out",
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "code_challenge_methods_supported": ["S256"],
        }

    def page(self, asked: Mapping[str, str]) -> str:
        links = "".join(
            f'<p><a href="/chosen?{escape(urlencode({**asked, "sub": sub}))}">{escape(sub)}</a></p>'
            for sub in self.people
        )
        return f"<title>Choose an account</title>{links}"

    def chosen(self, asked: Mapping[str, str]) -> str:
        """Back to the app, with a code that is good once."""
        code = token_hex(8)
        self._codes[code] = dict(asked)
        return f"{asked['redirect_uri']}?{urlencode({'code': code, 'state': asked['state']})}"

    def token(self, given: Mapping[str, str], authorization: str) -> dict[str, Any] | None:
        from joserfc import jwt

        asked = self._codes.pop(given.get("code", ""), None)
        basic = base64.b64encode(f"{CLIENT}:{SECRET}".encode()).decode()
        proof = hashlib.sha256(given.get("code_verifier", "").encode()).digest()
        if asked is None or authorization != f"Basic {basic}":
            return None
        if base64.urlsafe_b64encode(proof).decode().rstrip("=") != asked["code_challenge"]:
            return None
        now = int(time.time())
        claims = {
            "iss": self.address, "aud": CLIENT, "sub": asked["sub"], "nonce": asked["nonce"], "iat": now,
            "exp": now + 300, **self.people[asked["sub"]],
        }  # fmt: skip
        signed = jwt.encode({"alg": "RS256", "kid": self.key().kid}, claims, self.key())
        return {
            "access_token": token_hex(8),
            "token_type": "Bearer",
            "id_token": signed,
            "expires_in": 300,
        }

    def key(self) -> Any:
        from joserfc.jwk import RSAKey

        if self._key is None:
            self._key = RSAKey.generate_key(2048, auto_kid=True)
        return self._key


@contextmanager
def answering(people: Mapping[str, Mapping[str, Any]]) -> Iterator[Provider]:
    """A provider of these people on a free port."""
    provider = Provider(people)

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def _send(self, status: int, body: str, kind: str = "application/json", to: str = "") -> None:
            self.send_response(status)
            if to:
                self.send_header("Location", to)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body.encode())))
            self.end_headers()
            self.wfile.write(body.encode())

        def do_GET(self) -> None:
            found = urlsplit(self.path)
            asked = {name: values[0] for name, values in parse_qs(found.query).items()}
            if found.path == "/.well-known/openid-configuration":
                self._send(200, json.dumps(provider.metadata()))
            elif found.path == "/keys":
                self._send(200, json.dumps({"keys": [provider.key().as_dict(private=False)]}))
            elif (
                found.path == "/authorize"
                and asked["client_id"] == CLIENT
                and asked["response_type"] == "code"
            ):
                self._send(200, provider.page(asked), "text/html")
            elif found.path == "/chosen":
                self._send(302, "", to=provider.chosen(asked))
            elif found.path == "/out":
                provider.ended += 1
                self._send(302, "", to=asked["post_logout_redirect_uri"])
            else:
                self._send(404, "{}")

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            given = {name: values[0] for name, values in parse_qs(body).items()}
            answer = provider.token(given, self.headers.get("Authorization", ""))
            self._send(*((200, json.dumps(answer)) if answer else (400, '{"error": "invalid_grant"}')))

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    provider.address = f"http://localhost:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield provider
    finally:
        server.shutdown()
        server.server_close()


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


def login_cookie(claims: dict[str, Any], secret: str = COOKIE_SECRET, **changed: Any) -> str:
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
