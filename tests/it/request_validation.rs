//! The gate's table: hostile requests, as HTTP/1.1 bytes and as HTTP/2 header lists, in front of a backend that writes
//! everything down. Each is refused and the backend receives nothing, or becomes exactly one clean request.
//!
//! The rows hold what RFC 9112, 9113, 8441 and 6455 require; where they leave a choice, the comment names it.

mod http1;
mod http2;
pub(crate) mod recorder;

use crate::harness::Lockgate;
use recorder::{Record, Seen, recorder};

/// What one row wants of the backend.
#[derive(Debug, Clone)]
struct Wanted {
    start: String,
    body: String,
    /// Fields that it must have, once each; `None` for one that it must not have.
    fields: Vec<(&'static str, Option<&'static str>)>,
}

/// A Lockgate in front of a recorder, and the rows that went wrong so far.
struct Table {
    lockgate: Lockgate,
    record: Record,
    rows: usize,
    wrong: Vec<String>,
}

// === impl Wanted ===

impl Wanted {
    fn request(start: &str) -> Wanted {
        Wanted {
            start: start.to_owned(),
            body: String::new(),
            fields: vec![],
        }
    }

    fn faults(&self, seen: &Seen) -> Vec<String> {
        let mut faults = seen.faults();
        if seen.head.start != self.start {
            faults.push(format!("{:?}, not {:?}", seen.head.start, self.start));
        }
        if seen.body != self.body.as_bytes() {
            let body = String::from_utf8_lossy(&seen.body);
            faults.push(format!("the body {body:?}, not {:?}", self.body));
        }
        for (name, value) in &self.fields {
            let wanted: Vec<&str> = value.iter().copied().collect();
            if seen.head.all(name) != wanted {
                faults.push(format!("{name}: {:?}, not {wanted:?}", seen.head.all(name)));
            }
        }
        faults
    }
}

// === impl Table ===

impl Table {
    async fn new() -> Table {
        let (backend, record) = recorder().await;
        // So short that every connection's end can be awaited.
        let limits = "[limits]\nidle = \"100ms\"\nrequest_head = \"400ms\"\nbody_idle = \"400ms\"";
        let setup = Lockgate::to(backend).with("session = { close_timeout = \"100ms\" }");
        let lockgate = setup.server(limits).start().await;
        Table {
            lockgate,
            record,
            rows: 0,
            wrong: vec![],
        }
    }

    /// Runs a row: `ask` returns what is wrong with the answer, when it is all in.
    async fn row(
        &mut self,
        name: &str,
        wanted: &[Wanted],
        ask: impl AsyncFnOnce(&Lockgate) -> Option<String>,
    ) {
        self.rows += 1;
        let before = self.seen(true).len();
        let mut wrong: Vec<String> = ask(&self.lockgate).await.into_iter().collect();
        // Whatever was forwarded was answered by the backend, which writes down before it answers.
        let seen = self.seen(true).split_off(before);
        if seen.len() != wanted.len() {
            let starts: Vec<_> = seen.iter().map(|it| &it.head.start).collect();
            wrong.push(format!("the backend saw {starts:?}"));
        }
        for (wanted, seen) in wanted.iter().zip(&seen) {
            wrong.extend(wanted.faults(seen));
        }
        self.wrong
            .extend(wrong.into_iter().map(|wrong| format!("{name}: {wrong}")));
    }

    /// What the backend saw so far, to its end or not.
    fn seen(&self, whole: bool) -> Vec<Seen> {
        let all = self.record.borrow();
        let some = all.iter().filter(|seen| seen.whole == whole);
        some.cloned().collect()
    }

    /// Nothing came late, and no row went wrong. So many rows were refused in the middle of a body, of which the
    /// backend may have seen the beginning.
    async fn end(mut self, of: &str, torn: usize) {
        let before = self.seen(true).len();
        let mut last = self.lockgate.upgrade("/the-last", "").await;
        assert_eq!(last.head().await.status(), 101);
        let late = self.seen(true).split_off(before);
        assert_eq!(late.len(), 1, "came late: {late:?}");
        let begun = self.seen(false);
        assert!(begun.len() <= torn, "{begun:?}");
        for seen in begun {
            self.wrong.extend(seen.faults());
        }
        println!("the gate's table: {} rows of {of}", self.rows);
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
