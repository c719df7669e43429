//! The configuration: the types of the file, how a file is parsed into them, and the watch for changed files. The
//! runtime form of a configuration is in `gateway`.

pub(crate) mod check;
pub(crate) mod diagnostic;
pub(crate) mod duplicates;
pub(crate) mod foreign_syntax;
#[cfg(test)]
pub(crate) mod key_examples;
pub(crate) mod keys;
pub(crate) mod load;
pub(crate) mod markdown;
pub(crate) mod messages;
pub(crate) mod parse;
pub(crate) mod reference;
pub(crate) mod run_target;
pub(crate) mod schema;
pub(crate) mod schema_types;
pub(crate) mod values;
pub(crate) mod watch;

pub(crate) use check::proxy_variable::ignored_proxy_variable;
pub(crate) use diagnostic::{Diagnostic, Diagnostics, Located, Location, Source};
pub(crate) use markdown::reference;
pub(crate) use reference::schema;
pub(crate) use run_target::RunTarget;
pub(crate) use schema::{
    Config, Drain,
    applies::Applies,
    guard::{AuthPreset, AuthRedirects, Basic, ForwardAuth, Guard, Jwt, JwtAlgorithm, OnExpiry},
    pool::{
        AllDown, Backend, BackendProxyProtocol, Balance, Check, Health, OnDown, OnVanish, Passive,
        Pool, Retry, Reuse, Sticky,
    },
    route::{ClientCert, Framework, HandshakeRules, Only, PathEncoding, Route, Token},
    server::{Limits, Log, LogFormat, LogLevel, ProxyProtocol, Server},
    session::{AnswerBackendPing, Compression, OverRate, PingLegs, Session},
    tls::{Acme, CertificateFiles, Challenge, DnsHook, Eab, Tls, TlsVersion, UntilIssued},
};
pub(crate) use values::{
    BadValue,
    acme::{AcmeDirectory, MailAddress, Secret},
    address::{Access, AdminAddress, BackendAddress, BackendSource, DnsName, Scheme},
    host_field::HostField,
    network::{Cidr, ListenAddress},
    pattern::{HostPattern, OriginPattern, PathPattern},
    selector::{HashKey, TokenSource},
    units::{DurationValue, Rebalance},
};
pub(crate) use watch::{OpenFiles, Watch, path::WatchedPath};

#[cfg(test)]
mod tests;
