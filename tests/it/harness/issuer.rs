//! An issuer of tokens: keys, signed tokens, and the HTTP server with its discovery document and key set.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use jsonwebtoken::{
    Algorithm, EncodingKey, Header,
    jwk::{Jwk, PublicKeyUse},
};
use serde_json::{Value, json};
use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
};

/// A running issuer.
pub(crate) struct Issuer {
    pub(crate) address: SocketAddr,
    key: Mutex<SigningKey>,
    served: Arc<Served>,
}

/// A key pair and its name.
#[derive(Clone)]
pub(crate) struct SigningKey {
    kid: String,
    algorithm: Algorithm,
    key: EncodingKey,
}

struct Served {
    keys: Mutex<Value>,
    /// What the server does with a request for the key set.
    behaviour: watch::Sender<Behaviour>,
    fetches: AtomicU64,
}

/// How the server answers a request for the key set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Behaviour {
    Normal,
    /// Keeps the connection without an answer.
    Silent,
    /// Answers with these bytes.
    Raw(Vec<u8>),
}

// === impl Issuer ===

impl Issuer {
    /// Starts an issuer with one P-256 key.
    pub(crate) async fn start() -> Issuer {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("it is bound");
        let key = SigningKey::p256("k1");
        let served = Arc::new(Served {
            keys: Mutex::new(json!({ "keys": [key.public()] })),
            behaviour: watch::Sender::new(Behaviour::Normal),
            fetches: AtomicU64::new(0),
        });
        let state = served.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, address, state.clone()));
            }
        });
        Issuer {
            address,
            key: Mutex::new(key),
            served,
        }
    }

    /// The issuer's name, which is its URL.
    pub(crate) fn name(&self) -> String {
        format!("http://{}", self.address)
    }

    /// `[guards.login.jwt]` for this issuer, and further keys.
    pub(crate) fn guard(&self, more: &str) -> String {
        format!(
            "[guards.login.jwt]\nissuer = \"{}\"\naudience = [\"chat\"]\n{more}\n",
            self.name()
        )
    }

    /// Signs a valid token for `subject` that expires in `lifetime` seconds.
    pub(crate) fn token(&self, subject: &str, lifetime: i64) -> String {
        self.sign(self.claims(subject, lifetime))
    }

    /// The claims of a valid token.
    pub(crate) fn claims(&self, subject: &str, lifetime: i64) -> Value {
        json!({ "iss": self.name(), "aud": "chat", "sub": subject, "exp": now() + lifetime })
    }

    /// Signs claims with the current key.
    pub(crate) fn sign(&self, claims: Value) -> String {
        self.key.lock().expect("no panic").sign(&claims)
    }

    /// Signs with a new key from now on. `published`: the key set has the new key, and no longer the old one.
    pub(crate) fn rotate(&self, kid: &str, published: bool) {
        let key = SigningKey::p256(kid);
        if published {
            self.publish(json!({ "keys": [key.public()] }));
        }
        *self.key.lock().expect("no panic") = key;
    }

    /// Replaces the key set.
    pub(crate) fn publish(&self, keys: Value) {
        *self.served.keys.lock().expect("no panic") = keys;
    }

    pub(crate) fn behave(&self, behaviour: Behaviour) {
        self.served.behaviour.send_replace(behaviour);
    }

    /// The number of requests for the key set so far.
    pub(crate) fn fetches(&self) -> u64 {
        self.served.fetches.load(Ordering::SeqCst)
    }
}

async fn serve(mut stream: TcpStream, address: SocketAddr, served: Arc<Served>) -> Option<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let body = if head.starts_with("GET /.well-known/openid-configuration ") {
        let issuer = format!("http://{address}");
        json!({ "issuer": issuer, "jwks_uri": format!("{issuer}/keys") }).to_string()
    } else {
        served.fetches.fetch_add(1, Ordering::SeqCst);
        let behaviour = served.behaviour.borrow().clone();
        match behaviour {
            Behaviour::Normal => served.keys.lock().expect("no panic").to_string(),
            Behaviour::Silent => {
                let mut rest = Vec::new();
                let _ = stream.read_to_end(&mut rest).await;
                return None;
            }
            Behaviour::Raw(bytes) => {
                stream.write_all(&bytes).await.ok()?;
                return stream.shutdown().await.ok();
            }
        }
    };
    let response = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(response.as_bytes()).await.ok()?;
    stream.shutdown().await.ok()
}

// === impl SigningKey ===

impl SigningKey {
    /// Generates a key for ES256.
    pub(crate) fn p256(kid: &str) -> SigningKey {
        let pair = rcgen::KeyPair::generate().expect("P-256");
        SigningKey {
            kid: kid.to_owned(),
            algorithm: Algorithm::ES256,
            key: EncodingKey::from_ec_der(&pair.serialize_der()),
        }
    }

    /// The public key as a member of a key set.
    pub(crate) fn public(&self) -> Value {
        let mut jwk =
            Jwk::from_encoding_key(&self.key, self.algorithm).expect("it has a public key");
        jwk.common.key_id = Some(self.kid.clone());
        jwk.common.public_key_use = Some(PublicKeyUse::Signature);
        serde_json::to_value(jwk).expect("JSON")
    }

    /// The name of the key.
    pub(crate) fn name(&self) -> &str {
        &self.kid
    }

    /// The algorithm as tokens name it.
    pub(crate) fn algorithm_name(&self) -> String {
        format!("{:?}", self.algorithm)
    }

    pub(crate) fn sign(&self, claims: &Value) -> String {
        let header = Header {
            kid: Some(self.kid.clone()),
            ..Header::new(self.algorithm)
        };
        jsonwebtoken::encode(&header, claims, &self.key).expect("it signs")
    }

    /// Signs a head and a payload as they are, also those that no library writes.
    pub(crate) fn sign_raw(&self, head: &str, payload: &str) -> String {
        let message = format!("{}.{}", encode(head), encode(payload));
        let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &self.key, self.algorithm);
        format!("{message}.{}", signature.expect("it signs"))
    }
}

/// Base64url without padding.
pub(crate) fn encode(text: impl AsRef<[u8]>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(text)
}

/// Seconds since 1970.
pub(crate) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    i64::try_from(since.expect("after 1970").as_secs()).expect("before the year 292 billion")
}
