//! Parses the query component: `name=value`, percent-encoded, each name at most once, unknown names refused.

use crate::{
    config::{BadValue, DurationValue},
    proto::query,
    registry::{BadCloseOrder, filter::SessionFilter},
};
use percent_encoding::percent_decode_str;
use std::{collections::BTreeMap, str::FromStr};

/// Why a query is refused (400).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadQuery {
    #[error("`{0}` is not UTF-8")]
    NotUtf8(String),
    #[error("`{0}` is given twice")]
    Repeated(String),
    #[error("unknown parameter `{0}`")]
    Unknown(String),
    #[error("{0}")]
    Value(BadValue),
    #[error("`{name}` must be a number from 1 to {max}")]
    Number { name: &'static str, max: usize },
    #[error("`{0}` is not a session id (16 hex digits)")]
    SessionId(String),
    #[error("`{0}` is not a close code")]
    CloseCode(String),
    #[error(transparent)]
    CloseOrder(#[from] BadCloseOrder),
    #[error("use either `all` or selectors, not both")]
    AllAndSelectors,
    #[error(
        "select sessions by id, route, backend, client, subject or longer_than, or use `all` for all of them"
    )]
    NoSelection,
    #[error("a target is missing: ?route=NAME or ?backend=ADDRESS")]
    NoDrainTarget,
    #[error("a host is missing: ?host=chat.example.com")]
    NoHost,
    #[error("`nonce` must be 32 to 128 hex digits")]
    Nonce,
    #[error("`lasting` must be more than 0s and at most 1h")]
    TapDuration,
}

/// The parameters of a query that have not been read; reading one removes it.
#[derive(Debug)]
pub(crate) struct Query(BTreeMap<String, String>);

// === impl Query ===

impl Query {
    /// Parses the query component.
    pub(crate) fn parse(text: &str) -> Result<Query, BadQuery> {
        let mut all = BTreeMap::new();
        for pair in query::pairs(text).filter(|pair| !pair.raw.is_empty()) {
            let (name, value) = (pair.name, pair.value.unwrap_or_default());
            let decoded = percent_decode_str(value).decode_utf8();
            let Ok(value) = decoded else {
                return Err(BadQuery::NotUtf8(name.to_owned()));
            };
            if all.insert(name.to_owned(), value.into_owned()).is_some() {
                return Err(BadQuery::Repeated(name.to_owned()));
            }
        }
        Ok(Query(all))
    }

    /// Removes a parameter and returns its decoded value.
    pub(crate) fn take(&mut self, name: &str) -> Option<String> {
        self.0.remove(name)
    }

    /// Removes a parameter that needs no value.
    pub(crate) fn has(&mut self, name: &str) -> bool {
        self.take(name).is_some()
    }

    /// Removes a parameter and parses its value.
    pub(crate) fn value<T: FromStr<Err = BadValue>>(
        &mut self,
        name: &str,
    ) -> Result<Option<T>, BadQuery> {
        let parsed = self.take(name).map(|text| text.parse());
        parsed.transpose().map_err(BadQuery::Value)
    }

    /// Removes a number from 1 to `max`.
    pub(crate) fn number(
        &mut self,
        name: &'static str,
        max: usize,
    ) -> Result<Option<usize>, BadQuery> {
        let Some(text) = self.take(name) else {
            return Ok(None);
        };
        match text.parse() {
            Ok(number) if (1..=max).contains(&number) => Ok(Some(number)),
            _ => Err(BadQuery::Number { name, max }),
        }
    }

    /// Removes a session id in its displayed form.
    pub(crate) fn id(&mut self, name: &str) -> Result<Option<u64>, BadQuery> {
        let Some(text) = self.take(name) else {
            return Ok(None);
        };
        // from_str_radix also accepts a sign.
        let is_id = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let id = u64::from_str_radix(&text, 16).ok().filter(|_| is_id);
        id.map(Some).ok_or(BadQuery::SessionId(text))
    }

    /// Removes the parameters that select sessions.
    pub(crate) fn session_filter(&mut self) -> Result<SessionFilter, BadQuery> {
        let age = self.value::<DurationValue>("longer_than")?;
        Ok(SessionFilter {
            id: self.id("id")?,
            route: self.take("route").map(Into::into),
            backend: self.take("backend").map(Into::into),
            client: self.value("client")?,
            subject: self.take("subject").map(Into::into),
            longer_than: age.map(|age| age.0),
        })
    }

    /// Fails if a parameter is left: an unknown one must not be ignored silently.
    pub(crate) fn finish(self) -> Result<(), BadQuery> {
        match self.0.keys().next() {
            Some(name) => Err(BadQuery::Unknown(name.clone())),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_and_unknown_names_are_refused() {
        let mut query = Query::parse("route=a%20b&all&limit=7").unwrap();
        assert!(query.has("all") && !query.has("none"));
        assert_eq!(query.number("limit", 10), Ok(Some(7)));
        assert_eq!(
            query.session_filter().unwrap().route.as_deref(),
            Some("a b")
        );
        assert_eq!(query.finish(), Ok(()));
        assert!(Query::parse("a=1&a=2").is_err());
        assert!(Query::parse("a=%FF").is_err());
        assert!(Query::parse("rout=a").unwrap().finish().is_err());
    }

    #[test]
    fn invalid_values_are_refused() {
        for bad in [
            "id=12",
            "id=00000000000000zz",
            "id=+000000000000001",
            "client=10.0.0.0/33",
            "longer_than=soon",
        ] {
            assert!(
                Query::parse(bad).unwrap().session_filter().is_err(),
                "{bad}"
            );
        }
        for bad in ["limit=0", "limit=11", "limit=", "limit=x"] {
            let mut query = Query::parse(bad).unwrap();
            assert!(query.number("limit", 10).is_err(), "{bad}");
        }
        let good = "id=00000000000000ff&client=10.0.0.1&longer_than=10m&backend=ws%3A%2F%2Fa%3A1";
        let filter = Query::parse(good).unwrap().session_filter().unwrap();
        assert_eq!(filter.id, Some(255));
        assert_eq!(filter.longer_than.map(|age| age.as_secs()), Some(600));
        assert_eq!(filter.backend.as_deref(), Some("ws://a:1"));
    }
}
