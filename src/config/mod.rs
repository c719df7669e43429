//! The configuration: the types of the file, and how a file is parsed into them. No run-time state lives here.

pub(crate) mod check;
pub(crate) mod diagnostic;
pub(crate) mod load;
pub(crate) mod messages;
pub(crate) mod parse;
pub(crate) mod reference;
pub(crate) mod run_target;
pub(crate) mod schema;
pub(crate) mod values;
pub(crate) mod watch;

pub use diagnostic::{Diagnostic, Diagnostics, Located, Location, Source};
pub use reference::{reference, schema};
pub use run_target::RunTarget;
pub use schema::{
    Config, Drain,
    pool::{
        Admission, AllDown, Backend, BackendProxyProtocol, BackendTls, Balance, Check, Health,
        OnDown, OnVanish, Passive, Pool, Retry, Sticky,
    },
    route::{ClientCert, Framework, Only, Route, Token},
    server::{Limits, Log, LogFormat, LogLevel, ProxyProtocol, Server},
    session::{
        AnswerBackendPing, Compression, OverRate, Ping, PingLegs, PingOverrides, Session,
        SessionOverrides, SlowReader, SlowReaderOverrides,
    },
    tls::{Acme, CertificateFiles, Challenge, DnsHook, Eab, Tls, TlsVersion, UntilIssued},
};
pub use values::{
    BadValue,
    acme::{AcmeDirectory, MailAddress, Secret},
    address::{Access, AdminAddress, BackendAddress, BackendSource, DnsName, Scheme},
    network::{Cidr, ListenAddress},
    pattern::{HostPattern, OriginPattern, PathPattern},
    selector::{CheckPath, HashKey, TokenHeader, TokenSource},
    units::{ByteRate, DurationValue, Rate, Rebalance, Size},
};
pub use watch::Watch;

#[cfg(test)]
mod tests;
