//! Asks an authority again while a session is open, with the credentials of its handshake, and closes the session if it
//! is no longer admitted.

use crate::{
    guard::authority::{Authority, AuthorityAnswer},
    lifecycle::tasks::Tasks,
    net::{random::jitter, resolver::Resolver},
    registry::{CloseOrder, OrderCause, SessionRef},
};
use ::http::{HeaderMap, HeaderName, HeaderValue};
use std::{fmt, sync::Arc, time::Duration};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};

/// What is needed to ask the authority of a session again. It keeps the guard that the session was opened with.
pub(crate) struct SessionRecheck {
    authority: Arc<Authority>,
    /// The headers of the request to the authority, with the client's credentials. Copies: a `HeaderValue` would keep
    /// the whole head of the handshake.
    headers: Vec<(HeaderName, Box<[u8]>)>,
    timing: RecheckTiming,
}

/// Why there is no answer.
enum NoAnswer {
    /// The request had none.
    Failed,
    /// The requests of other sessions have had none for `grace`, so that this one was not sent.
    Starved,
}

/// When the authority is asked again, and what follows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RecheckTiming {
    /// The time between two requests.
    pub(crate) every: Duration,
    /// How long a session stays open without an answer.
    pub(crate) grace: Duration,
    /// The close code of a session that is refused.
    pub(crate) close_code: u16,
}

// === impl SessionRecheck ===

impl SessionRecheck {
    pub(crate) fn new(
        authority: Arc<Authority>,
        headers: &HeaderMap,
        timing: RecheckTiming,
    ) -> SessionRecheck {
        let headers = headers
            .iter()
            .map(|(name, value)| (name.clone(), value.as_bytes().into()));
        SessionRecheck {
            authority,
            headers: headers.collect(),
            timing,
        }
    }

    /// Starts the task, which ends when the returned guard is dropped.
    pub(crate) fn start(
        self,
        session: SessionRef,
        tasks: &Tasks,
        resolver: &Resolver,
    ) -> DropGuard {
        // Not a child of the shutdown's token: a session is checked as long as it is open.
        let token = CancellationToken::new();
        let (recheck, resolver) = (Arc::new(self), resolver.clone());
        tasks.spawn_loop("forward-auth-recheck", token.clone(), move || {
            let (recheck, session, resolver) = (recheck.clone(), session.clone(), resolver.clone());
            async move { recheck.run(&session, &resolver).await }
        });
        token.drop_guard()
    }

    /// Asks again until the session receives a close order.
    async fn run(&self, session: &SessionRef, resolver: &Resolver) {
        let RecheckTiming { every, grace, .. } = self.timing;
        // A random phase, so that sessions that were opened together are not checked together.
        let mut next = Instant::now() + jitter(every);
        let mut silent_since = None;
        loop {
            sleep_until(next).await;
            let begun = Instant::now();
            match self.ask(resolver).await {
                Ok(AuthorityAnswer::Admitted(_)) => {
                    silent_since = None;
                    next = begun + every;
                }
                Ok(AuthorityAnswer::Refused(_) | AuthorityAnswer::Redirected(_)) => {
                    session.order(CloseOrder {
                        code: self.timing.close_code,
                        reason: "access revoked".into(),
                        cause: OrderCause::Revoked,
                    });
                    return;
                }
                Err(error) => {
                    let since: Instant = *silent_since.get_or_insert(begun);
                    if since.elapsed() >= grace || matches!(error, NoAnswer::Starved) {
                        session.order(CloseOrder {
                            code: TRY_AGAIN_LATER,
                            reason: "authority unavailable".into(),
                            cause: OrderCause::AuthoritySilent,
                        });
                        return;
                    }
                    next = (begun + every.min(RETRY_INTERVAL)).min(since + grace);
                }
            }
        }
    }

    /// Sends the request once a permit is free.
    async fn ask(&self, resolver: &Resolver) -> Result<AuthorityAnswer, NoAnswer> {
        let _permit = loop {
            match timeout(PERMIT_CHECK, self.authority.rechecks.acquire()).await {
                // Never closed.
                Ok(permit) => break permit,
                Err(_) if self.authority.silent_for() >= self.timing.grace => {
                    return Err(NoAnswer::Starved);
                }
                Err(_) => {}
            }
        };
        let headers = self.headers.iter().filter_map(|(name, value)| {
            let value = HeaderValue::from_bytes(value).ok()?;
            Some((name.clone(), value))
        });
        let mut map = HeaderMap::with_capacity(self.headers.len());
        headers.for_each(|(name, value)| {
            map.append(name, value);
        });
        let answer = self.authority.ask(map, resolver).await;
        answer.ok_or(NoAnswer::Failed)
    }
}

impl fmt::Debug for SessionRecheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the headers, which have credentials.
        f.debug_struct("SessionRecheck")
            .field("authority", &self.authority)
            .field("timing", &self.timing)
            .finish_non_exhaustive()
    }
}

/// RFC 6455's registry: 1013, Try Again Later.
const TRY_AGAIN_LATER: u16 = 1013;

/// The time between two requests after one without an answer, unless `recheck` is shorter.
const RETRY_INTERVAL: Duration = Duration::from_secs(10);

/// How often a session that waits for a permit looks whether the authority is silent.
const PERMIT_CHECK: Duration = Duration::from_secs(1);
