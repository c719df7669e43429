//! Value types with `FromStr` as the only constructor: a parsed value needs no second check.
//!
//! `Display` writes the form that parses to the same value.

mod acme;
mod address;
mod amount;
mod byte_rate;
mod check;
mod hash;
mod network;
mod pattern;
mod rebalance;
mod source;
mod text;
mod token;

pub use acme::{AcmeDirectory, MailAddress, Secret};
pub use address::{Access, AdminAddress, BackendAddress, Scheme};
pub use amount::{DurationValue, Rate, Size};
pub use byte_rate::ByteRate;
pub use check::CheckPath;
pub use hash::HashKey;
pub use network::{Cidr, ListenAddress};
pub use pattern::{HostPattern, OriginPattern, PathPattern};
pub use rebalance::Rebalance;
pub use source::{BackendSource, DnsName};
pub use text::BadValue;
pub(super) use text::SEPARATOR;
pub use token::{TokenHeader, TokenSource};
