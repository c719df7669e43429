//! `lockgate doctor` with a CA that answers.

use super::fixture::AcmeFixture;
use crate::harness::Lockgate;
use serde_json::Value;
use std::fs;

#[tokio::test]
async fn doctor_reports_a_ca_that_answers_and_a_store_that_can_be_written() {
    let fixture = AcmeFixture::new().await;
    let (root, folder) = (fixture.pebble.root().await, fixture.folder.path());
    // The HTTPS certificate of its API has another issuer than those that it issues.
    let trusted = fixture.pebble.ca();
    let storage = fixture.storage();
    for (ca, state) in [(&trusted, "ok"), (&root, "fail")] {
        let config = format!(
            "[server]\nhttps = [\"127.0.0.1:{}\"]\nhttp = []\nadmin = \"off\"\n\
             [acme]\ndirectory = {:?}\nca_file = {ca:?}\nstorage = {storage:?}\n\
             [[routes]]\nhosts = [\"a.test\"]\nto = \"ws://{}\"\n",
            fixture.https,
            fixture.pebble.directory(),
            fixture.backend
        );
        fs::write(folder.join("lockgate.toml"), config).expect("writable");
        let arguments = ["doctor", "--json", "--config", "lockgate.toml"];
        let output = Lockgate::run(folder, &arguments).await;
        let findings: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let all = findings.as_array().expect("a list");
        let of = |what: &str| {
            let mut all = all.iter();
            let found = all.find(|one| one["what"].as_str().is_some_and(|it| it.starts_with(what)));
            found.unwrap_or_else(|| panic!("{what} in {findings}"))["state"].clone()
        };
        assert_eq!(of("CA https://"), state, "{findings}");
        assert_eq!(of("acme.storage"), "ok", "{findings}");
        assert!(!storage.exists(), "doctor writes nothing");
        assert_eq!(fixture.pebble.orders(), 0);
    }
}
