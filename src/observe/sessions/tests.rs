use super::*;
use crate::proto::track::FrameCounts;
use std::{task::Waker, time::Duration};

fn belonging(route: &str) -> SessionTarget {
    SessionTarget {
        route: route.into(),
        backend: "ws://10.0.0.1:1".into(),
        pool_entry: "ws://10.0.0.1:1".into(),
    }
}

#[test]
fn all_are_met_once_in_steps_while_others_come_and_go() {
    let sessions = Arc::new(SessionRegistry::default());
    let mut handles: Vec<_> = (0..3000).map(|_| sessions.open(belonging("r"))).collect();
    assert_eq!(sessions.count(), 3000);
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let some = sessions.page(after);
        let Some(last) = some.last() else { break };
        after = Some(last.id());
        seen.extend(some.iter().map(SessionRef::id));
        handles.truncate(2990);
    }
    assert!(seen.is_sorted_by(|a, b| a < b));
    let stayed = handles.iter().map(|handle| handle.record().id);
    assert!(stayed.clone().all(|id| seen.binary_search(&id).is_ok()));
    assert!(stayed.clone().all(|id| sessions.find(id).is_some()));
    drop(handles);
    assert_eq!(sessions.count(), 0);
}

#[test]
fn condition_of_matching_runs_without_the_lock_of_the_table() {
    let sessions = Arc::new(SessionRegistry::default());
    let _handle = sessions.open(belonging("r"));
    // With the lock held, `count` would wait for it without end.
    let (done, finished) = std::sync::mpsc::channel();
    let registry = sessions.clone();
    std::thread::spawn(move || done.send(registry.matching(|_| registry.count() == 1).len()));
    assert_eq!(finished.recv_timeout(Duration::from_secs(10)), Ok(1));
}

#[test]
fn the_first_order_counts_with_its_own_words() {
    let sessions = Arc::new(SessionRegistry::default());
    let handle = sessions.open(belonging("r"));
    let session = sessions.find(handle.record().id).unwrap();
    assert!(handle.order(Waker::noop()).is_none());
    let order = CloseOrder::from_operator(4001, "go home").unwrap();
    assert!(session.order(order.clone()));
    session.close(1012);
    assert!(!session.order(CloseOrder::from_operator(1008, "").unwrap()));
    assert_eq!(handle.order(Waker::noop()), Some(&order));

    sessions.close_new_sessions(1001);
    let late = sessions.open(belonging("r"));
    let told = late.order(Waker::noop()).unwrap();
    assert_eq!((told.code, told.by_operator), (1001, false));
}

#[test]
fn an_operator_can_say_only_what_a_close_can() {
    for code in [1000, 1001, 1008, 1011, 1012, 3000, 4999] {
        assert!(CloseOrder::from_operator(code, "").is_ok(), "{code}");
    }
    for code in [0, 999, 1004, 1005, 1006, 1010, 1015, 1016, 2999, 5000] {
        assert_eq!(
            CloseOrder::from_operator(code, "").unwrap_err().to_string(),
            format!(
                "{code} is no code that a server's Close may carry (RFC 6455 §7.4): use 1000, 1001, 1008, 1011 to 1013, or one of 3000 to 4999"
            )
        );
    }
    assert!(CloseOrder::from_operator(1008, &"x".repeat(123)).is_ok());
    // Bytes, not characters.
    assert!(CloseOrder::from_operator(1008, &"é".repeat(62)).is_err());
}

#[tokio::test(start_paused = true)]
async fn all_conditions_must_hold() {
    let sessions = Arc::new(SessionRegistry::default());
    let handle = sessions.open(belonging("chat"));
    tokio::time::advance(Duration::from_secs(60)).await;
    let session = sessions.find(handle.record().id).unwrap();
    let everybody = SessionFilter::default();
    assert!(everybody.is_empty() && everybody.matches(&session));
    let right = SessionFilter {
        id: Some(session.id()),
        route: Some("chat".into()),
        backend: Some("ws://10.0.0.1:1".into()),
        client: Some("127.0.0.0/8".parse().unwrap()),
        longer_than: Some(Duration::from_secs(59)),
    };
    assert!(right.matches(&session) && !right.is_empty());
    for wrong in [
        SessionFilter {
            id: Some(session.id() ^ 1),
            ..right.clone()
        },
        SessionFilter {
            route: Some("cha".into()),
            ..right.clone()
        },
        SessionFilter {
            backend: Some("ws://10.0.0.1:10".into()),
            ..right.clone()
        },
        SessionFilter {
            client: Some("10.0.0.0/8".parse().unwrap()),
            ..right.clone()
        },
        SessionFilter {
            longer_than: Some(Duration::from_secs(61)),
            ..right.clone()
        },
    ] {
        assert!(!wrong.matches(&session), "{wrong:?}");
    }
}

#[test]
fn what_is_published_is_what_is_read() {
    let sessions = Arc::new(SessionRegistry::default());
    let handle = sessions.open(belonging("r"));
    let counts = |bytes| FrameCounts {
        frames: 3,
        messages: 2,
        bytes,
    };
    handle.publish(counts(10), counts(20));
    let (up, down) = sessions.find(handle.record().id).unwrap().traffic();
    assert_eq!((up.messages, up.bytes, down.bytes), (2, 10, 20));
}
