//! The configuration: the types of the file, and how a file is parsed into them. No run-time state lives here.

mod check;
mod document;
mod environment;
mod form;
mod load;
mod problem;
mod reference;
mod schema;
mod target;
#[cfg(test)]
mod tests;
mod values;
mod watch;
mod words;
mod written;

pub use problem::{Diagnostic, Diagnostics, Located, Location, Source};
pub use reference::{reference, schema};
pub use schema::{
    Acme, Admission, AllDown, AnswerBackendPing, Backend, BackendProxyProtocol, BackendTls,
    Balance, CertificateFiles, Challenge, Check, ClientCert, Compression, Config, DnsHook, Drain,
    Eab, Framework, Health, Limits, Log, LogFormat, LogLevel, OnDown, OnVanish, Only, OverRate,
    Passive, Ping, PingLegs, PingOverrides, Pool, ProxyProtocol, Retry, Route, Server, Session,
    SessionOverrides, SlowReader, SlowReaderOverrides, Sticky, Tls, TlsVersion, Token, UntilIssued,
};
pub use target::RunTarget;
pub use values::{
    Access, AcmeDirectory, AdminAddress, BackendAddress, BackendSource, BadValue, ByteRate,
    CheckPath, Cidr, DnsName, DurationValue, HashKey, HostPattern, ListenAddress, MailAddress,
    OriginPattern, PathPattern, Rate, Rebalance, Scheme, Secret, Size, TokenHeader, TokenSource,
};
pub use watch::Watch;
