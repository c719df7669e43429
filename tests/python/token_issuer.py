"""An issuer with a key per algorithm, whose tokens come from PyJWT, joserfc and Authlib.

Prints its URL, then "LIBRARY:ALGORITHM TOKEN" for each token, then "end"; serves its key set until it is killed."""

import json
import threading
import time
import warnings
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from joserfc import jwk as joserfc_jwk
from joserfc import jwt as joserfc_jwt

warnings.simplefilter("ignore")
from authlib.jose import JsonWebKey, JsonWebToken  # noqa: E402

KEYS = {
    "RS256": rsa.generate_private_key(public_exponent=65537, key_size=2048),
    "ES256": ec.generate_private_key(ec.SECP256R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate(),
}
KEYS["PS256"] = KEYS["RS256"]


def public(name, kid):
    algorithm = jwt.get_algorithm_by_name(name)
    document = algorithm.to_jwk(KEYS[name].public_key())
    document = json.loads(document) if isinstance(document, str) else document
    return document | {"kid": kid, "use": "sig"}


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/.well-known/openid-configuration":
            document = {"issuer": URL, "jwks_uri": URL + "/jwks"}
        else:
            document = {"keys": [public(name, name.lower()) for name in ("RS256", "ES256", "EdDSA")]}
        body = json.dumps(document).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


SERVER = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
URL = f"http://127.0.0.1:{SERVER.server_port}"
threading.Thread(target=SERVER.serve_forever, daemon=True).start()
print(URL, flush=True)


def claims():
    return {"iss": URL, "aud": ["web", "chat"], "sub": "anna", "exp": int(time.time()) + 600, "iat": int(time.time())}


def kid(name):
    return "rs256" if name == "PS256" else name.lower()


def pem(name):
    return KEYS[name].private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


for name in ("RS256", "PS256", "ES256", "EdDSA"):
    print(f"PyJWT:{name}", jwt.encode(claims(), KEYS[name], algorithm=name, headers={"kid": kid(name)}), flush=True)
for name, kind in (("RS256", "RSA"), ("ES256", "EC")):
    key = joserfc_jwk.import_key(pem(name).decode(), kind)
    print(f"joserfc:{name}", joserfc_jwt.encode({"alg": name, "kid": kid(name)}, claims(), key), flush=True)
for name in ("RS256", "ES256"):
    key = JsonWebKey.import_key(pem(name))
    token = JsonWebToken([name]).encode({"alg": name, "kid": kid(name)}, claims(), key)
    print(f"Authlib:{name}", token.decode(), flush=True)
print("end", flush=True)
threading.Event().wait()
