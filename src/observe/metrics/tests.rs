use crate::{observe::metrics::*, proto::frame_tracker::FrameCounts};

fn end(code: Option<u16>) -> SessionEnd {
    SessionEnd {
        duration: Duration::from_secs(90),
        from_client: FrameCounts {
            frames: 12,
            messages: 10,
            bytes: 1234,
        },
        from_backend: FrameCounts::default(),
        code,
        by: "client",
        why: "closed",
        hint: None,
    }
}

/// Asserts that the encoded metrics contain each of `lines` as a whole line.
#[track_caller]
fn assert_lines(metrics: &Metrics, lines: &[&str]) {
    let page = metrics.encode();
    for line in lines {
        assert!(page.lines().any(|one| one == *line), "{line}\n{page}");
    }
}

#[test]
fn gauges_fall_on_drop_and_counters_do_not() {
    let metrics = Arc::new(Metrics::new());
    let first = (metrics.connection_gauge(), metrics.session_gauge());
    let second = metrics.connection_gauge();
    assert_eq!((metrics.connections(), metrics.sessions()), (2, 1));
    drop((first, second));
    assert_eq!((metrics.connections(), metrics.sessions()), (0, 0));
    assert_lines(
        &metrics,
        &[
            "lockgate_connections 0",
            "lockgate_connections_accepted_total 2",
            "lockgate_sessions 0",
            "lockgate_sessions_opened_total 1",
        ],
    );
}

#[test]
fn session_traffic_is_added_on_close() {
    let metrics = Metrics::new();
    assert_lines(&metrics, &["lockgate_frames_total{from=\"backend\"} 0"]);
    metrics.record_handshake(Duration::from_millis(3));
    metrics.record_session_end(&end(Some(1000)));
    assert_lines(
        &metrics,
        &[
            "lockgate_session_closes_total{code=\"1000\",by=\"client\"} 1",
            "lockgate_frames_total{from=\"client\"} 12",
            "lockgate_messages_total{from=\"client\"} 10",
            "lockgate_bytes_total{from=\"client\"} 1234",
            "lockgate_bytes_total{from=\"backend\"} 0",
            "lockgate_handshake_seconds_bucket{le=\"0.0025\"} 0",
            "lockgate_handshake_seconds_bucket{le=\"0.005\"} 1",
            "lockgate_session_seconds_bucket{le=\"60.0\"} 0",
            "lockgate_session_seconds_bucket{le=\"300.0\"} 1",
            "lockgate_session_seconds_sum 90.0",
        ],
    );
}

#[test]
fn peers_cannot_create_series() {
    let metrics = Metrics::new();
    for code in 0..=u16::MAX {
        metrics.record_session_end(&end(Some(code)));
    }
    metrics.record_session_end(&end(None));
    for status in 0..1000 {
        metrics.count_request(status);
    }
    let page = metrics.encode();
    let series = |name: &str| page.lines().filter(|line| line.starts_with(name)).count();
    // 1000 to 1015, 3xxx, 4xxx, other, none.
    assert_eq!(series("lockgate_session_closes_total{"), 20, "{page}");
    assert_eq!(series("lockgate_requests_total{"), 6, "{page}");
    assert_lines(
        &metrics,
        &[
            "lockgate_session_closes_total{code=\"1006\",by=\"client\"} 1",
            "lockgate_session_closes_total{code=\"3xxx\",by=\"client\"} 1000",
            "lockgate_session_closes_total{code=\"4xxx\",by=\"client\"} 1000",
            "lockgate_session_closes_total{code=\"none\",by=\"client\"} 1",
            "lockgate_requests_total{status=\"2xx\"} 100",
        ],
    );
}

#[test]
fn refusals_and_failures_have_a_why_label() {
    let metrics = Metrics::new();
    metrics.count_refusal(403, "origin");
    metrics.count_connection_failure("tls");
    assert_lines(
        &metrics,
        &[
            "lockgate_refusals_total{status=\"403\",why=\"origin\"} 1",
            "lockgate_connection_failures_total{why=\"tls\"} 1",
        ],
    );
}

#[test]
fn process_metrics_are_present_and_plausible() {
    let page = Metrics::new().encode();
    let value = |name: &str| -> f64 {
        let line = page
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name}\n{page}"))
            .parse()
            .unwrap()
    };
    assert!(value("process_start_time_seconds") > 1_700_000_000.0);
    assert!(value("process_resident_memory_bytes") > 1_000_000.0);
    let open = value("process_open_fds");
    assert!(open >= 3.0 && open <= value("process_max_fds"), "{open}");
    let version = env!("CARGO_PKG_VERSION");
    assert!(page.contains(&format!("lockgate_build_info{{version=\"{version}\"}} 1\n")));
}

#[test]
fn metric_families_are_unique() {
    // OpenMetrics: a name belongs to one family, and "# EOF" is the last line.
    let page = Metrics::new().encode();
    let mut families: Vec<_> = page
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
        .collect();
    let all = families.len();
    families.sort_unstable();
    families.dedup();
    assert_eq!(families.len(), all, "{page}");
    assert!(page.ends_with("# EOF\n"), "{page}");
}

#[test]
fn backend_series_exist_while_the_backend_is_configured() {
    let metrics = Metrics::new();
    metrics.add_backend("chat", "ws://a:1", true, "warming");
    assert_lines(
        &metrics,
        &[
            "lockgate_backend_up{pool=\"chat\",backend=\"ws://a:1\"} 1",
            "lockgate_backend_transitions_total{pool=\"chat\",backend=\"ws://a:1\",to=\"down\"} 0",
            "lockgate_backend_state{pool=\"chat\",backend=\"ws://a:1\",state=\"warming\"} 1",
            "lockgate_backend_state{pool=\"chat\",backend=\"ws://a:1\",state=\"draining\"} 0",
        ],
    );
    metrics.record_transition("chat", "ws://a:1", "down");
    assert_lines(
        &metrics,
        &[
            "lockgate_backend_up{pool=\"chat\",backend=\"ws://a:1\"} 0",
            "lockgate_backend_transitions_total{pool=\"chat\",backend=\"ws://a:1\",to=\"down\"} 1",
            "lockgate_backend_transitions_total{pool=\"chat\",backend=\"ws://a:1\",to=\"up\"} 0",
        ],
    );
    metrics.set_backend_state("chat", "ws://a:1", "draining");
    assert_lines(
        &metrics,
        &[
            "lockgate_backend_state{pool=\"chat\",backend=\"ws://a:1\",state=\"draining\"} 1",
            "lockgate_backend_state{pool=\"chat\",backend=\"ws://a:1\",state=\"warming\"} 0",
        ],
    );
    metrics.remove_backend("chat", "ws://a:1");
    assert!(!metrics.encode().contains("ws://a:1"));
}
