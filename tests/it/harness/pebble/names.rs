//! The DNS in which Pebble looks, as a test or its hook changes it.

use super::Pebble;
use crate::harness::{
    web::{Failure, ask},
    within,
};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};

impl Pebble {
    /// Adds a TXT record; those of the same name stay.
    pub(crate) async fn set_txt(&self, host: &str, value: &str) {
        self.manage("set-txt", &json!({"host": absolute(host), "value": value}))
            .await;
    }

    /// Removes all TXT records of this name.
    pub(crate) async fn clear_txt(&self, host: &str) {
        self.manage("clear-txt", &json!({"host": absolute(host)}))
            .await;
    }

    /// The one address of this host, instead of 127.0.0.1.
    pub(crate) async fn set_ipv4(&self, host: &str, address: &str) {
        let host = absolute(host);
        // What is added joins what is there.
        self.manage("clear-a", &json!({"host": host})).await;
        let added = json!({"host": host, "addresses": [address]});
        self.manage("add-a", &added).await;
    }

    /// Where a hook can POST to `/set-txt` `{"host": "_acme-challenge.a.test.", "value": ""}` and to `/clear-txt` the same
    /// without a value. A name without the last dot is taken, and never found.
    pub(crate) fn management(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports.dns_management)
    }

    /// Whether the DNS server is there, and ours: our log tells of it.
    pub(super) async fn names_answer(&self) -> bool {
        let told = || self.count("ready.test.") > 0;
        let mark = json!({"host": "ready.test."});
        told() || self.try_manage("clear-txt", &mark).await.is_ok() && told()
    }

    async fn manage(&self, what: &str, body: &Value) {
        let answer = within("a change of DNS", self.try_manage(what, body)).await;
        assert_eq!(answer.expect("it is up").status(), StatusCode::OK, "{body}");
    }

    async fn try_manage(&self, what: &str, body: &Value) -> Result<Response<Bytes>, Failure> {
        let url = format!("{}/{what}", self.management());
        ask(
            Request::post(url).body(Full::<Bytes>::from(body.to_string()))?,
            &self.ca(),
        )
        .await
    }
}

/// As DNS writes a whole name.
fn absolute(host: &str) -> String {
    format!("{}.", host.trim_end_matches('.'))
}
