use crate::config;
use crate::upstream::{balance_key::Affinity, health::state::FailureSource, pool::*};
use config::Balance::{Hash, LeastSessions, RandomTwo, RoundRobin};
use proptest::prelude::*;
use std::collections::HashMap;

/// A pool whose backends have these weights; their ports are 9000, 9001 …
fn pool_config(balance: config::Balance, weights: &[u16]) -> config::Pool {
    let backend = |(n, weight): (usize, &u16)| {
        let address = format!("ws://127.0.0.1:{}", 9000 + n).parse().unwrap();
        config::Located::nowhere(config::Backend {
            weight: *weight,
            ..config::Backend::at(address)
        })
    };
    config::Pool {
        backends: weights.iter().enumerate().map(backend).collect(),
        balance,
        hash: config::HashKey::Path,
        sticky: config::Sticky::Off,
        health: config::Located::default(),
        passive: config::Passive::default(),
        all_down: config::AllDown::default(),
        connect_timeout: config::DurationValue(Duration::from_secs(2)),
        retry: config::Retry::default(),
        admission: config::schema::pool::Admission {
            handshakes: 0,
            ..config::schema::pool::Admission::default()
        },
        slow_start: config::DurationValue(Duration::ZERO),
        rebalance: config::Rebalance::Off,
    }
}

fn built(pool_config: &config::Pool, previous: Option<&Pool>) -> Pool {
    let mut backends = Backends::containing(previous.iter().flat_map(|pool| pool.backends()));
    let pool = Pool::new("test", pool_config, &mut backends, &mut vec![])
        .carry_over(previous, &mut backends);
    if previous.is_none() {
        pool.commit();
    }
    pool
}

fn pool(balance: config::Balance, weights: &[u16]) -> Pool {
    built(&pool_config(balance, weights), None)
}

fn key(pool: &Pool, path: &str) -> BalanceKey {
    pool.key(&HeaderMap::new(), path, None, [192, 0, 2, 1].into())
}

fn one_client() -> PackedSubnet {
    SubnetKey::of([192, 0, 2, 1].into()).pack()
}

fn pick_lease(pool: &Pool) -> Lease {
    pool.pick(BalanceKey::default(), &[], one_client()).unwrap()
}

fn leases(pool: &Pool) -> Vec<u64> {
    pool.backends()
        .iter()
        .map(|backend| backend.leases())
        .collect()
}

/// Returns how often each member is selected if every lease is released at once.
fn picks(pool: &Pool, times: usize) -> Vec<u64> {
    let mut chosen: HashMap<Arc<str>, u64> = HashMap::new();
    for _ in 0..times {
        *chosen
            .entry(pick_lease(pool).backend().name().clone())
            .or_default() += 1;
    }
    let times = |backend: &Arc<Backend>| chosen.get(backend.name()).copied().unwrap_or(0);
    pool.backends().iter().map(times).collect()
}

/// Returns whether the counts are proportional to the weights, to within `tolerance` of each.
fn assert_shares(counts: &[u64], weights: &[u16], tolerance: f64) {
    let (sum, weight): (u64, u64) = (
        counts.iter().sum(),
        weights.iter().map(|w| u64::from(*w)).sum(),
    );
    for (count, share) in counts.iter().zip(weights) {
        let share = sum as f64 * f64::from(*share) / weight as f64;
        let off = (*count as f64 - share).abs() / share;
        assert!(off <= tolerance, "{counts:?} for {weights:?}");
    }
}

#[test]
fn leases_are_distributed_by_weight() {
    let weights = [1, 2, 4];
    for balance in [LeastSessions, RoundRobin] {
        let held = pool(balance, &weights);
        let _held: Vec<_> = (0..10_000).map(|_| pick_lease(&held)).collect();
        assert_shares(&leases(&held), &weights, 0.02);
        assert_shares(&picks(&pool(balance, &weights), 10_000), &weights, 0.02);
    }
    let held = pool(RandomTwo, &weights);
    let _held: Vec<_> = (0..10_000).map(|_| pick_lease(&held)).collect();
    assert_shares(&leases(&held), &weights, 0.02);
    let held = pool(Hash, &weights);
    let _held: Vec<_> = (0..10_000)
        .map(|n| {
            held.pick(key(&held, &format!("/{n}")), &[], one_client())
                .unwrap()
        })
        .collect();
    assert_shares(&leases(&held), &weights, 0.1);
}

#[test]
fn round_robin_interleaves_members_by_weight() {
    let pool = pool(RoundRobin, &[1, 2, 4]);
    for _ in 0..10 {
        assert_eq!(picks(&pool, 7), [1, 2, 4]);
    }
}

#[test]
fn absent_member_does_not_catch_up() {
    let pool = pool(RoundRobin, &[1, 1]);
    pool.members.load().current()[0].backend.drain(true);
    assert_eq!(picks(&pool, 100), [0, 100]);
    pool.members.load().current()[0].backend.drain(false);
    // To within one slot.
    assert_eq!(picks(&pool, 10), [6, 4]);
}

#[test]
fn member_with_fewest_leases_wins_and_drop_releases() {
    let pool = pool(LeastSessions, &[1, 1]);
    let first = pick_lease(&pool);
    let second = pick_lease(&pool);
    assert_ne!(first.backend().name(), second.backend().name());
    let freed = first.backend().name().clone();
    drop(first);
    for _ in 0..4 {
        assert_eq!(pick_lease(&pool).backend().name(), &freed);
    }
}

#[test]
fn random_two_selects_the_less_loaded_of_two_different_members() {
    let pool = pool(RandomTwo, &[1, 1]);
    let held: Vec<_> = (0..1000).map(|_| pick_lease(&pool)).collect();
    assert_eq!(leases(&pool), [500, 500]);
    drop(held);
    assert_eq!(leases(&pool), [0, 0]);
}

#[test]
fn reload_keeps_leases_and_applies_new_limits() {
    let mut config = pool_config(LeastSessions, &[1, 1]);
    let old = built(&config, None);
    let held: Vec<_> = (0..20).map(|_| pick_lease(&old)).collect();
    config.backends.remove(0);
    config.backends[0].value.weight = 3;
    config.backends[0].value.max_sessions = 12;
    let added = config::Backend::at("ws://127.0.0.1:9999".parse().unwrap());
    config.backends.push(config::Located::nowhere(added));
    let new = built(&config, Some(&old));
    new.start_new_backends(Instant::now());
    new.commit();
    assert_eq!(leases(&new), [10, 0]);
    let more: Vec<_> = (0..6).map(|_| pick_lease(&new)).collect();
    // At most 12, though its weight would allow 12 of 16.
    assert_eq!(leases(&new), [12, 4]);
    drop(held);
    assert_eq!(leases(&new), [2, 4]);
    drop(more);
    assert_eq!((leases(&new), leases(&old)), (vec![0, 0], vec![0, 0]));
}

#[test]
fn pools_share_the_counters_of_a_backend() {
    let mut backends = Backends::default();
    let config = pool_config(LeastSessions, &[1, 1]);
    let [one, other] =
        ["one", "other"].map(|name| Pool::new(name, &config, &mut backends, &mut vec![]));
    let _first = pick_lease(&one);
    let second = pick_lease(&other);
    assert_eq!((leases(&one), leases(&other)), (vec![1, 1], vec![1, 1]));
    // It is still there under another name.
    let mut backends = Backends::containing(other.backends());
    let renamed = Pool::new("renamed", &config, &mut backends, &mut vec![]);
    drop(second);
    assert_eq!(leases(&renamed), leases(&one));
}

#[test]
fn unavailable_names_the_reason() {
    let mut config = pool_config(LeastSessions, &[1, 1]);
    for backend in &mut config.backends {
        backend.value.max_sessions = 1;
    }
    for balance in [LeastSessions, RoundRobin, RandomTwo, Hash] {
        config.balance = balance;
        let pool = built(&config, None);
        let acquire = |tried: &[_]| pool.pick(BalanceKey::default(), tried, one_client());
        let one = acquire(&[]).unwrap();
        let other = acquire(&[]).unwrap();
        assert_eq!(acquire(&[]).unwrap_err(), Unavailable::Full);
        drop((one, other));
        let both: Vec<_> = pool.backends();
        let lease = acquire(&both[..1]).unwrap();
        assert!(Arc::ptr_eq(lease.backend(), &both[1]));
        assert_eq!(acquire(&both).unwrap_err(), Unavailable::NoBackend);
        drop(lease);
        both[0].drain(true);
        assert_eq!(acquire(&both[1..]).unwrap_err(), Unavailable::NoBackend);
        both[1].drain(true);
        assert_eq!(acquire(&[]).unwrap_err(), Unavailable::Draining);
        let empty = built(&pool_config(balance, &[]), None);
        let none = empty.pick(BalanceKey::default(), &[], one_client());
        assert_eq!(none.unwrap_err(), Unavailable::NoBackend);
    }
}

fn eject(backend: &Backend) {
    let settings = config::Passive {
        fails: 1,
        ..config::Passive::default()
    };
    let health = backend.health();
    health.record_failure(
        tokio::time::Instant::now(),
        &settings,
        "refused".to_owned(),
        FailureSource::Connect { timed_out: false },
    );
}

#[test]
fn member_whose_connect_timed_out_is_the_last_choice_until_one_succeeds() {
    let mut config = pool_config(LeastSessions, &[1, 1]);
    config.backends[0].value.max_sessions = 4;
    for balance in [LeastSessions, RoundRobin, RandomTwo, Hash] {
        config.balance = balance;
        let pool = built(&config, None);
        let [answering, silent] = &pool.backends()[..] else {
            panic!("two backends");
        };
        let source = FailureSource::Connect { timed_out: true };
        let (now, why) = (tokio::time::Instant::now(), "silent".to_owned());
        silent
            .health()
            .record_failure(now, &config.passive, why, source);
        assert!(silent.health().is_up());
        let bound = BalanceKey::default().bound_to(Some(Affinity {
            id_hash: pool.members.load().current()[1].id_hash,
            only: false,
        }));
        let mut held = Vec::new();
        for key in [bound, BalanceKey::default()] {
            held.push(pool.pick(key, &[], one_client()).unwrap());
        }
        assert_eq!(leases(&pool), [2, 0], "{balance:?}");
        // A request for which the other one has failed, and requests above its limit.
        let tried = [answering.clone()];
        held.push(
            pool.pick(BalanceKey::default(), &tried, one_client())
                .unwrap(),
        );
        held.extend((0..3).map(|_| pick_lease(&pool)));
        assert_eq!(leases(&pool), [4, 2], "{balance:?}");
        held.clear();
        silent.record_connected();
        let picked = pool.pick(bound, &[], one_client()).unwrap();
        assert!(Arc::ptr_eq(picked.backend(), silent), "{balance:?}");
    }
}

#[test]
fn unhealthy_members_get_work_only_if_all_are_unhealthy() {
    let mut config = pool_config(LeastSessions, &[1, 1, 1]);
    for balance in [LeastSessions, RoundRobin, RandomTwo, Hash] {
        config.balance = balance;
        config.all_down = config::AllDown::Try;
        let pool = built(&config, None);
        let all: Vec<_> = pool.backends();
        eject(&all[0]);
        let held: Vec<_> = (0..20).map(|_| pick_lease(&pool)).collect();
        assert_eq!(leases(&pool)[0], 0, "{balance:?}");
        drop(held);
        // A backend that has failed for this request is not retried, and an unhealthy one is not used while others are
        // up.
        let others = pool.pick(BalanceKey::default(), &all[1..], one_client());
        assert_eq!(others.unwrap_err(), Unavailable::NoBackend);
        all[1].drain(true);
        eject(&all[2]);
        let held: Vec<_> = (0..20).map(|_| pick_lease(&pool)).collect();
        assert_eq!(leases(&pool)[1], 0, "{balance:?}");
        drop(held);
        config.all_down = config::AllDown::Refuse;
        let pool = built(&config, Some(&pool));
        let none = pool.pick(BalanceKey::default(), &[], one_client());
        assert_eq!(none.unwrap_err(), Unavailable::Down);
        all[2].health().record_response();
        assert!(Arc::ptr_eq(pick_lease(&pool).backend(), &all[2]));
        all[2].drain(true);
        all[0].drain(true);
        let none = pool.pick(BalanceKey::default(), &[], one_client());
        assert_eq!(none.unwrap_err(), Unavailable::Draining);
    }
}

#[test]
fn sid_selects_an_unhealthy_backend_but_a_cookie_does_not() {
    let pool = pool(LeastSessions, &[1, 1]);
    let [own, other] = [0, 1].map(|n| pool.members.load().current()[n].clone());
    let bound = |only| {
        let id_hash = own.id_hash;
        let key = BalanceKey::default().bound_to(Some(Affinity { id_hash, only }));
        pool.pick(key, &[], one_client()).unwrap().backend().clone()
    };
    assert!(Arc::ptr_eq(&bound(false), &own.backend));
    eject(&own.backend);
    assert!(Arc::ptr_eq(&bound(false), &other.backend));
    assert!(Arc::ptr_eq(&bound(true), &own.backend));
}

#[test]
fn hash_selects_the_same_backend_up_to_its_load_bound() {
    let pool = pool(Hash, &[1; 4]);
    let room_key = key(&pool, "/room");
    let mut held = vec![];
    for _ in 0..400 {
        held.push(pool.pick(room_key, &[], one_client()).unwrap());
    }
    let mut counts = leases(&pool);
    counts.sort_unstable();
    // 5/4 of a hundred; the second and third member take the rest.
    assert_eq!(counts, [25, 125, 125, 125]);
    held.clear();
    let few: Vec<_> = (0..8)
        .map(|_| pool.pick(room_key, &[], one_client()).unwrap())
        .collect();
    let first = few[0].backend();
    assert!(few.iter().all(|lease| Arc::ptr_eq(lease.backend(), first)));
}

#[test]
fn concurrent_picks_respect_session_limits() {
    let mut config = pool_config(LeastSessions, &[1, 2, 3]);
    for backend in &mut config.backends {
        backend.value.max_sessions = 100;
    }
    for balance in [LeastSessions, RoundRobin, RandomTwo, Hash] {
        config.balance = balance;
        let pool = built(&config, None);
        let held = std::thread::scope(|scope| {
            let threads = [(); 4].map(|()| {
                scope.spawn(|| {
                    let mine =
                        (0..100).map(|_| pool.pick(BalanceKey::default(), &[], one_client()).ok());
                    mine.collect::<Vec<_>>()
                })
            });
            threads.map(|thread| thread.join().unwrap())
        });
        assert_eq!(leases(&pool), [100; 3], "{balance:?}");
        drop(held);
        assert_eq!(leases(&pool), [0; 3]);
    }
}

/// Returns the backend that each key selects while no lease is held.
fn backends_by_key(pool: &Pool, keys: usize) -> Vec<Arc<str>> {
    let backend = |n| {
        let lease = pool
            .pick(key(pool, &format!("/{n}")), &[], one_client())
            .unwrap();
        lease.backend().name().clone()
    };
    (0..keys).map(backend).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn only_keys_of_added_or_removed_members_move(
        weights in proptest::collection::vec(1_u16..=8, 2..12),
        gone in any::<prop::sample::Index>(),
    ) {
        let mut config = pool_config(Hash, &weights);
        let whole = built(&config, None);
        let gone = config.backends.remove(gone.index(weights.len())).value;
        let rest = built(&config, Some(&whole));
        let (before, after) = (backends_by_key(&whole, 2000), backends_by_key(&rest, 2000));
        let mut moved = 0;
        for (before, after) in before.iter().zip(&after) {
            if **before == *gone.address.to_string() {
                moved += 1;
            } else {
                prop_assert_eq!(before, after);
            }
        }
        let weight: u32 = weights.iter().map(|w| u32::from(*w)).sum();
        let share = 2000.0 * f64::from(gone.weight) / f64::from(weight);
        // Five standard deviations.
        prop_assert!((f64::from(moved) - share).abs() <= 5.0 * share.sqrt(), "{moved} of {share}");
    }

    #[test]
    fn hash_gives_no_member_more_than_five_quarters_of_its_share(
        weights in proptest::collection::vec(1_u16..=8, 1..12),
        keys in proptest::collection::vec(0_usize..5, 1..600),
    ) {
        let pool = pool(Hash, &weights);
        let mut held = vec![];
        for one in keys {
            held.push(pool.pick(key(&pool, &format!("/{one}")), &[], one_client()).unwrap());
            let total = held.len() as u64;
            let weight: u64 = weights.iter().map(|w| u64::from(*w)).sum();
            for (leases, its) in leases(&pool).into_iter().zip(&weights) {
                let bound = (5 * total * u64::from(*its)).div_ceil(4 * weight);
                prop_assert!(leases <= bound.max(8), "{leases} of {total}, {its}/{weight}");
            }
        }
    }

    #[test]
    fn leases_are_counted_and_shares_kept_under_churn(
        balance in prop::sample::select(vec![LeastSessions, RoundRobin, RandomTwo, Hash]),
        weights in proptest::collection::vec(1_u16..=8, 1..8),
        moves in proptest::collection::vec(any::<(bool, prop::sample::Index)>(), 1..200),
    ) {
        let pool = pool(balance, &weights);
        let mut held: Vec<Lease> = vec![];
        for (comes, which) in moves {
            if comes || held.is_empty() { held.push(lease_of(&pool, which.index(7))) } else { drop(held.swap_remove(which.index(held.len()))) }
            prop_assert_eq!(leases(&pool).iter().sum::<u64>(), held.len() as u64);
        }
        drop(held);
        prop_assert_eq!(leases(&pool).iter().sum::<u64>(), 0);
    }
}

fn lease_of(pool: &Pool, n: usize) -> Lease {
    pool.pick(key(pool, &format!("/{n}")), &[], one_client())
        .unwrap()
}

#[tokio::test(start_paused = true)]
async fn slow_start_limits_a_new_backend_unless_it_is_alone() {
    let mut config = pool_config(LeastSessions, &[1; 3]);
    config.slow_start = config::DurationValue(Duration::from_secs(100));
    let added = config.backends.pop().unwrap();
    let old = built(&config, None);
    let now = Instant::now();
    assert!(
        old.backends()
            .iter()
            .all(|backend| !old.is_warming(backend, now))
    );
    let _held: Vec<_> = (0..20_000).map(|_| pick_lease(&old)).collect();
    config.backends.push(added);
    let new = built(&config, Some(&old));
    new.start_new_backends(Instant::now());
    new.commit();
    let [backends @ .., cold] = &new.backends()[..] else {
        unreachable!("there are three");
    };
    assert!(backends.iter().all(|backend| !new.is_warming(backend, now)));
    assert!(new.is_warming(cold, now));
    // It has by far the fewest leases: it is selected whenever it is considered.
    let mut held = vec![];
    for expected in [0.1, 0.55] {
        let before = cold.leases();
        held.extend((0..2000).map(|_| pick_lease(&new)));
        let share = (cold.leases() - before) as f64 / 2000.0;
        // Four standard deviations.
        assert!((share - expected).abs() < 0.05, "{share}");
        tokio::time::advance(Duration::from_secs(50)).await;
    }
    assert!(!new.is_warming(cold, Instant::now()));
    let before = cold.leases();
    held.extend((0..2000).map(|_| pick_lease(&new)));
    assert_eq!(cold.leases() - before, 2000);
    // Recovered again, and alone.
    cold.start_slow(Instant::now());
    assert!(new.is_warming(cold, Instant::now()));
    let tried: Vec<_> = backends.to_vec();
    for _ in 0..50 {
        let lease = new
            .pick(BalanceKey::default(), &tried, one_client())
            .unwrap();
        assert!(Arc::ptr_eq(lease.backend(), cold));
    }
}

#[tokio::test(start_paused = true)]
async fn slow_start_limits_a_backend_that_a_new_pool_has_too() {
    let config = pool_config(LeastSessions, &[1; 2]);
    let one = config.backends[..1].to_vec();
    let before = built(
        &config::Pool {
            backends: one,
            ..config.clone()
        },
        None,
    );
    let config = config::Pool {
        slow_start: config::DurationValue(Duration::from_secs(100)),
        ..config
    };
    let mut backends = Backends::containing(before.backends());
    let mut pool = |before| {
        Pool::new("test", &config, &mut backends, &mut vec![]).carry_over(before, &mut backends)
    };
    let pools = [pool(None), pool(Some(&before))];
    let now = Instant::now();
    // Nothing takes effect before all are committed.
    assert!(
        pools
            .iter()
            .all(|pool| !pool.is_warming(&pool.backends()[1], now))
    );
    pools.iter().for_each(|pool| pool.start_new_backends(now));
    pools.iter().for_each(|pool| pool.commit());
    for pool in pools {
        let warming = pool.backends();
        let warming = warming.iter().map(|backend| pool.is_warming(backend, now));
        assert_eq!(warming.collect::<Vec<_>>(), [false, true]);
    }
}

/// The sessions of ten backends, the last of which is new, after the excess of the others was closed and has
/// reconnected.
fn rebalanced_loads(balance: config::Balance) -> Vec<u64> {
    let nine = pool(balance, &[1; 9]);
    let mut held: Vec<Lease> = (0..900).map(|_| pick_lease(&nine)).collect();
    let ten = built(&pool_config(balance, &[1; 10]), Some(&nine));
    ten.start_new_backends(Instant::now());
    ten.commit();
    let load_shares = ten.load_shares(Instant::now());
    let mut surplus: HashMap<_, _> = load_shares
        .iter()
        .map(|it| (it.backend.clone(), it.surplus()))
        .collect();
    held.retain(|lease| match surplus.get_mut(lease.backend().name()) {
        Some(left @ 1..) => {
            *left -= 1;
            false
        }
        _ => true,
    });
    held.extend(
        (held.len()..900)
            .map(|_| pick_lease(&ten))
            .collect::<Vec<_>>(),
    );
    leases(&ten)
}

#[test]
fn rebalanced_sessions_move_to_the_new_backend() {
    assert_eq!(rebalanced_loads(LeastSessions), [90; 10]);
    eprintln!(
        "FIG {:?} {:?}",
        rebalanced_loads(RoundRobin),
        rebalanced_loads(RandomTwo)
    );
}

#[test]
fn unavailable_member_has_no_load_share() {
    let mut pool_config = pool_config(LeastSessions, &[1, 1, 2, 1]);
    pool_config.backends[1].value.max_sessions = 5;
    let pool = built(&pool_config, None);
    let _held: Vec<_> = (0..40).map(|_| pick_lease(&pool)).collect();
    let shares = || -> Vec<u64> {
        let load_shares = pool.load_shares(Instant::now());
        load_shares.iter().map(|it| it.share).collect()
    };
    assert_eq!(shares(), [9, 5, 18, 9]);
    let all = pool.backends();
    all[2].drain(true);
    eject(&all[0]);
    assert_eq!(shares(), [5, 9]);
    all[2].drain(false);
    assert_eq!(shares().len(), 3);
}
