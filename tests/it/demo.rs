//! `lockgate demo`: the page and its chat.

use crate::harness::{Frame, Lockgate, handshake};

#[tokio::test]
async fn messages_are_sent_to_all_tabs() {
    let demo = Lockgate::demo().start().await;
    let mut tab = demo.connect_as("localhost").await;
    tab.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    let head = tab.head().await;
    assert_eq!(head.get("content-type"), Some("text/html; charset=utf-8"));
    let page = String::from_utf8(tab.body(&head).await).expect("UTF-8");
    assert!(page.contains("new WebSocket(`wss://${location.host}/ws`)"));
    assert!(
        !page.contains("http://") && !page.contains("src="),
        "an outside asset"
    );

    let mut tabs = Vec::new();
    for _ in 0..2 {
        let mut tab = demo.connect_as("localhost").await;
        let origin = handshake("/ws", "Origin: https://localhost\r\n");
        tab.send(origin.replace("Host: a.test", "Host: localhost"))
            .await;
        assert_eq!(tab.head().await.status(), 101);
        tabs.push(tab);
    }
    // A tab that is not connected yet receives nothing: the second sends until the first has received a line.
    let [one, other] = &mut tabs[..] else {
        panic!("two")
    };
    other.send_frame(Frame::text("hello")).await;
    assert_eq!(other.text().await, "hello");
    one.send_frame(Frame::text("and to you")).await;
    assert_eq!(one.until("and to you").await, "and to you");
    assert_eq!(other.text().await, "and to you");
    one.send_frame(Frame::close(1000, "")).await;
    assert_eq!(one.frame().await.closes_with().0, 1000);
}

#[tokio::test]
async fn overlong_message_closes_its_session() {
    let demo = Lockgate::demo().start().await;
    let mut tab = demo.connect_as("localhost").await;
    tab.send(handshake("/ws", "").replace("Host: a.test", "Host: localhost"))
        .await;
    assert_eq!(tab.head().await.status(), 101);
    tab.send_frame(Frame::text(&"x".repeat(5000))).await;
    // The chat closes the session, and Lockgate logs it.
    assert_eq!(tab.frame().await.closes_with().0, 1011);
}
