//! SIGTERM and SIGINT: sessions end with 1001, the process with 0; a second one ends both at once.

use crate::harness::{Backend, Frame, Lockgate};
use rustix::process::Signal;

#[tokio::test]
async fn sigterm_and_sigint_close_sessions_with_1001_and_exit_with_0() {
    for signal in [Signal::TERM, Signal::INT] {
        let backend = Backend::listen().await;
        let mut lockgate = Lockgate::to(backend.address).start().await;
        let (mut client, mut server, _) = lockgate.session(&backend).await;
        lockgate.signal(signal);
        assert_eq!(client.frame().await.closes_with().0, 1001);
        assert_eq!(server.frame().await.closes_with().0, 1001);
        client.send_frame(Frame::close(1001, "")).await;
        server.send_frame(Frame::close(1001, "")).await;
        server.finish().await;
        let record = lockgate.closed().await;
        assert_eq!(
            (&record["code"], &record["by"]),
            (&1001.into(), &"lockgate".into()),
            "{record}"
        );
        assert_eq!(lockgate.exit().await, Some(0));
    }
}

#[tokio::test]
async fn second_signal_exits_without_waiting_for_peers() {
    let backend = Backend::listen().await;
    // Longer than any deadline of a test: without the second signal this would fail.
    let setup = Lockgate::to(backend.address).with("session = { close_timeout = \"10m\" }");
    let mut lockgate = setup.start().await;
    let (mut client, mut server, _) = lockgate.session(&backend).await;
    lockgate.terminate();
    assert!(client.frame().await.is_close());
    assert!(server.frame().await.is_close());
    lockgate.terminate();
    assert_eq!(lockgate.exit().await, Some(0));
}

#[tokio::test]
async fn idle_keep_alive_connection_does_not_delay_the_exit() {
    let mut lockgate = Lockgate::to(Backend::echo().await).start().await;
    let mut idle = lockgate.connect().await;
    lockgate.terminate();
    assert_eq!(lockgate.exit().await, Some(0));
    idle.end().await;
}
