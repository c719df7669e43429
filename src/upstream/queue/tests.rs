use crate::{
    config,
    upstream::{
        backend::Backends,
        balance_key::{Affinity, BalanceKey},
        health::state::FailureSource,
        pool::Pool,
        queue::*,
    },
};
use futures_util::future::poll_immediate;
use proptest::prelude::*;
use std::{
    pin::{Pin, pin},
    time::Duration,
};
use tokio::time::Instant;

type Acquiring<'a> = Pin<Box<dyn Future<Output = Result<Lease, Unavailable>> + 'a>>;

fn pool_config(backends: usize, handshakes: u32, queue: u32) -> config::Pool {
    let backend = |n| {
        let address = format!("ws://127.0.0.1:{}", 9000 + n).parse().unwrap();
        config::Located::nowhere(config::Backend::at(address))
    };
    let first = config::Located::nowhere("ws://127.0.0.1:9000".parse().unwrap());
    config::Pool {
        backends: (0..backends).map(backend).collect(),
        admission: config::schema::pool::Admission {
            handshakes,
            queue,
            ..config::schema::pool::Admission::default()
        },
        ..config::Pool::of(&first)
    }
}

fn pool(backends: usize, handshakes: u32, queue: u32) -> Pool {
    built(&pool_config(backends, handshakes, queue), None)
}

fn built(pool_config: &config::Pool, before: Option<&Pool>) -> Pool {
    let mut known_backends = Backends::containing(before.iter().flat_map(|pool| pool.backends()));
    let pool = Pool::new("test", pool_config, &mut known_backends, &mut vec![])
        .carry_over(before, &mut known_backends);
    if before.is_none() {
        pool.commit();
    }
    pool
}

fn acquire<'a>(pool: &'a Pool, client: u8, tried: &'a [Arc<Backend>]) -> Acquiring<'a> {
    let deadline = Instant::now() + Duration::from_secs(60);
    let client = [192, 0, 2, client].into();
    Box::pin(pool.acquire(BalanceKey::default(), client, tried, deadline))
}

async fn acquire_now(pool: &Pool) -> Lease {
    let lease = poll_immediate(acquire(pool, 0, &[])).await;
    lease.expect("it need not wait").unwrap()
}

/// Returns a request that is already in the queue.
async fn queued<'a>(pool: &'a Pool, client: u8, tried: &'a [Arc<Backend>]) -> Acquiring<'a> {
    let before = pool.queue_len();
    let mut waiting = acquire(pool, client, tried);
    assert!(poll_immediate(&mut waiting).await.is_none());
    assert_eq!(pool.queue_len(), before + 1);
    waiting
}

async fn is_admitted(waiting: &mut Acquiring<'_>) -> bool {
    poll_immediate(waiting).await.is_some()
}

#[tokio::test(start_paused = true)]
async fn lease_goes_to_the_first_queued_request() {
    let pool = pool(1, 1, 100);
    let held = acquire_now(&pool).await;
    let mut first = queued(&pool, 1, &[]).await;
    let mut second = queued(&pool, 2, &[]).await;
    held.settle();
    // The lease is granted already, although the first request has not noticed yet.
    let mut late = queued(&pool, 3, &[]).await;
    assert!(!is_admitted(&mut second).await);
    let lease = poll_immediate(&mut first).await.unwrap().unwrap();
    assert_eq!(
        (lease.backend().leases(), lease.backend().handshakes()),
        (2, 1)
    );
    drop(lease);
    assert!(!is_admitted(&mut late).await);
    assert!(is_admitted(&mut second).await);
    assert_eq!(pool.queue_len(), 0);
}

#[tokio::test(start_paused = true)]
async fn cancelled_waiter_releases_its_lease() {
    let pool = pool(1, 1, 100);
    let held = acquire_now(&pool).await;
    let leaves = queued(&pool, 1, &[]).await;
    let given = queued(&pool, 2, &[]).await;
    let mut last = queued(&pool, 3, &[]).await;
    drop(leaves);
    assert_eq!(pool.queue_len(), 2);
    drop(held);
    drop(given);
    assert!(is_admitted(&mut last).await);
    let backend = &pool.backends()[0];
    assert_eq!((backend.leases(), backend.handshakes()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn waiter_that_cannot_use_a_backend_is_skipped() {
    let pool = pool(2, 1, 100);
    let both: Vec<_> = pool.backends();
    let held = [acquire_now(&pool).await, acquire_now(&pool).await];
    let mut restricted = queued(&pool, 1, &both[..1]).await;
    let mut other = queued(&pool, 2, &[]).await;
    let [free, _kept] = if Arc::ptr_eq(held[0].backend(), &both[0]) {
        held
    } else {
        let [one, other] = held;
        [other, one]
    };
    drop(free);
    assert!(!is_admitted(&mut restricted).await);
    let lease = poll_immediate(&mut other).await.unwrap().unwrap();
    assert!(Arc::ptr_eq(lease.backend(), &both[0]));
    // A new request may take a lease that no queued request can use.
    drop(lease);
    assert!(Arc::ptr_eq(acquire_now(&pool).await.backend(), &both[0]));
    assert_eq!(pool.queue_len(), 1);
}

#[tokio::test(start_paused = true)]
async fn queue_is_bounded_and_each_waiter_has_a_deadline() {
    let pool = pool(1, 1, 20);
    let held = acquire_now(&pool).await;
    let mut waiting = vec![];
    for client in 0..20 {
        waiting.push(queued(&pool, client / 2, &[]).await);
    }
    let refused = acquire(&pool, 99, &[]).await.unwrap_err();
    assert_eq!(refused, Unavailable::QueueFull);
    waiting.pop();
    let refused = acquire(&pool, 0, &[]).await.unwrap_err();
    assert_eq!(refused, Unavailable::QueueShare);
    // Paused time advances by itself, because no task is runnable.
    let start = Instant::now();
    for one in waiting {
        assert_eq!(one.await.unwrap_err(), Unavailable::QueueWait);
    }
    assert_eq!(start.elapsed().as_secs(), 10);
    assert_eq!(pool.queue_len(), 0);
    let deadline = Instant::now() + Duration::from_secs(1);
    let client = [192, 0, 2, 1].into();
    let late = pool
        .acquire(BalanceKey::default(), client, &[], deadline)
        .await;
    assert_eq!(late.unwrap_err(), Unavailable::QueueWait);
    assert_eq!(start.elapsed().as_secs(), 11);
    drop(held);
    drop(acquire_now(&pool).await);
}

#[tokio::test(start_paused = true)]
async fn without_a_queue_requests_are_rejected_at_once() {
    let pool = pool(1, 1, 0);
    let _held = acquire_now(&pool).await;
    let refused = acquire(&pool, 1, &[]).await.unwrap_err();
    assert_eq!(refused, Unavailable::Full);
}

#[tokio::test(start_paused = true)]
async fn reload_keeps_waiters_in_the_queue() {
    let old = pool(1, 1, 100);
    let held = acquire_now(&old).await;
    let mut first = queued(&old, 1, &[]).await;
    let mut second = queued(&old, 2, &[]).await;
    // The old backend is removed, another is added.
    let mut config = pool_config(2, 1, 100);
    config.backends.remove(0);
    let new = built(&config, Some(&old));
    assert!(!is_admitted(&mut first).await);
    new.commit();
    let lease = poll_immediate(&mut first).await.unwrap().unwrap();
    assert!(Arc::ptr_eq(lease.backend(), &new.backends()[0]));
    // No lease on a removed backend.
    drop(held);
    assert!(!is_admitted(&mut second).await);
    let mut third = queued(&new, 3, &[]).await;
    // Higher limits.
    let config = config::Pool {
        admission: config::schema::pool::Admission {
            handshakes: 3,
            ..config.admission
        },
        ..config
    };
    let newer = built(&config, Some(&new));
    newer.commit();
    assert!(is_admitted(&mut second).await && is_admitted(&mut third).await);
    drop(lease);
}

#[tokio::test(start_paused = true)]
async fn undrained_backend_serves_queued_requests() {
    let pool = pool(2, 1, 100);
    let both: Vec<_> = pool.backends();
    both[1].drain(true);
    let _held = acquire_now(&pool).await;
    let mut waiting = queued(&pool, 1, &[]).await;
    both[1].drain(false);
    assert!(is_admitted(&mut waiting).await);
}

#[tokio::test(start_paused = true)]
async fn down_backend_serves_no_waiter_until_it_recovers() {
    let pool = pool(2, 1, 100);
    let passive = config::Passive {
        fails: 1,
        ..config::Passive::default()
    };
    let eject = |backend: &Backend| {
        let health = backend.health();
        health.record_failure(
            Instant::now(),
            &passive,
            "gone".to_owned(),
            FailureSource::Connect { timed_out: false },
        );
    };
    let [one, other] = [acquire_now(&pool).await, acquire_now(&pool).await];
    let mut first = queued(&pool, 1, &[]).await;
    let gone = one.backend().clone();
    eject(&gone);
    drop(one);
    assert!(!is_admitted(&mut first).await);
    gone.health().record_response();
    gone.start_slow(Instant::now());
    let lease = poll_immediate(&mut first).await.unwrap().unwrap();
    assert!(Arc::ptr_eq(lease.backend(), &gone));
    // If all are down, they are used.
    let mut second = queued(&pool, 2, &[]).await;
    eject(&gone);
    eject(other.backend());
    lease.settle();
    assert!(is_admitted(&mut second).await);
}

#[tokio::test(start_paused = true)]
async fn pools_that_share_a_backend_have_separate_limits_and_queues() {
    let mut known_backends = Backends::default();
    let mut pool = |name, handshakes| {
        let pool_config = pool_config(1, handshakes, 100);
        let pool = Pool::new(name, &pool_config, &mut known_backends, &mut vec![])
            .carry_over(None, &mut known_backends);
        pool.commit();
        pool
    };
    let (narrow, wide) = (pool("narrow", 1), pool("wide", 2));
    let [one, other] = [acquire_now(&narrow).await, acquire_now(&wide).await];
    let mut in_narrow = queued(&narrow, 1, &[]).await;
    let mut in_wide = queued(&wide, 1, &[]).await;
    one.settle();
    assert!(!is_admitted(&mut in_narrow).await);
    assert!(is_admitted(&mut in_wide).await);
    assert!(!is_admitted(&mut in_narrow).await);
    drop(other);
    assert!(is_admitted(&mut in_narrow).await);
}

#[tokio::test(start_paused = true)]
async fn request_with_affinity_waits_for_its_backend() {
    let pool = pool(2, 1, 100);
    let [own, other] = [acquire_now(&pool).await, acquire_now(&pool).await];
    let bound = Affinity {
        id_hash: own.id_hash(),
        only: true,
    };
    let key = BalanceKey::default().bound_to(Some(bound));
    let deadline = Instant::now() + Duration::from_secs(60);
    let client = [192, 0, 2, 1].into();
    let mut waiting: Acquiring<'_> = Box::pin(pool.acquire(key, client, &[], deadline));
    assert!(!is_admitted(&mut waiting).await);
    drop(other);
    assert!(!is_admitted(&mut waiting).await);
    own.settle();
    assert!(is_admitted(&mut waiting).await);
}

#[tokio::test(start_paused = true)]
async fn client_leaves_a_quarter_to_others_and_yields_to_them_from_a_quarter_on() {
    let pool = pool(1, 4, 100);
    let take = async |client| poll_immediate(acquire(&pool, client, &[])).await;
    let mut held = vec![];
    for _ in 0..3 {
        held.push(take(1).await.expect("three quarters are free").unwrap());
    }
    let mut greedy = queued(&pool, 1, &[]).await;
    let other = take(2).await.expect("a quarter is left").unwrap();
    let mut late = queued(&pool, 3, &[]).await;
    drop(held.pop());
    let lease = poll_immediate(&mut late).await.expect("it has priority");
    assert!(!is_admitted(&mut greedy).await);
    // With no other client in the queue, a client gets more than a quarter.
    drop(other);
    assert!(is_admitted(&mut greedy).await);
    drop((held, lease));
    let backend = &pool.backends()[0];
    assert_eq!((backend.leases(), backend.handshakes()), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_requests_lose_no_capacity_and_respect_limits() {
    let pool = Arc::new(pool(3, 2, 100_000));
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..64_u8 {
        let pool = pool.clone();
        tasks.spawn(async move {
            for round in 0..200 {
                let deadline = Instant::now() + Duration::from_secs(30);
                let client = [10, 0, n, 1].into();
                let mut acquiring =
                    pin!(pool.acquire(BalanceKey::default(), client, &[], deadline));
                if round % 7 == 0 && poll_immediate(&mut acquiring).await.is_none() {
                    tokio::task::yield_now().await;
                    // The request is cancelled, possibly with a granted lease.
                    continue;
                }
                if round % 7 == 0 {
                    continue;
                }
                let lease = acquiring.await.expect("there is time enough");
                assert!(lease.backend().handshakes() <= 2);
                tokio::task::yield_now().await;
                lease.settle();
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    assert_eq!(pool.queue_len(), 0);
    for backend in pool.backends() {
        assert_eq!((backend.leases(), backend.handshakes()), (0, 0));
    }
}

/// A request that starts to wait while the only lease is released gets it, even if no other request waits in any pool:
/// each of these pools has one client, so its queue is subscribed and unsubscribed with every request.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn pools_that_share_a_backend_lose_no_capacity() {
    let mut known_backends = Backends::default();
    let pools: Vec<_> = (0..16)
        .map(|n| {
            let name = format!("pool-{n}");
            let pool = Pool::new(
                &name,
                &pool_config(1, 1, 100),
                &mut known_backends,
                &mut vec![],
            );
            let pool = pool.carry_over(None, &mut known_backends);
            pool.commit();
            Arc::new(pool)
        })
        .collect();
    let mut tasks = tokio::task::JoinSet::new();
    for pool in pools.iter().cycle().take(20) {
        let pool = pool.clone();
        tasks.spawn(async move {
            for round in 0..1000 {
                let deadline = Instant::now() + Duration::from_secs(30);
                let client = [10, 0, 0, 1].into();
                let acquiring = pool.acquire(BalanceKey::default(), client, &[], deadline);
                let lease = acquiring.await.expect("there is time enough");
                assert_eq!(lease.backend().handshakes(), 1);
                if round % 3 == 0 {
                    tokio::task::yield_now().await;
                }
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    let backend = &pools[0].backends()[0];
    assert_eq!((backend.leases(), backend.subscriber_count()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn backend_notifies_only_pools_with_queued_requests() {
    let mut known_backends = Backends::default();
    let mut pool = |name, backends| {
        let pool_config = pool_config(backends, 1, 100);
        let pool = Pool::new(name, &pool_config, &mut known_backends, &mut vec![])
            .carry_over(None, &mut known_backends);
        pool.commit();
        pool
    };
    let (one, both) = (pool("one", 1), pool("both", 2));
    let [first, second] = &both.backends()[..] else {
        panic!("two are pool_config");
    };
    let subscribers = || (first.subscriber_count(), second.subscriber_count());
    let held = [acquire_now(&both).await, acquire_now(&both).await];
    assert_eq!(subscribers(), (0, 0));
    let in_both = queued(&both, 1, &[]).await;
    let mut in_one = queued(&one, 1, &[]).await;
    assert_eq!(subscribers(), (2, 1));
    drop(in_both);
    assert_eq!(subscribers(), (1, 0));
    drop(held);
    assert!(is_admitted(&mut in_one).await);
    assert_eq!(subscribers(), (0, 0));
    // Pools that a reload has removed are not notified either.
    let held = [acquire_now(&both).await, acquire_now(&both).await];
    let mut waits = queued(&both, 1, &[]).await;
    let mut config = pool_config(2, 1, 100);
    config.backends.remove(0);
    built(&config, Some(&both)).commit();
    assert_eq!(subscribers(), (0, 1));
    drop(held);
    assert!(is_admitted(&mut waits).await);
    assert_eq!(subscribers(), (0, 0));
}

/// The events of a test, in sequence.
#[derive(Debug, Clone)]
enum Event {
    Arrive,
    Cancel(prop::sample::Index),
    Settle(prop::sample::Index),
    Release(prop::sample::Index),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let index = any::<prop::sample::Index>;
    let one = prop_oneof![
        4 => Just(Event::Arrive),
        1 => index().prop_map(Event::Cancel),
        2 => index().prop_map(Event::Settle),
        2 => index().prop_map(Event::Release),
    ];
    proptest::collection::vec(one, 0..150)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn leases_are_granted_in_order_of_arrival(backends in 1_usize..4, handshakes in 1_u32..3, events in events()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let pool = pool(backends, handshakes, 200);
            let mut waiting: Vec<(u64, Acquiring<'_>)> = vec![];
            let mut held: Vec<Lease> = vec![];
            let mut arrivals = 0;
            for one in events {
                match one {
                    Event::Arrive => {
                        // Each request is that of another client: the requests of one yield to those of others.
                        let mut acquiring = acquire(&pool, arrivals as u8, &[]);
                        match poll_immediate(&mut acquiring).await {
                            Some(Ok(lease)) => {
                                assert!(waiting.is_empty(), "it overtook queued requests");
                                held.push(lease);
                            }
                            Some(Err(why)) => assert_eq!(why, Unavailable::QueueShare),
                            None => waiting.push((arrivals, acquiring)),
                        }
                        arrivals += 1_u64;
                    }
                    Event::Cancel(which) if !waiting.is_empty() => {
                        drop(waiting.remove(which.index(waiting.len())));
                    }
                    Event::Settle(which) if !held.is_empty() => {
                        let at = which.index(held.len());
                        held[at].settle();
                    }
                    Event::Release(which) if !held.is_empty() => {
                        drop(held.swap_remove(which.index(held.len())));
                    }
                    _ => {}
                }
                // The requests that got a lease are the first of all.
                let mut served = vec![];
                let mut still = vec![];
                for (number, mut acquiring) in waiting {
                    match poll_immediate(&mut acquiring).await {
                        Some(lease) => { served.push(number); held.push(lease.unwrap()); }
                        None => still.push((number, acquiring)),
                    }
                }
                assert!(served.iter().all(|one| still.iter().all(|(other, _)| one < other)));
                waiting = still;
                assert_eq!(pool.queue_len(), waiting.len());
                let handshaking: u64 = pool.backends().iter().map(|backend| backend.handshakes()).sum();
                let capacity = backends as u64 * u64::from(handshakes);
                assert!(handshaking <= capacity && (waiting.is_empty() || handshaking == capacity));
            }
        });
    }
}
