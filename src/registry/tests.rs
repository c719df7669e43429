use crate::{
    proto::frame_tracker::FrameCounts,
    registry::{filter::SessionFilter, *},
};
use std::{task::Waker, time::Duration};

fn target(route: &str) -> SessionTarget {
    SessionTarget {
        route: route.into(),
        backend: "ws://10.0.0.1:1".into(),
        pool_entry: "ws://10.0.0.1:1".into(),
    }
}

#[test]
fn paging_visits_every_staying_session_once() {
    let sessions = Arc::new(SessionRegistry::default());
    let mut handles: Vec<_> = (0..3000).map(|_| sessions.open(target("r"))).collect();
    assert_eq!(sessions.count(), 3000);
    let (mut ids, mut after) = (Vec::new(), None);
    loop {
        let page = sessions.page(after);
        let Some(last) = page.last() else { break };
        after = Some(last.id());
        ids.extend(page.iter().map(SessionRef::id));
        handles.truncate(2990);
    }
    assert!(ids.is_sorted_by(|a, b| a < b));
    let stayed = handles.iter().map(|handle| handle.record().id);
    assert!(stayed.clone().all(|id| ids.binary_search(&id).is_ok()));
    assert!(stayed.clone().all(|id| sessions.find(id).is_some()));
    drop(handles);
    assert_eq!(sessions.count(), 0);
}

#[test]
fn condition_of_matching_runs_without_the_lock_of_the_table() {
    let sessions = Arc::new(SessionRegistry::default());
    let _handle = sessions.open(target("r"));
    // If the lock were held, `count` would deadlock.
    let (done, finished) = std::sync::mpsc::channel();
    let registry = sessions.clone();
    std::thread::spawn(move || done.send(registry.matching(|_| registry.count() == 1).len()));
    assert_eq!(finished.recv_timeout(Duration::from_secs(10)), Ok(1));
}

#[test]
fn only_the_first_close_order_has_an_effect() {
    let sessions = Arc::new(SessionRegistry::default());
    let handle = sessions.open(target("r"));
    let session = sessions.find(handle.record().id).unwrap();
    assert!(handle.order(Waker::noop()).is_none());
    let order = CloseOrder::from_operator(4001, "go home").unwrap();
    assert!(session.order(order.clone()));
    session.close(1012);
    assert!(!session.order(CloseOrder::from_operator(1008, "").unwrap()));
    assert_eq!(handle.order(Waker::noop()), Some(&order));

    sessions.close_new_sessions(1001);
    let late = sessions.open(target("r"));
    let order = late.order(Waker::noop()).unwrap();
    assert_eq!((order.code, order.cause), (1001, OrderCause::Lockgate));
}

#[test]
fn operator_order_rejects_invalid_codes_and_long_reasons() {
    for code in [1000, 1001, 1008, 1011, 1012, 3000, 4999] {
        assert!(CloseOrder::from_operator(code, "").is_ok(), "{code}");
    }
    for code in [0, 999, 1004, 1005, 1006, 1010, 1015, 1016, 2999, 5000] {
        assert_eq!(
            CloseOrder::from_operator(code, "").unwrap_err().to_string(),
            format!(
                "{code} is not a close code that a server may send (RFC 6455 §7.4): use 1000, 1001, 1008, 1011 to 1013, or one of 3000 to 4999"
            )
        );
    }
    assert!(CloseOrder::from_operator(1008, &"x".repeat(123)).is_ok());
    // The limit is in bytes, not in characters.
    assert!(CloseOrder::from_operator(1008, &"é".repeat(62)).is_err());
}

#[tokio::test(start_paused = true)]
async fn filter_requires_all_conditions() {
    let sessions = Arc::new(SessionRegistry::default());
    let handle = sessions.open(target("chat"));
    tokio::time::advance(Duration::from_secs(60)).await;
    let session = sessions.find(handle.record().id).unwrap();
    let empty = SessionFilter::default();
    assert!(empty.is_empty() && session.matches(&empty));
    let matching = SessionFilter {
        subject: None,
        id: Some(session.id()),
        route: Some("chat".into()),
        backend: Some("ws://10.0.0.1:1".into()),
        client: Some("127.0.0.0/8".parse().unwrap()),
        longer_than: Some(Duration::from_secs(59)),
    };
    assert!(session.matches(&matching) && !matching.is_empty());
    for other in [
        SessionFilter {
            id: Some(session.id() ^ 1),
            ..matching.clone()
        },
        SessionFilter {
            route: Some("cha".into()),
            ..matching.clone()
        },
        SessionFilter {
            backend: Some("ws://10.0.0.1:10".into()),
            ..matching.clone()
        },
        SessionFilter {
            client: Some("10.0.0.0/8".parse().unwrap()),
            ..matching.clone()
        },
        SessionFilter {
            longer_than: Some(Duration::from_secs(61)),
            ..matching.clone()
        },
    ] {
        assert!(!session.matches(&other), "{other:?}");
    }
}

#[test]
fn traffic_returns_the_published_counts() {
    let sessions = Arc::new(SessionRegistry::default());
    let handle = sessions.open(target("r"));
    let counts = |bytes| FrameCounts {
        frames: 3,
        messages: 2,
        bytes,
    };
    handle.publish(counts(10), counts(20));
    let (up, down) = sessions.find(handle.record().id).unwrap().traffic();
    assert_eq!((up.messages, up.bytes, down.bytes), (2, 10, 20));
}

#[test]
fn ended_session_is_over_although_other_references_exist() {
    let sessions = Arc::new(SessionRegistry::default());
    let handle = sessions.open(target("r"));
    let (first, second) = (
        sessions.find(handle.record().id).unwrap(),
        sessions.find(handle.record().id).unwrap(),
    );
    assert!(!first.is_over() && !second.is_over());
    drop(handle);
    assert!(first.is_over() && second.is_over());
}

/// Runs `work` on another thread. Fails if it does not end, as with a table that is locked already.
fn within<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, finished) = std::sync::mpsc::channel();
    std::thread::spawn(move || done.send(work()));
    let ended = finished.recv_timeout(Duration::from_secs(10));
    ended.expect("ends")
}

#[test]
fn tasks_are_woken_without_the_lock_of_the_table() {
    struct CountingWaker(Arc<SessionRegistry>, std::sync::atomic::AtomicUsize);
    impl std::task::Wake for CountingWaker {
        fn wake(self: Arc<Self>) {
            self.1
                .fetch_add(self.0.count(), std::sync::atomic::Ordering::Relaxed);
        }
    }
    let sessions = Arc::new(SessionRegistry::default());
    let handles: Vec<_> = (0..3000).map(|_| sessions.open(target("r"))).collect();
    let waker = Arc::new(CountingWaker(sessions.clone(), Default::default()));
    for handle in &handles {
        assert!(handle.order(&Waker::from(waker.clone())).is_none());
    }
    within(move || sessions.wake_all());
    assert_eq!(
        waker.1.load(std::sync::atomic::Ordering::Relaxed),
        3000 * 3000
    );
}

#[test]
fn table_is_unlocked_between_the_pages_of_matching() {
    let sessions = Arc::new(SessionRegistry::default());
    let mut handles: Vec<_> = (0..3000).map(|_| sessions.open(target("r"))).collect();
    handles.sort_by_key(|handle| handle.record().id);
    let handles = std::cell::RefCell::new(handles);
    let matching = sessions.matching(|_| {
        // Ends the session with the greatest id, while the first pages are read.
        handles.borrow_mut().pop();
        true
    });
    assert!(matching.len() < 3000, "{}", matching.len());
    assert!(matching.is_sorted_by_key(SessionRef::id));
}
