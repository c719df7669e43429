use super::*;
use Condition::{Down, Ejected, Up};
use config::DurationValue;
use proptest::prelude::*;
use std::time::Duration;

const WELL: Result<(), String> = Ok(());

fn ill() -> Result<(), String> {
    Err("no answer".to_owned())
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
    let mut machine = HealthState::default();
    assert_eq!(machine.condition(), Up);
    machine.checked(ill(), 2, 3);
    assert_eq!(machine.condition(), Down);
    assert_eq!(machine.why().unwrap(), "no answer");
    machine.checked(WELL, 2, 3);
    assert_eq!(machine.condition(), Down);
    machine.checked(WELL, 2, 3);
    assert_eq!((machine.condition(), machine.why()), (Up, None));
}

#[test]
fn healthy_backend_goes_down_after_fall_failures() {
    let mut machine = HealthState::default();
    for found in [WELL, ill(), ill(), WELL, ill(), ill()] {
        machine.checked(found, 2, 3);
        assert_eq!(machine.condition(), Up);
    }
    machine.checked(ill(), 2, 3);
    assert_eq!(machine.condition(), Down);
}

#[test]
fn without_checks_no_backend_is_down() {
    let mut machine = HealthState::default();
    machine.checked(ill(), 2, 3);
    machine.unchecked();
    assert_eq!((machine.condition(), machine.why()), (Up, None));
}

#[test]
fn one_client_that_leaves_again_and_again_counts_once() {
    let (mut machine, now) = (HealthState::default(), Instant::now());
    let client = |n: u8| Some([192, 0, 2, n].into());
    let mut left = |n| machine.failed(now, &passive(3), "silent".to_owned(), client(n));
    (0..9).for_each(|_| left(1));
    left(2);
    assert_eq!(machine.condition(), Up);
    machine.failed(now, &passive(3), "refused".to_owned(), None);
    assert_eq!(machine.condition(), Ejected);
}

#[test]
fn failures_close_together_eject_for_a_while() {
    let (mut machine, start) = (HealthState::default(), Instant::now());
    let second = |n: u64| start + Duration::from_secs(n);
    for n in 0..4 {
        machine.failed(second(n), &passive(5), "refused".to_owned(), None);
    }
    // The first failure is too old, and a success clears the rest.
    machine.failed(second(11), &passive(5), "refused".to_owned(), None);
    assert_eq!(machine.condition(), Up);
    machine.answered();
    assert_eq!(machine.why(), None);
    for n in 12..17 {
        assert_eq!(machine.condition(), Up);
        machine.failed(second(n), &passive(5), "refused".to_owned(), None);
    }
    assert_eq!(machine.condition(), Ejected);
    // Failures during an ejection do not extend it.
    machine.failed(second(20), &passive(1), "refused".to_owned(), None);
    assert_eq!(machine.ejected_until(), Some(second(46)));
    machine.expire_ejection(second(45));
    assert_eq!(machine.condition(), Ejected);
    machine.expire_ejection(second(46));
    assert_eq!(machine.condition(), Up);
    assert_eq!(machine.why().unwrap(), "refused");
}

#[test]
fn zero_fails_never_ejects_and_a_response_ends_an_ejection() {
    let mut machine = HealthState::default();
    for _ in 0..2000 {
        machine.failed(Instant::now(), &passive(0), String::new(), None);
    }
    assert_eq!(machine.condition(), Up);
    machine.failed(Instant::now(), &passive(1), String::new(), None);
    assert_eq!(machine.condition(), Ejected);
    machine.answered();
    assert_eq!(machine.condition(), Up);
}

#[test]
fn down_is_down_whatever_sessions_say_and_coming_back_is_a_fresh_start() {
    let mut machine = HealthState::default();
    machine.failed(Instant::now(), &passive(1), "refused".to_owned(), None);
    machine.checked(ill(), 1, 1);
    assert_eq!(machine.condition(), Down);
    machine.answered();
    assert_eq!(machine.condition(), Down);
    assert_eq!(machine.why().unwrap(), "no answer");
    machine.checked(WELL, 1, 1);
    assert_eq!(machine.condition(), Up);
}

#[test]
fn a_check_that_is_well_ends_no_ejection() {
    let mut machine = HealthState::default();
    machine.failed(Instant::now(), &passive(1), "refused".to_owned(), None);
    machine.checked(WELL, 1, 1);
    assert_eq!(machine.condition(), Ejected);
    assert_eq!(machine.why().unwrap(), "refused");
}

/// Returns how many of the last results are `wanted`.
fn trailing(results: &[bool], wanted: bool) -> usize {
    let last = results.iter().rev();
    last.take_while(|result| **result == wanted).count()
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
    fn the_last_results_decide_and_nothing_else(
        results in proptest::collection::vec(any::<bool>(), 1..60),
        rise in 1_u32..5,
        fall in 1_u32..5,
    ) {
        let mut machine = HealthState::default();
        let mut expected = Up;
        for n in 1..=results.len() {
            let seen = &results[..n];
            let found = if seen[n - 1] { WELL } else { ill() };
            machine.checked(found, rise, fall);
            if trailing(seen, false) >= fall as usize || seen == [false] {
                expected = Down;
            } else if trailing(seen, true) >= rise as usize {
                expected = Up;
            }
            prop_assert_eq!(machine.condition(), expected, "{:?}", seen);
        }
    }

    #[test]
    fn failures_eject_exactly_when_enough_are_close_together(
        events in proptest::collection::vec((0_u64..6, prop::bool::weighted(0.9)), 1..80),
        fails in 1_u32..6,
    ) {
        let (mut machine, start) = (HealthState::default(), Instant::now());
        let (mut now, mut failures, mut until) = (0, Vec::new(), None);
        for (wait, fails_now) in events {
            now += wait;
            let moment = start + Duration::from_secs(now);
            machine.expire_ejection(moment);
            until = until.filter(|until| now < *until);
            if !fails_now {
                machine.answered();
                failures.clear();
                until = None;
            } else {
                machine.failed(moment, &passive(fails), "refused".to_owned(), None);
                if until.is_none() {
                    failures.push(now);
                    if failures.iter().filter(|then| now - **then <= 10).count() >= fails as usize {
                        failures.clear();
                        until = Some(now + 30);
                    }
                }
            }
            let expected = if until.is_some() { Ejected } else { Up };
            prop_assert_eq!(machine.condition(), expected);
        }
    }

    #[test]
    fn state_stays_bounded_and_every_unhealthy_condition_has_a_cause(
        events in proptest::collection::vec((0_u64..20, event(), 1_u32..6), 1..200),
    ) {
        let (mut machine, mut now) = (HealthState::default(), Instant::now());
        for (wait, event, count) in events {
            now += Duration::from_secs(wait);
            machine.expire_ejection(now);
            match event {
                Event::Failed => machine.failed(now, &passive(count), "refused".to_owned(), None),
                Event::Answered => machine.answered(),
                Event::Checked(true) => machine.checked(WELL, count, count),
                Event::Checked(false) => machine.checked(ill(), count, count),
                Event::Unchecked => machine.unchecked(),
            }
            prop_assert!(machine.failures.len() < 6);
            match machine.condition() {
                Down => prop_assert!(machine.why().is_some()),
                Ejected => prop_assert!(machine.ejected_until().is_some_and(|until| until > now)),
                Up => {}
            }
        }
    }
}
