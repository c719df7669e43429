//! Tables of hostile requests, as HTTP/1.1 bytes and as HTTP/2 header lists, with a backend that records its requests.
//! Each request is refused and the backend receives nothing, or it becomes exactly one valid request.
//!
//! The rows follow RFC 9112, 9113, 8441 and 6455; where these leave a choice, a comment names it.

mod http1;
mod http2;
pub(crate) mod recorder;

use crate::harness::Lockgate;
use recorder::{RecordedRequest, Recording, recorder};

/// A request that the backend must receive.
#[derive(Debug, Clone)]
struct ExpectedRequest {
    start: String,
    body: String,
    /// Fields that it must have exactly once; `None` for a field that it must not have.
    fields: Vec<(&'static str, Option<&'static str>)>,
}

/// A Lockgate in front of a recorder, and the faults found so far.
struct Table {
    lockgate: Lockgate,
    recording: Recording,
    rows: usize,
    wrong: Vec<String>,
}

// === impl Wanted ===

impl ExpectedRequest {
    fn request(start: &str) -> ExpectedRequest {
        ExpectedRequest {
            start: start.to_owned(),
            body: String::new(),
            fields: vec![],
        }
    }

    fn faults(&self, seen: &RecordedRequest) -> Vec<String> {
        let mut faults = seen.faults();
        if seen.head.start != self.start {
            faults.push(format!("{:?}, not {:?}", seen.head.start, self.start));
        }
        if seen.body != self.body.as_bytes() {
            let body = String::from_utf8_lossy(&seen.body);
            faults.push(format!("the body {body:?}, not {:?}", self.body));
        }
        for (name, value) in &self.fields {
            let expected: Vec<&str> = value.iter().copied().collect();
            if seen.head.all(name) != expected {
                faults.push(format!(
                    "{name}: {:?}, not {expected:?}",
                    seen.head.all(name)
                ));
            }
        }
        faults
    }
}

// === impl Table ===

impl Table {
    async fn new() -> Table {
        let (backend, recording) = recorder().await;
        // Short timeouts, so that each row can wait until its connection is closed.
        let limits =
            "[limits]\nidle = \"100ms\"\nrequest_head = \"1500ms\"\nbody_idle = \"1500ms\"";
        let setup = Lockgate::to(backend).with("session = { close_timeout = \"100ms\" }");
        let lockgate = setup.server(limits).start().await;
        Table {
            lockgate,
            recording,
            rows: 0,
            wrong: vec![],
        }
    }

    /// Runs a row. `send` waits for the complete response and returns its fault, if it has one.
    async fn row(
        &mut self,
        name: &str,
        expected: &[ExpectedRequest],
        send: impl AsyncFnOnce(&Lockgate) -> Option<String>,
    ) {
        self.rows += 1;
        let before = self.seen(true).len();
        let mut wrong: Vec<String> = send(&self.lockgate).await.into_iter().collect();
        // The backend records a request before it answers.
        let seen = self.seen(true).split_off(before);
        if seen.len() != expected.len() {
            let starts: Vec<_> = seen.iter().map(|it| &it.head.start).collect();
            wrong.push(format!("the backend saw {starts:?}"));
        }
        for (expected, seen) in expected.iter().zip(&seen) {
            wrong.extend(expected.faults(seen));
        }
        self.wrong
            .extend(wrong.into_iter().map(|wrong| format!("{name}: {wrong}")));
    }

    /// The requests recorded so far, either the complete or the incomplete ones.
    fn seen(&self, complete: bool) -> Vec<RecordedRequest> {
        let all = self.recording.borrow();
        let some = all.iter().filter(|seen| seen.complete == complete);
        some.cloned().collect()
    }

    /// Checks that no request arrived late and no row has a fault. `partial` rows were refused in the middle of a body,
    /// of which the backend may have received the beginning.
    async fn end(mut self, of: &str, partial: usize) {
        let before = self.seen(true).len();
        let mut last = self.lockgate.upgrade("/the-last", "").await;
        assert_eq!(last.head().await.status(), 101);
        let late = self.seen(true).split_off(before);
        assert_eq!(late.len(), 1, "arrived late: {late:?}");
        let begun = self.seen(false);
        assert!(begun.len() <= partial, "{begun:?}");
        for seen in begun {
            self.wrong.extend(seen.faults());
        }
        println!("request validation: {} rows of {of}", self.rows);
        let stderr = self.lockgate.stderr();
        assert!(!stderr.contains("panicked"), "{stderr}");
        let (wrong, rows) = (self.wrong.len(), self.rows);
        assert!(
            wrong == 0,
            "{wrong} faults in {rows} rows:\n{}",
            self.wrong.join("\n")
        );
    }
}
