use super::{super::sticky::Affinity, *};
use config::Balance::{Hash, LeastSessions, RandomTwo, RoundRobin};
use proptest::prelude::*;
use std::collections::HashMap;

/// A pool whose backends have these weights; their ports are 9000, 9001 …
fn written(balance: config::Balance, weights: &[u16]) -> config::Pool {
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
        retry: config::Retry::default(),
        admission: config::Admission {
            handshakes: 0,
            ..config::Admission::default()
        },
        slow_start: config::DurationValue(Duration::ZERO),
        rebalance: config::Rebalance::Off,
    }
}

fn built(written: &config::Pool, previous: Option<&Pool>) -> Pool {
    let mut known = Backends::known(previous.iter().flat_map(|pool| pool.backends()));
    Pool::new("test", written, &mut known, &mut vec![]).succeed(previous, &mut known)
}

fn pool(balance: config::Balance, weights: &[u16]) -> Pool {
    built(&written(balance, weights), None)
}

fn key(pool: &Pool, path: &str) -> BalanceKey {
    pool.key(&HeaderMap::new(), path, None, [192, 0, 2, 1].into())
}

fn place(pool: &Pool) -> Lease {
    pool.pick(BalanceKey::default(), &[]).unwrap()
}

fn leases(pool: &Pool) -> Vec<u64> {
    pool.backends()
        .iter()
        .map(|backend| backend.leases())
        .collect()
}

/// Returns how often each member is selected if every lease is released at once.
fn turns(pool: &Pool, times: usize) -> Vec<u64> {
    let mut chosen: HashMap<Arc<str>, u64> = HashMap::new();
    for _ in 0..times {
        *chosen
            .entry(place(pool).backend().name().clone())
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
fn ten_thousand_connects_are_shared_by_weight() {
    let weights = [1, 2, 4];
    for balance in [LeastSessions, RoundRobin] {
        let held = pool(balance, &weights);
        let _held: Vec<_> = (0..10_000).map(|_| place(&held)).collect();
        assert_shares(&leases(&held), &weights, 0.02);
        assert_shares(&turns(&pool(balance, &weights), 10_000), &weights, 0.02);
    }
    let held = pool(RandomTwo, &weights);
    let _held: Vec<_> = (0..10_000).map(|_| place(&held)).collect();
    assert_shares(&leases(&held), &weights, 0.02);
    let held = pool(Hash, &weights);
    let _held: Vec<_> = (0..10_000)
        .map(|n| held.pick(key(&held, &format!("/{n}")), &[]).unwrap())
        .collect();
    assert_shares(&leases(&held), &weights, 0.1);
}

#[test]
fn turns_are_smooth() {
    let pool = pool(RoundRobin, &[1, 2, 4]);
    for _ in 0..10 {
        assert_eq!(turns(&pool, 7), [1, 2, 4]);
    }
}

#[test]
fn absent_member_does_not_catch_up() {
    let pool = pool(RoundRobin, &[1, 1]);
    pool.members.load().entries()[0].backend.drain(true);
    assert_eq!(turns(&pool, 100), [0, 100]);
    pool.members.load().entries()[0].backend.drain(false);
    // To within one slot.
    assert_eq!(turns(&pool, 10), [6, 4]);
}

#[test]
fn the_fewest_leases_win_and_a_drop_gives_back() {
    let pool = pool(LeastSessions, &[1, 1]);
    let first = place(&pool);
    let second = place(&pool);
    assert_ne!(first.backend().name(), second.backend().name());
    let freed = first.backend().name().clone();
    drop(first);
    for _ in 0..4 {
        assert_eq!(place(&pool).backend().name(), &freed);
    }
}

#[test]
fn random_two_takes_the_emptier_and_never_the_same_twice() {
    let pool = pool(RandomTwo, &[1, 1]);
    let held: Vec<_> = (0..1000).map(|_| place(&pool)).collect();
    assert_eq!(leases(&pool), [500, 500]);
    drop(held);
    assert_eq!(leases(&pool), [0, 0]);
}

#[test]
fn a_reload_keeps_leases_and_applies_what_it_changes_at_once() {
    let mut config = written(LeastSessions, &[1, 1]);
    let old = built(&config, None);
    let held: Vec<_> = (0..20).map(|_| place(&old)).collect();
    config.backends.remove(0);
    config.backends[0].value.weight = 3;
    config.backends[0].value.max_sessions = 12;
    let added = config::Backend::at("ws://127.0.0.1:9999".parse().unwrap());
    config.backends.push(config::Located::nowhere(added));
    let new = built(&config, Some(&old));
    new.commit();
    assert_eq!(leases(&new), [10, 0]);
    let more: Vec<_> = (0..6).map(|_| place(&new)).collect();
    // At most 12, though its weight would allow 12 of 16.
    assert_eq!(leases(&new), [12, 4]);
    drop(held);
    assert_eq!(leases(&new), [2, 4]);
    drop(more);
    assert_eq!((leases(&new), leases(&old)), (vec![0, 0], vec![0, 0]));
}

#[test]
fn pools_that_have_the_same_backend_count_together() {
    let mut backends = Backends::default();
    let config = written(LeastSessions, &[1, 1]);
    let [one, other] =
        ["one", "other"].map(|name| Pool::new(name, &config, &mut backends, &mut vec![]));
    let _first = place(&one);
    let second = place(&other);
    assert_eq!((leases(&one), leases(&other)), (vec![1, 1], vec![1, 1]));
    // It is still there under another name.
    let mut known = Backends::known(other.backends());
    let renamed = Pool::new("renamed", &config, &mut known, &mut vec![]);
    drop(second);
    assert_eq!(leases(&renamed), leases(&one));
}

#[test]
fn why_there_is_no_place() {
    let mut config = written(LeastSessions, &[1, 1]);
    for backend in &mut config.backends {
        backend.value.max_sessions = 1;
    }
    for balance in [LeastSessions, RoundRobin, RandomTwo, Hash] {
        config.balance = balance;
        let pool = built(&config, None);
        let acquire = |tried: &[_]| pool.pick(BalanceKey::default(), tried);
        let one = acquire(&[]).unwrap();
        let other = acquire(&[]).unwrap();
        assert_eq!(acquire(&[]).unwrap_err(), Unavailable::Full);
        drop((one, other));
        let both: Vec<_> = pool.backends();
        let lease = acquire(&both[..1]).unwrap();
        assert!(Arc::ptr_eq(lease.backend(), &both[1]));
        assert_eq!(acquire(&both).unwrap_err(), Unavailable::None);
        drop(lease);
        both[0].drain(true);
        assert_eq!(acquire(&both[1..]).unwrap_err(), Unavailable::None);
        both[1].drain(true);
        assert_eq!(acquire(&[]).unwrap_err(), Unavailable::Draining);
        let empty = built(&written(balance, &[]), None);
        let none = empty.pick(BalanceKey::default(), &[]);
        assert_eq!(none.unwrap_err(), Unavailable::None);
    }
}

fn eject(backend: &Backend) {
    let settings = config::Passive {
        fails: 1,
        ..config::Passive::default()
    };
    let health = backend.health();
    health.failed(
        tokio::time::Instant::now(),
        &settings,
        "refused".to_owned(),
        None,
    );
}

#[test]
fn unhealthy_members_get_work_only_if_all_are_unhealthy() {
    let mut config = written(LeastSessions, &[1, 1, 1]);
    for balance in [LeastSessions, RoundRobin, RandomTwo, Hash] {
        config.balance = balance;
        config.all_down = config::AllDown::Try;
        let pool = built(&config, None);
        let all: Vec<_> = pool.backends();
        eject(&all[0]);
        let held: Vec<_> = (0..20).map(|_| place(&pool)).collect();
        assert_eq!(leases(&pool)[0], 0, "{balance:?}");
        drop(held);
        // A backend that has failed for this request is not retried, and an unhealthy one is not used while others are
        // up.
        let others = pool.pick(BalanceKey::default(), &all[1..]);
        assert_eq!(others.unwrap_err(), Unavailable::None);
        all[1].drain(true);
        eject(&all[2]);
        let held: Vec<_> = (0..20).map(|_| place(&pool)).collect();
        assert_eq!(leases(&pool)[1], 0, "{balance:?}");
        drop(held);
        config.all_down = config::AllDown::Refuse;
        let pool = built(&config, Some(&pool));
        let none = pool.pick(BalanceKey::default(), &[]);
        assert_eq!(none.unwrap_err(), Unavailable::Down);
        all[2].health().answered();
        assert!(Arc::ptr_eq(place(&pool).backend(), &all[2]));
        all[2].drain(true);
        all[0].drain(true);
        let none = pool.pick(BalanceKey::default(), &[]);
        assert_eq!(none.unwrap_err(), Unavailable::Draining);
    }
}

#[test]
fn sid_selects_an_unhealthy_backend_but_a_cookie_does_not() {
    let pool = pool(LeastSessions, &[1, 1]);
    let [own, other] = [0, 1].map(|n| pool.members.load().entries()[n].clone());
    let bound = |only| {
        let seed = own.id_hash;
        let key = BalanceKey::default().bound_to(Some(Affinity { seed, only }));
        pool.pick(key, &[]).unwrap().backend().clone()
    };
    assert!(Arc::ptr_eq(&bound(false), &own.backend));
    eject(&own.backend);
    assert!(Arc::ptr_eq(&bound(false), &other.backend));
    assert!(Arc::ptr_eq(&bound(true), &own.backend));
}

#[test]
fn the_same_key_leads_to_the_same_backend_until_that_has_too_much() {
    let pool = pool(Hash, &[1; 4]);
    let room = key(&pool, "/room");
    let mut held = vec![];
    for _ in 0..400 {
        held.push(pool.pick(room, &[]).unwrap());
    }
    let mut counts = leases(&pool);
    counts.sort_unstable();
    // 5/4 of a hundred; the second and third member take the rest.
    assert_eq!(counts, [25, 125, 125, 125]);
    held.clear();
    let few: Vec<_> = (0..8).map(|_| pool.pick(room, &[]).unwrap()).collect();
    let first = few[0].backend();
    assert!(few.iter().all(|lease| Arc::ptr_eq(lease.backend(), first)));
}

#[test]
fn many_at_once_never_overfill() {
    let mut config = written(LeastSessions, &[1, 2, 3]);
    for backend in &mut config.backends {
        backend.value.max_sessions = 100;
    }
    for balance in [LeastSessions, RoundRobin, RandomTwo, Hash] {
        config.balance = balance;
        let pool = built(&config, None);
        let held = std::thread::scope(|scope| {
            let threads = [(); 4].map(|()| {
                scope.spawn(|| {
                    let mine = (0..100).map(|_| pool.pick(BalanceKey::default(), &[]).ok());
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
fn places(pool: &Pool, keys: usize) -> Vec<Arc<str>> {
    let place = |n| {
        let lease = pool.pick(key(pool, &format!("/{n}")), &[]).unwrap();
        lease.backend().name().clone()
    };
    (0..keys).map(place).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn only_keys_of_added_or_removed_members_move(
        weights in proptest::collection::vec(1_u16..=8, 2..12),
        gone in any::<prop::sample::Index>(),
    ) {
        let mut config = written(Hash, &weights);
        let whole = built(&config, None);
        let gone = config.backends.remove(gone.index(weights.len())).value;
        let rest = built(&config, Some(&whole));
        let (before, after) = (places(&whole, 2000), places(&rest, 2000));
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
    fn no_member_gets_more_than_five_quarters_of_its_share(
        weights in proptest::collection::vec(1_u16..=8, 1..12),
        keys in proptest::collection::vec(0_usize..5, 1..600),
    ) {
        let pool = pool(Hash, &weights);
        let mut held = vec![];
        for one in keys {
            held.push(pool.pick(key(&pool, &format!("/{one}")), &[]).unwrap());
            let total = held.len() as u64;
            let weight: u64 = weights.iter().map(|w| u64::from(*w)).sum();
            for (leases, its) in leases(&pool).into_iter().zip(&weights) {
                let bound = (5 * total * u64::from(*its)).div_ceil(4 * weight);
                prop_assert!(leases <= bound.max(8), "{leases} of {total}, {its}/{weight}");
            }
        }
    }

    #[test]
    fn whatever_comes_and_goes_leases_are_counted_and_shares_kept(
        balance in prop::sample::select(vec![LeastSessions, RoundRobin, RandomTwo, Hash]),
        weights in proptest::collection::vec(1_u16..=8, 1..8),
        moves in proptest::collection::vec(any::<(bool, prop::sample::Index)>(), 1..200),
    ) {
        let pool = pool(balance, &weights);
        let mut held: Vec<Lease> = vec![];
        for (comes, which) in moves {
            match comes || held.is_empty() {
                true => held.push(place_of(&pool, which.index(7))),
                false => drop(held.swap_remove(which.index(held.len()))),
            }
            prop_assert_eq!(leases(&pool).iter().sum::<u64>(), held.len() as u64);
        }
        drop(held);
        prop_assert_eq!(leases(&pool).iter().sum::<u64>(), 0);
    }
}

fn place_of(pool: &Pool, n: usize) -> Lease {
    pool.pick(key(pool, &format!("/{n}")), &[]).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_new_backend_gets_a_growing_part_and_one_alone_all() {
    let mut config = written(LeastSessions, &[1; 3]);
    config.slow_start = config::DurationValue(Duration::from_secs(100));
    let added = config.backends.pop().unwrap();
    let old = built(&config, None);
    let now = Instant::now();
    assert!(
        old.backends()
            .iter()
            .all(|backend| !old.is_warming(backend, now))
    );
    let _held: Vec<_> = (0..20_000).map(|_| place(&old)).collect();
    config.backends.push(added);
    let new = built(&config, Some(&old));
    new.commit();
    let [known @ .., cold] = &new.backends()[..] else {
        unreachable!("there are three");
    };
    assert!(known.iter().all(|backend| !new.is_warming(backend, now)));
    assert!(new.is_warming(cold, now));
    // It has by far the fewest leases: it is selected whenever it is considered.
    let mut held = vec![];
    for expected in [0.1, 0.55] {
        let before = cold.leases();
        held.extend((0..2000).map(|_| place(&new)));
        let share = (cold.leases() - before) as f64 / 2000.0;
        // Four standard deviations.
        assert!((share - expected).abs() < 0.05, "{share}");
        tokio::time::advance(Duration::from_secs(50)).await;
    }
    assert!(!new.is_warming(cold, Instant::now()));
    let before = cold.leases();
    held.extend((0..2000).map(|_| place(&new)));
    assert_eq!(cold.leases() - before, 2000);
    // Recovered again, and alone.
    cold.start_slow(Instant::now());
    assert!(new.is_warming(cold, Instant::now()));
    let tried: Vec<_> = known.to_vec();
    for _ in 0..50 {
        let lease = new.pick(BalanceKey::default(), &tried).unwrap();
        assert!(Arc::ptr_eq(lease.backend(), cold));
    }
}

/// The sessions of ten backends, the last of which is new, after the excess of the others was closed and has
/// reconnected.
fn evened_out(balance: config::Balance) -> Vec<u64> {
    let nine = pool(balance, &[1; 9]);
    let mut held: Vec<Lease> = (0..900).map(|_| place(&nine)).collect();
    let ten = built(&written(balance, &[1; 10]), Some(&nine));
    ten.commit();
    let standings = ten.load_shares(Instant::now());
    let mut surplus: HashMap<_, _> = standings
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
    held.extend((held.len()..900).map(|_| place(&ten)).collect::<Vec<_>>());
    leases(&ten)
}

#[test]
fn rebalanced_sessions_move_to_the_new_backend() {
    assert_eq!(evened_out(LeastSessions), [90; 10]);
    eprintln!(
        "FIG {:?} {:?}",
        evened_out(RoundRobin),
        evened_out(RandomTwo)
    );
}

#[test]
fn unavailable_member_has_no_load_share() {
    let mut written = written(LeastSessions, &[1, 1, 2, 1]);
    written.backends[1].value.max_sessions = 5;
    let pool = built(&written, None);
    let _held: Vec<_> = (0..40).map(|_| place(&pool)).collect();
    let shares = || -> Vec<u64> {
        let standings = pool.load_shares(Instant::now());
        standings.iter().map(|it| it.share).collect()
    };
    assert_eq!(shares(), [9, 5, 18, 9]);
    let all = pool.backends();
    all[2].drain(true);
    eject(&all[0]);
    assert_eq!(shares(), [5, 9]);
    all[2].drain(false);
    assert_eq!(shares().len(), 3);
}
