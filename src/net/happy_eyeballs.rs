//! Happy Eyeballs (RFC 8305): connects to the addresses of one name, staggered, and keeps the first connection.
//!
//! The addresses are tried in the resolver's order with the families interleaved (§4). The next attempt starts
//! [`ATTEMPT_DELAY`] after the previous one, or as soon as one has failed (§5); attempts in progress continue. The
//! first success ends all others, whose sockets are closed.

use crate::net::descriptors::{DescriptorBudget, DescriptorPermit, DescriptorUse};
use futures_util::{StreamExt, stream::FuturesUnordered};
use std::{
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::time::{Instant, sleep_until};

/// Where the descriptors of the attempts beyond the first one come from. The caller has the permit of one socket, which
/// is that of the connection in the end.
#[derive(Debug, Clone, Copy)]
pub(crate) enum AttemptPermits<'a> {
    /// A command: there is no budget.
    Unlimited,
    /// The server's budget. Without a free descriptor, the next attempt waits for the end of another one.
    Budget(&'a Arc<DescriptorBudget>, DescriptorUse),
}

/// The addresses of a name that did not answer a short time ago. They are tried last, so that a session does not wait
/// [`ATTEMPT_DELAY`] for an address that is known to be dead.
#[derive(Debug, Default)]
pub(crate) struct AddressHistory {
    /// Whether `late` has entries; otherwise it is not locked.
    has_late: AtomicBool,
    /// The addresses, with the times until which they are tried last.
    late: Mutex<Vec<(IpAddr, Instant)>>,
}

/// Connects to the first of `addresses` that accepts; `history` learns which did not answer. Returns the error of the
/// last attempt that failed; `None` if there is no address.
pub(crate) async fn connect_first<T, E, F>(
    addresses: Vec<SocketAddr>,
    permits: AttemptPermits<'_>,
    history: &AddressHistory,
    connect: impl Fn(SocketAddr) -> F,
) -> Result<T, Option<E>>
where
    F: Future<Output = Result<T, E>>,
{
    if let [only] = addresses[..] {
        return connect(only).await.map_err(Some);
    }
    // Boxed, so that a dial of one address stays small.
    let raced = race(
        history.sorted(interleave(addresses)),
        permits,
        history,
        connect,
    );
    Box::pin(raced).await
}

async fn race<T, E, F>(
    addresses: Vec<SocketAddr>,
    permits: AttemptPermits<'_>,
    history: &AddressHistory,
    connect: impl Fn(SocketAddr) -> F,
) -> Result<T, Option<E>>
where
    F: Future<Output = Result<T, E>>,
{
    let mut waiting = addresses.into_iter().peekable();
    let mut attempts = FuturesUnordered::new();
    // The started attempts that have not ended.
    let mut pending = Vec::new();
    // One less than there are sockets: the caller has the permit of one.
    let mut extra = Vec::new();
    let mut last = None;
    let mut next_start = Instant::now();
    loop {
        while waiting.peek().is_some()
            && next_start <= Instant::now()
            && permits.reserve(attempts.len(), &mut extra)
            && let Some(address) = waiting.next()
        {
            let attempt = connect(address);
            attempts.push(async move { (address, attempt.await) });
            pending.push(address);
            next_start = Instant::now() + ATTEMPT_DELAY;
        }
        let may_start = waiting.peek().is_some() && next_start > Instant::now();
        tokio::select! {
            ended = attempts.next() => match ended {
                Some((address, Ok(stream))) => {
                    history.forget(address.ip());
                    let earlier = pending.iter().take_while(|other| **other != address);
                    earlier.for_each(|other| history.record(other.ip()));
                    return Ok(stream);
                }
                Some((address, Err(error))) => {
                    history.record(address.ip());
                    pending.retain(|other| *other != address);
                    extra.truncate(attempts.len().saturating_sub(1));
                    last = Some(error);
                    next_start = Instant::now();
                }
                // Every address has failed.
                None => return Err(last),
            },
            () = sleep_until(next_start), if may_start => {}
        }
    }
}

/// Orders addresses so that the families alternate, beginning with that of the first one; the order within a family
/// stays (RFC 8305 §4).
fn interleave(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let Some(first) = addresses.first().map(SocketAddr::is_ipv4) else {
        return addresses;
    };
    let (one, other): (Vec<_>, Vec<_>) = addresses
        .into_iter()
        .partition(|address| address.is_ipv4() == first);
    let (mut one, mut other) = (one.into_iter(), other.into_iter());
    let mut interleaved = Vec::with_capacity(one.len() + other.len());
    loop {
        let pair = (one.next(), other.next());
        if pair == (None, None) {
            return interleaved;
        }
        interleaved.extend(pair.0);
        interleaved.extend(pair.1);
    }
}

// === impl AttemptPermits ===

impl AttemptPermits<'_> {
    /// Returns whether one more attempt may start while `running` attempts have a socket. Its permit is added to
    /// `extra`.
    fn reserve(self, running: usize, extra: &mut Vec<DescriptorPermit>) -> bool {
        if running == 0 {
            return true;
        }
        if running >= MAX_CONCURRENT_ATTEMPTS {
            return false;
        }
        let AttemptPermits::Budget(budget, used_for) = self else {
            return true;
        };
        if extra.len() < running {
            extra.extend(budget.acquire(used_for));
        }
        extra.len() >= running
    }
}

// === impl AddressHistory ===

impl AddressHistory {
    /// Returns the addresses with those last that did not answer within [`HISTORY_TIME`]; the order stays otherwise.
    fn sorted(&self, mut addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
        if !self.has_late.load(Ordering::Relaxed) {
            return addresses;
        }
        let now = Instant::now();
        let mut late = self.lock();
        late.retain(|(_, until)| *until > now);
        self.has_late.store(!late.is_empty(), Ordering::Relaxed);
        // The sort is stable.
        addresses.sort_by_key(|address| late.iter().any(|(ip, _)| *ip == address.ip()));
        addresses
    }

    fn record(&self, ip: IpAddr) {
        let until = Instant::now() + HISTORY_TIME;
        let mut late = self.lock();
        if late.iter().any(|(other, _)| *other == ip) {
            return;
        }
        if late.len() == MAX_HISTORY_LEN {
            late.remove(0);
        }
        late.push((ip, until));
        self.has_late.store(true, Ordering::Relaxed);
    }

    fn forget(&self, ip: IpAddr) {
        if self.has_late.load(Ordering::Relaxed) {
            let mut late = self.lock();
            late.retain(|(other, _)| *other != ip);
            self.has_late.store(!late.is_empty(), Ordering::Relaxed);
        }
    }

    // A panic elsewhere cannot leave the list half changed, so a poisoned lock is used.
    fn lock(&self) -> MutexGuard<'_, Vec<(IpAddr, Instant)>> {
        self.late.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The time from one attempt to the next, unless an attempt fails earlier (RFC 8305 §8: Connection Attempt Delay).
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// The maximum number of attempts in progress for one connection. With the default of `connect_timeout` no more than
/// eight are reached.
const MAX_CONCURRENT_ATTEMPTS: usize = 16;

/// The time for which an address without an answer is tried last.
const HISTORY_TIME: Duration = Duration::from_secs(30);

/// The maximum number of remembered addresses of one name.
const MAX_HISTORY_LEN: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::pending;
    use tokio::time::sleep;

    const DEAD: u64 = u64::MAX;

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    /// Connects to addresses of port `n`, each of which answers after `delays[n]` milliseconds: with an error if the
    /// second value is false. Returns the port that has won, with the starts of all attempts in milliseconds.
    async fn raced(
        delays: &[(u64, bool)],
        permits: AttemptPermits<'_>,
        history: &AddressHistory,
    ) -> (Result<u16, Option<u16>>, Vec<(u16, u64)>) {
        let all = (0..delays.len()).map(|n| SocketAddr::from(([192, 0, 2, n as u8], n as u16)));
        let (started, begun) = (Mutex::new(Vec::new()), Instant::now());
        let connect = |address: SocketAddr| {
            let port = address.port();
            let (delay, accepts) = delays[port as usize];
            let after = begun.elapsed().as_millis() as u64;
            started.lock().unwrap().push((port, after));
            async move {
                match delay {
                    DEAD => pending().await,
                    delay => sleep(Duration::from_millis(delay)).await,
                }
                if accepts { Ok(port) } else { Err(port) }
            }
        };
        let result = connect_first(all.collect(), permits, history, connect).await;
        (result, started.into_inner().unwrap())
    }

    #[test]
    fn families_alternate_from_that_of_the_first_address() {
        let given = addresses(&["1.1.1.1:1", "1.1.1.2:1", "1.1.1.3:1", "[::1]:1", "[::2]:1"]);
        let expected = ["1.1.1.1:1", "[::1]:1", "1.1.1.2:1", "[::2]:1", "1.1.1.3:1"];
        assert_eq!(interleave(given), addresses(&expected));
        let given = addresses(&["[::1]:1", "[::2]:1", "1.1.1.1:1"]);
        let expected = ["[::1]:1", "1.1.1.1:1", "[::2]:1"];
        assert_eq!(interleave(given), addresses(&expected));
        assert_eq!(interleave(vec![]), vec![]);
    }

    #[tokio::test(start_paused = true)]
    async fn attempts_start_250_ms_apart_and_the_first_success_wins() {
        let (none, history) = (AttemptPermits::Unlimited, AddressHistory::default());
        let delays = [(DEAD, true), (DEAD, true), (100, true), (1, true)];
        let (won, started) = raced(&delays, none, &history).await;
        assert_eq!(won, Ok(2));
        assert_eq!(started, [(0, 0), (1, 250), (2, 500)]);
        // The addresses that did not answer are tried last.
        let (won, started) = raced(&delays, none, &history).await;
        assert_eq!((won, started), (Ok(2), vec![(2, 0)]));
    }

    #[tokio::test(start_paused = true)]
    async fn failure_starts_the_next_attempt_and_the_last_error_is_returned() {
        let (none, history) = (AttemptPermits::Unlimited, AddressHistory::default());
        let delays = [(DEAD, true), (10, false), (10, false), (5, true)];
        let (won, started) = raced(&delays, none, &history).await;
        assert_eq!(won, Ok(3));
        assert_eq!(started, [(0, 0), (1, 250), (2, 260), (3, 270)]);
        let refused = [(400, false), (20, false)];
        let (lost, _) = raced(&refused, none, &AddressHistory::default()).await;
        assert_eq!(lost, Err(Some(0)));
        assert_eq!(raced(&[], none, &history).await.0, Err(None));
    }

    #[tokio::test(start_paused = true)]
    async fn concurrent_attempts_have_permits_and_wait_without_one() {
        let (budget, history) = (DescriptorBudget::new(2), AddressHistory::default());
        let permits = AttemptPermits::Budget(&budget, DescriptorUse::Session);
        let _own = budget.acquire(DescriptorUse::Session).unwrap();
        let delays = [(2000, false), (2000, false), (5, true)];
        let (won, started) = raced(&delays, permits, &history).await;
        assert_eq!(won, Ok(2));
        assert_eq!(started, [(0, 0), (1, 250), (2, 2000)]);
        assert_eq!(budget.used(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn history_expires() {
        let (none, history) = (AttemptPermits::Unlimited, AddressHistory::default());
        let delays = [(5, false), (5, true)];
        assert_eq!(raced(&delays, none, &history).await.1.len(), 2);
        assert_eq!(raced(&delays, none, &history).await.1.len(), 1);
        sleep(HISTORY_TIME).await;
        assert_eq!(raced(&delays, none, &history).await.1.len(), 2);
        assert!(history.lock().len() <= 1);
    }
}
