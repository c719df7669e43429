"""An OpenID provider (oidc-provider-mock), and the ID token of a user who has signed in there by the code flow.

Prints the issuer and the token; serves until it is killed."""

import logging
import threading
from urllib.parse import parse_qs, urlparse

import httpx
from oidc_provider_mock import run_server_in_thread

logging.disable(logging.CRITICAL)

with run_server_in_thread() as server:
    base = f"http://localhost:{server.server_port}"
    found = httpx.get(base + "/.well-known/openid-configuration").json()
    print(found["issuer"], flush=True)
    redirect = "http://localhost/callback"
    query = {"client_id": "chat", "redirect_uri": redirect, "response_type": "code", "scope": "openid", "state": "s"}
    answer = httpx.post(found["authorization_endpoint"], params=query, data={"sub": "anna"})
    code = parse_qs(urlparse(answer.headers["location"]).query)["code"][0]
    form = {"grant_type": "authorization_code", "code": code, "redirect_uri": redirect}
    tokens = httpx.post(found["token_endpoint"], data=form, auth=("chat", "secret")).json()
    print(tokens["id_token"], flush=True)
    threading.Event().wait()
