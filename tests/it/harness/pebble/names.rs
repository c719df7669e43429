//! The DNS records that Pebble queries, as a test or its hook changes them.

use super::Pebble;
use crate::harness::{
    web::{Failure, fetch},
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

    /// Sets the only address of this host, instead of 127.0.0.1.
    pub(crate) async fn set_ipv4(&self, host: &str, address: &str) {
        let host = absolute(host);
        // `add-a` appends to existing addresses.
        self.manage("clear-a", &json!({"host": host})).await;
        let added = json!({"host": host, "addresses": [address]});
        self.manage("add-a", &added).await;
    }

    /// The URL where a hook can POST `{"host": "_acme-challenge.a.test.", "value": ""}` to `/set-txt`, and the same
    /// without a value to `/clear-txt`. A name without the final dot is accepted, but never found.
    pub(crate) fn management(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports.dns_management)
    }

    /// Returns whether the DNS server answers. The line in its log proves that it is this one.
    pub(super) async fn dns_answers(&self) -> bool {
        let logged = || self.count("ready.test.") > 0;
        let mark = json!({"host": "ready.test."});
        logged() || self.try_manage("clear-txt", &mark).await.is_ok() && logged()
    }

    async fn manage(&self, path: &str, body: &Value) {
        let answer = within("a change of DNS", self.try_manage(path, body)).await;
        assert_eq!(answer.expect("it is up").status(), StatusCode::OK, "{body}");
    }

    async fn try_manage(&self, path: &str, body: &Value) -> Result<Response<Bytes>, Failure> {
        let url = format!("{}/{path}", self.management());
        fetch(
            Request::post(url).body(Full::<Bytes>::from(body.to_string()))?,
            &self.ca(),
        )
        .await
    }
}

/// The name with its final dot.
fn absolute(host: &str) -> String {
    format!("{}.", host.trim_end_matches('.'))
}
