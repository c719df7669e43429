//! The service that a `forward_auth` guard asks about requests, and the forms of its answer.

use crate::{
    net::{keep_alive::KeepAliveClient, resolver::Resolver},
    observe::{log_throttle::KeyedLogThrottle, logging::ErrorChain},
};
use ::http::{HeaderMap, Response, StatusCode, header, uri::PathAndQuery};
use bytes::Bytes;
use std::{
    error::Error,
    sync::{Arc, LazyLock, Mutex, PoisonError},
    time::Duration,
};
use tokio::{sync::Semaphore, time::Instant};
use tracing::warn;

/// A service that decides about requests.
#[derive(Debug)]
pub(crate) struct Authority {
    /// The guard, for log lines.
    guard: Arc<str>,
    client: KeepAliveClient,
    target: PathAndQuery,
    /// The URL without its query.
    shown_url: String,
    timeout: Duration,
    /// The permits of requests about open sessions.
    pub(crate) rechecks: Semaphore,
    /// Since when no request has been answered.
    silent_since: Mutex<Option<Instant>>,
}

/// The answer of an authority.
#[derive(Debug)]
pub(crate) enum AuthorityAnswer {
    /// 2xx, with the headers of the response.
    Admitted(HeaderMap),
    /// 3xx with a location.
    Redirected(Response<Bytes>),
    /// 401 or 403.
    Refused(Response<Bytes>),
}

/// A response that is no decision.
#[derive(Debug, thiserror::Error)]
#[error("the service answered {0}, which neither admits nor refuses")]
struct UnexpectedStatus(StatusCode);

// === impl Authority ===

impl Authority {
    pub(crate) fn new(
        guard: Arc<str>,
        client: KeepAliveClient,
        target: PathAndQuery,
        shown_url: String,
        timeout: Duration,
    ) -> Authority {
        Authority {
            guard,
            client,
            target,
            shown_url,
            timeout,
            rechecks: Semaphore::new(MAX_RECHECKS),
            silent_since: Mutex::default(),
        }
    }

    /// Returns the URL without its query.
    pub(crate) fn url(&self) -> &str {
        &self.shown_url
    }

    /// Sends the request with these headers. Returns `None`, and logs the cause, if there is no usable answer.
    pub(crate) async fn ask(
        &self,
        headers: HeaderMap,
        resolver: &Resolver,
    ) -> Option<AuthorityAnswer> {
        let response = self
            .client
            .get(&self.target, headers, resolver, self.timeout)
            .await;
        let response = match response {
            Ok(response) => response,
            Err(error) => return self.fail(&error),
        };
        let status = response.status();
        let answer = match status {
            _ if status.is_success() => AuthorityAnswer::Admitted(response.into_parts().0.headers),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => AuthorityAnswer::Refused(response),
            StatusCode::MOVED_PERMANENTLY
            | StatusCode::FOUND
            | StatusCode::SEE_OTHER
            | StatusCode::TEMPORARY_REDIRECT
            | StatusCode::PERMANENT_REDIRECT
                if response.headers().contains_key(header::LOCATION) =>
            {
                AuthorityAnswer::Redirected(response)
            }
            _ => return self.fail(&UnexpectedStatus(status)),
        };
        *self.silence() = None;
        Some(answer)
    }

    /// Returns for how long no request has been answered.
    pub(crate) fn silent_for(&self) -> Duration {
        self.silence().map_or(Duration::ZERO, |at| at.elapsed())
    }

    fn fail<T>(&self, error: &(dyn Error + 'static)) -> Option<T> {
        static THROTTLE: LazyLock<KeyedLogThrottle<Arc<str>>> =
            LazyLock::new(KeyedLogThrottle::new);
        self.silence().get_or_insert_with(Instant::now);
        if let Some(suppressed) = THROTTLE.allow(self.guard.clone()) {
            warn!(
                guard = %self.guard,
                url = %self.shown_url,
                error = %ErrorChain(error),
                suppressed,
                "the service of a forward_auth guard gave no usable answer; requests are refused"
            );
        }
        None
    }

    fn silence(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.silent_since
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Requests about open sessions at one time.
const MAX_RECHECKS: usize = 32;
