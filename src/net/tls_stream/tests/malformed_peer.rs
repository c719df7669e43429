//! A TLS client that can send records of any type with any content.

use crate::net::tls_stream::{
    ServerStream, accept,
    tests::{
        harness::{self, connect_with, server_config},
        *,
    },
};
use rustls::{
    CipherSuite, ConnectionTrafficSecrets, ContentType, Error, SupportedCipherSuite,
    SupportedProtocolVersion, Tls12CipherSuite, Tls13CipherSuite,
    crypto::{
        aws_lc_rs,
        cipher::{
            AeadKey, Iv, KeyBlockShape, MessageDecrypter, MessageEncrypter, OutboundChunks,
            OutboundOpaqueMessage, OutboundPlainMessage, Tls12AeadAlgorithm, Tls13AeadAlgorithm,
            UnsupportedOperationError,
        },
    },
};
use tokio::io::DuplexStream;
use tokio_rustls::client;

pub(crate) const ALERT: u8 = 21;

pub(crate) const HANDSHAKE: u8 = 22;

pub(crate) const DATA: u8 = 23;

/// Connects a server whose writes are counted to a client that can send any record.
pub(crate) async fn with_malformed_peer(
    version: &'static SupportedProtocolVersion,
) -> (
    ServerStream<harness::Pieces<DuplexStream>>,
    client::TlsStream<DuplexStream>,
) {
    let (near, far) = duplex(1 << 20);
    let near = harness::Pieces::new(near, usize::MAX);
    let (accepted, connected) = tokio::join!(
        accept(near, Vec::new(), server_config()),
        connect_with(provider(), version, far)
    );
    (*accepted.unwrap(), connected.unwrap())
}

/// Sends one record of the given type.
pub(crate) async fn send_record(
    client: &mut client::TlsStream<DuplexStream>,
    kind: u8,
    content: &[u8],
) {
    let marked = [&MARK[..], &[kind], content].concat();
    harness::write_flushed(client, &marked).await.unwrap();
}

/// A record whose plaintext begins with this mark is replaced by another: its type and content follow the mark.
const MARK: [u8; 8] = *b"replace:";

fn provider() -> rustls::crypto::CryptoProvider {
    let mut provider = aws_lc_rs::default_provider();
    for suite in &mut provider.cipher_suites {
        *suite = match (suite.suite(), *suite) {
            (CipherSuite::TLS13_AES_128_GCM_SHA256, SupportedCipherSuite::Tls13(it)) => {
                SupportedCipherSuite::Tls13(Box::leak(Box::new(Tls13CipherSuite {
                    aead_alg: Box::leak(Box::new(RecordReplacer(it.aead_alg))),
                    common: rustls::crypto::CipherSuiteCommon { ..it.common },
                    ..*it
                })))
            }
            (
                CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
                SupportedCipherSuite::Tls12(it),
            ) => SupportedCipherSuite::Tls12(Box::leak(Box::new(Tls12CipherSuite {
                aead_alg: Box::leak(Box::new(RecordReplacer(it.aead_alg))),
                common: rustls::crypto::CipherSuiteCommon { ..it.common },
                ..*it
            }))),
            _ => continue,
        };
    }
    provider.cipher_suites.retain(|it| {
        [
            CipherSuite::TLS13_AES_128_GCM_SHA256,
            CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        ]
        .contains(&it.suite())
    });
    provider
}

struct RecordReplacer<A>(A);

impl MessageEncrypter for RecordReplacer<Box<dyn MessageEncrypter>> {
    fn encrypt(
        &mut self,
        message: OutboundPlainMessage<'_>,
        seq: u64,
    ) -> Result<OutboundOpaqueMessage, Error> {
        let bytes = message.payload.to_vec();
        let Some([kind, content @ ..]) = bytes.strip_prefix(&MARK) else {
            return self.0.encrypt(message, seq);
        };
        let replaced = OutboundPlainMessage {
            typ: ContentType::from(*kind),
            version: message.version,
            payload: OutboundChunks::Single(content),
        };
        self.0.encrypt(replaced, seq)
    }

    fn encrypted_payload_len(&self, len: usize) -> usize {
        self.0.encrypted_payload_len(len)
    }
}

impl Tls13AeadAlgorithm for RecordReplacer<&'static dyn Tls13AeadAlgorithm> {
    fn encrypter(&self, key: AeadKey, iv: Iv) -> Box<dyn MessageEncrypter> {
        Box::new(RecordReplacer(self.0.encrypter(key, iv)))
    }

    fn decrypter(&self, key: AeadKey, iv: Iv) -> Box<dyn MessageDecrypter> {
        self.0.decrypter(key, iv)
    }

    fn key_len(&self) -> usize {
        self.0.key_len()
    }

    fn extract_keys(
        &self,
        key: AeadKey,
        iv: Iv,
    ) -> Result<ConnectionTrafficSecrets, UnsupportedOperationError> {
        self.0.extract_keys(key, iv)
    }
}

impl Tls12AeadAlgorithm for RecordReplacer<&'static dyn Tls12AeadAlgorithm> {
    fn encrypter(&self, key: AeadKey, iv: &[u8], extra: &[u8]) -> Box<dyn MessageEncrypter> {
        Box::new(RecordReplacer(self.0.encrypter(key, iv, extra)))
    }

    fn decrypter(&self, key: AeadKey, iv: &[u8]) -> Box<dyn MessageDecrypter> {
        self.0.decrypter(key, iv)
    }

    fn key_block_shape(&self) -> KeyBlockShape {
        self.0.key_block_shape()
    }

    fn extract_keys(
        &self,
        key: AeadKey,
        iv: &[u8],
        explicit: &[u8],
    ) -> Result<ConnectionTrafficSecrets, UnsupportedOperationError> {
        self.0.extract_keys(key, iv, explicit)
    }
}
