use crate::{
    config,
    upstream::health::{error::CheckError, state::*},
};
use Condition::{Down, Ejected, Up};
use config::DurationValue;
use proptest::prelude::*;
use std::time::Duration;

const REFUSED: FailureSource = FailureSource::Connect { timed_out: false };

const TIMED_OUT: FailureSource = FailureSource::Connect { timed_out: true };

const PASSED_CHECK: Result<(), CheckError> = Ok(());

fn failed_check() -> Result<(), CheckError> {
    Err(CheckError::Timeout(Duration::from_secs(1)))
}

fn passive(fails: u32) -> config::Passive {
    config::Passive {
        fails,
        within: DurationValue(Duration::from_secs(10)),
        eject: DurationValue(Duration::from_secs(30)),
    }
}

#[test]
fn first_failure_marks_an_unknown_backend_down() {
    let mut state = HealthState::default();
    assert_eq!(state.condition(), Up);
    state.record_check(failed_check(), 2, 3);
    assert_eq!(state.condition(), Down);
    assert_eq!(state.why().unwrap(), "no answer within 1s (health.timeout)");
    state.record_check(PASSED_CHECK, 2, 3);
    assert_eq!(state.condition(), Down);
    state.record_check(PASSED_CHECK, 2, 3);
    assert_eq!((state.condition(), state.why()), (Up, None));
}

#[test]
fn healthy_backend_goes_down_after_fall_failures() {
    let mut state = HealthState::default();
    for found in [
        PASSED_CHECK,
        failed_check(),
        failed_check(),
        PASSED_CHECK,
        failed_check(),
        failed_check(),
    ] {
        state.record_check(found, 2, 3);
        assert_eq!(state.condition(), Up);
    }
    state.record_check(failed_check(), 2, 3);
    assert_eq!(state.condition(), Down);
}

#[test]
fn without_checks_no_backend_is_down() {
    let mut state = HealthState::default();
    state.record_check(failed_check(), 2, 3);
    state.forget_checks();
    assert_eq!((state.condition(), state.why()), (Up, None));
}

fn client(n: u8, is_only: bool) -> FailureSource {
    FailureSource::Client {
        client: SubnetKey::of([192, 0, 2, n].into()),
        is_only,
    }
}

/// Each event is a failure: 0 of the backend, otherwise of this client; the last one must eject or must not.
#[test]
fn failures_of_one_client_eject_only_if_no_other_client_is_active() {
    for (fails, events, is_only, expected) in [
        (1, &[1][..], true, Ejected),
        (1, &[1, 1, 1], false, Up),
        (1, &[1, 2], false, Ejected),
        (1, &[0], false, Ejected),
        (2, &[1, 1, 1], true, Up),
        (2, &[1, 0], false, Up),
        (2, &[1, 0, 1], false, Up),
        (2, &[1, 0, 0], false, Ejected),
        (2, &[1, 0], true, Up),
        (2, &[0, 1], true, Ejected),
        (2, &[1, 2], false, Ejected),
        (3, &[1, 2, 2, 1], false, Up),
        (3, &[1, 2, 0], false, Ejected),
        (3, &[0, 0, 1, 1], false, Up),
        (3, &[0, 0, 1, 2], false, Ejected),
    ] {
        let (mut state, now) = (HealthState::default(), Instant::now());
        for event in events {
            assert_eq!(state.condition(), Up, "{fails} {events:?} {is_only}");
            let source = match event {
                0 => REFUSED,
                n => client(*n, is_only),
            };
            state.record_failure(now, &passive(fails), "silent".to_owned(), source);
            assert!(state.failures.len() <= fails as usize);
        }
        assert_eq!(state.condition(), expected, "{fails} {events:?} {is_only}");
    }
}

#[test]
fn repeated_disconnects_of_one_client_count_once() {
    let (mut state, now) = (HealthState::default(), Instant::now());
    let mut left =
        |n| state.record_failure(now, &passive(3), "silent".to_owned(), client(n, false));
    (0..9).for_each(|_| left(1));
    left(2);
    assert_eq!(state.condition(), Up);
    state.record_failure(now, &passive(3), "refused".to_owned(), REFUSED);
    assert_eq!(state.condition(), Ejected);
}

#[test]
fn unanswered_handshakes_within_the_interval_eject_for_a_limited_time() {
    let (mut state, start) = (HealthState::default(), Instant::now());
    let second = |n: u64| start + Duration::from_secs(n);
    let fail = |state: &mut HealthState, n: u8, at: u64| {
        state.record_failure(
            second(at),
            &passive(5),
            "silent".to_owned(),
            client(n, false),
        );
    };
    for n in 0..4 {
        fail(&mut state, n, n.into());
    }
    // The first failure is too old, and a success clears the rest.
    fail(&mut state, 4, 11);
    assert_eq!(state.condition(), Up);
    state.record_response();
    assert_eq!(state.why(), None);
    for n in 12..17 {
        assert_eq!(state.condition(), Up);
        fail(&mut state, n, n.into());
    }
    assert_eq!(state.condition(), Ejected);
    // Failures during an ejection do not extend it.
    fail(&mut state, 20, 20);
    assert_eq!(state.ejected_until(), Some(second(46)));
    assert_eq!(state.probe_due(), None);
    state.expire_ejection(second(45));
    assert_eq!(state.condition(), Ejected);
    state.expire_ejection(second(46));
    assert_eq!(state.condition(), Up);
    assert_eq!(state.why().unwrap(), "silent");
}

#[test]
fn plain_response_does_not_clear_failed_handshakes() {
    let (mut state, now) = (HealthState::default(), Instant::now());
    for n in 0..2 {
        state.record_failure(now, &passive(4), "silent".to_owned(), client(n, false));
        state.record_failure(now, &passive(4), "refused".to_owned(), REFUSED);
        state.record_plain_response();
        assert_eq!(state.condition(), Up);
    }
    assert_eq!(state.why().unwrap(), "refused");
    for n in 2..4 {
        assert_eq!(state.condition(), Up);
        state.record_failure(now, &passive(4), "silent".to_owned(), client(n, false));
    }
    assert_eq!(state.condition(), Ejected);
    state.record_plain_response();
    assert_eq!(state.condition(), Ejected);
    state.record_response();
    assert_eq!((state.condition(), state.why()), (Up, None));
    state.record_failure(now, &passive(3), "refused".to_owned(), REFUSED);
    state.record_plain_response();
    assert_eq!(state.why(), None);
}

#[test]
fn consecutive_failed_connects_eject_whatever_the_interval() {
    let (mut state, start) = (HealthState::default(), Instant::now());
    let second = |n: u64| start + Duration::from_secs(n);
    let fail = |state: &mut HealthState, at: u64| {
        state.record_failure(second(at), &passive(3), "refused".to_owned(), REFUSED);
    };
    fail(&mut state, 0);
    fail(&mut state, 100);
    state.record_connected();
    fail(&mut state, 200);
    fail(&mut state, 300);
    assert_eq!(state.condition(), Up);
    fail(&mut state, 400);
    assert_eq!(state.condition(), Ejected);
}

#[test]
fn ejection_by_failed_connects_ends_with_a_connect_after_its_time() {
    let (mut state, start) = (HealthState::default(), Instant::now());
    let second = |n: u64| start + Duration::from_secs(n);
    let probe_fails = || Err(("refused".to_owned(), false));
    state.record_failure(start, &passive(1), "refused".to_owned(), REFUSED);
    assert_eq!(state.probe_due(), Some(second(30)));
    state.expire_ejection(second(31));
    assert_eq!(state.condition(), Ejected);
    state.record_probe(second(31), &passive(1), probe_fails());
    assert_eq!(state.probe_due(), Some(second(32)));
    state.record_probe(second(32), &passive(1), probe_fails());
    assert_eq!(state.probe_due(), Some(second(34)));
    for _ in 0..100 {
        state.record_probe(second(34), &passive(1), probe_fails());
    }
    assert_eq!(state.probe_due(), Some(second(39)));
    state.record_probe(second(39), &passive(1), Ok(()));
    assert_eq!((state.condition(), state.probe_due()), (Up, None));
    // A connect before the end does not shorten it.
    state.record_failure(second(40), &passive(1), "refused".to_owned(), REFUSED);
    state.record_connected();
    assert_eq!(state.condition(), Ejected);
    state.expire_ejection(second(70));
    assert_eq!(state.condition(), Up);
}

#[test]
fn connect_that_timed_out_makes_the_last_choice_and_is_probed() {
    let (mut state, start) = (HealthState::default(), Instant::now());
    let fail = |state: &mut HealthState, source| {
        state.record_failure(start, &passive(9), "no answer".to_owned(), source);
    };
    fail(&mut state, REFUSED);
    assert_eq!((state.tier(), state.probe_due()), (HealthTier::UP, None));
    fail(&mut state, TIMED_OUT);
    assert_eq!(
        (state.tier(), state.probe_due()),
        (HealthTier::SILENT, Some(start))
    );
    // A refusal is no success.
    fail(&mut state, REFUSED);
    assert_eq!(state.tier(), HealthTier::SILENT);
    state.record_probe(start, &passive(9), Err(("no answer".to_owned(), true)));
    assert_eq!(state.probe_due(), Some(start + Duration::from_secs(1)));
    state.record_probe(start, &passive(9), Ok(()));
    assert_eq!((state.tier(), state.probe_due()), (HealthTier::UP, None));
    fail(&mut state, TIMED_OUT);
    state.record_check(failed_check(), 1, 1);
    assert_eq!((state.condition(), state.probe_due()), (Down, None));
    state.record_check(PASSED_CHECK, 1, 1);
    assert_eq!(state.tier(), HealthTier::UP);
    fail(&mut state, TIMED_OUT);
    state.record_check(PASSED_CHECK, 1, 1);
    assert_eq!(state.tier(), HealthTier::UP);
}

#[test]
fn zero_fails_never_ejects_and_a_response_ends_an_ejection() {
    let mut state = HealthState::default();
    for _ in 0..2000 {
        state.record_failure(Instant::now(), &passive(0), String::new(), REFUSED);
    }
    assert_eq!(state.condition(), Up);
    state.record_failure(Instant::now(), &passive(1), String::new(), REFUSED);
    assert_eq!(state.condition(), Ejected);
    state.record_response();
    assert_eq!(state.condition(), Up);
}

#[test]
fn sessions_do_not_end_down_and_recovery_clears_failures() {
    let mut state = HealthState::default();
    state.record_failure(Instant::now(), &passive(1), "refused".to_owned(), REFUSED);
    state.record_check(failed_check(), 1, 1);
    assert_eq!(state.condition(), Down);
    state.record_response();
    assert_eq!(state.condition(), Down);
    assert_eq!(state.why().unwrap(), "no answer within 1s (health.timeout)");
    state.record_check(PASSED_CHECK, 1, 1);
    assert_eq!(state.condition(), Up);
}

#[test]
fn successful_check_does_not_end_an_ejection() {
    let mut state = HealthState::default();
    state.record_failure(Instant::now(), &passive(1), "refused".to_owned(), REFUSED);
    state.record_check(PASSED_CHECK, 1, 1);
    assert_eq!(state.condition(), Ejected);
    assert_eq!(state.why().unwrap(), "refused");
}

/// Returns how many of the last results are `expected`.
fn trailing(results: &[bool], expected: bool) -> usize {
    let last = results.iter().rev();
    last.take_while(|result| **result == expected).count()
}

#[derive(Debug, Clone)]
enum Event {
    Failed,
    Answered,
    Checked(bool),
    Unchecked,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => Just(Event::Failed),
        1 => Just(Event::Answered),
        3 => any::<bool>().prop_map(Event::Checked),
        1 => Just(Event::Unchecked),
    ]
}

proptest! {
    #[test]
    fn condition_follows_rise_and_fall(
        results in proptest::collection::vec(any::<bool>(), 1..60),
        rise in 1_u32..5,
        fall in 1_u32..5,
    ) {
        let mut state = HealthState::default();
        let mut expected = Up;
        for n in 1..=results.len() {
            let seen = &results[..n];
            let found = if seen[n - 1] { PASSED_CHECK } else { failed_check() };
            state.record_check(found, rise, fall);
            if trailing(seen, false) >= fall as usize || seen == [false] {
                expected = Down;
            } else if trailing(seen, true) >= rise as usize {
                expected = Up;
            }
            prop_assert_eq!(state.condition(), expected, "{:?}", seen);
        }
    }

    #[test]
    fn backend_is_ejected_exactly_after_consecutive_failed_connects(
        events in proptest::collection::vec((0_u64..60, prop::bool::weighted(0.8)), 1..80),
        fails in 1_u32..6,
    ) {
        let (mut state, start) = (HealthState::default(), Instant::now());
        let (mut now, mut failures) = (0, 0);
        for (wait, fails_now) in events {
            now += wait;
            let moment = start + Duration::from_secs(now);
            state.expire_ejection(moment);
            if fails_now {
                state.record_failure(moment, &passive(fails), "refused".to_owned(), REFUSED);
                failures += 1;
            } else {
                state.record_response();
                failures = 0;
            }
            let expected = if failures >= fails { Ejected } else { Up };
            prop_assert_eq!(state.condition(), expected);
        }
    }

    #[test]
    fn state_stays_bounded_and_every_unhealthy_condition_has_a_cause(
        events in proptest::collection::vec((0_u64..20, event(), 1_u32..6), 1..200),
    ) {
        let (mut state, mut now) = (HealthState::default(), Instant::now());
        for (wait, event, count) in events {
            now += Duration::from_secs(wait);
            state.expire_ejection(now);
            match event {
                Event::Failed => state.record_failure(now, &passive(count), "refused".to_owned(), REFUSED),
                Event::Answered => state.record_response(),
                Event::Checked(true) => state.record_check(PASSED_CHECK, count, count),
                Event::Checked(false) => state.record_check(failed_check(), count, count),
                Event::Unchecked => state.forget_checks(),
            }
            prop_assert!(state.failures.len() < 6);
            match state.condition() {
                Down => prop_assert!(state.why().is_some()),
                Ejected => prop_assert!(state.probe_due().or(state.ejection_ends()).is_some()),
                Up => {}
            }
        }
    }
}
