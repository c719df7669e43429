use crate::lifecycle::handover::*;
use rustix::net::socketpair;
use std::net::{TcpListener, TcpStream};

fn listener() -> (TcpListener, PassedFd) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let label = FdLabel {
        kind: "https".into(),
        address: listener.local_addr().unwrap().to_string(),
    };
    let descriptor = listener.as_fd().try_clone_to_owned().unwrap();
    (listener, PassedFd { label, descriptor })
}

#[tokio::test]
async fn passed_listener_accepts_in_the_successor() {
    let (original, passed) = listener();
    let (address, label) = (original.local_addr().unwrap(), passed.label.clone());
    let offer = HandoverOffer::open().unwrap();
    let name = offer.name().to_owned();
    let successor_side = async {
        let (mut received, predecessor) = take_over(&name).await.unwrap();
        predecessor.ready().await.unwrap();
        predecessor.serving().await.unwrap();
        received.pop().unwrap()
    };
    let running_side = async {
        let successor = offer.hand_over(vec![passed]).await.unwrap();
        assert_eq!(successor.id, std::process::id());
        drop(original);
        successor.release().await;
    };
    let (received, ()) = tokio::join!(successor_side, running_side);
    assert_eq!(received.label, label);
    let inherited = TcpListener::from(received.descriptor);
    let client = TcpStream::connect(address).unwrap();
    let (_, from) = inherited.accept().unwrap();
    assert_eq!(from, client.local_addr().unwrap());
}

#[tokio::test]
async fn successor_that_ends_before_ready_is_an_error() {
    let offer = HandoverOffer::open().unwrap();
    let name = offer.name().to_owned();
    let successor_side = async { drop(take_over(&name).await.unwrap()) };
    let running_side = offer.hand_over(vec![listener().1]);
    let (result, ()) = tokio::join!(running_side, successor_side);
    assert!(matches!(result, Err(HandoverError::Io(_))), "{result:?}");
}

#[tokio::test]
async fn successor_may_serve_if_the_predecessor_ends_but_not_if_it_refuses() {
    for refuses in [false, true] {
        let (ours, other) = pair();
        let predecessor = Predecessor(ours);
        if refuses {
            send(&other, &Message::No, None).await.unwrap();
        } else {
            drop(other);
        }
        let reply = predecessor.ready().await;
        if refuses {
            assert!(matches!(reply, Err(HandoverError::Refused)), "{reply:?}");
        } else {
            assert!(reply.is_ok(), "{reply:?}");
        }
        let serves = predecessor.serving().await;
        assert!(serves.is_ok(), "{serves:?}");
    }
}

#[tokio::test]
async fn successor_that_is_refused_after_the_permission_does_not_serve() {
    let (ours, other) = pair();
    send(&other, &Message::Yes, None).await.unwrap();
    send(&other, &Message::No, None).await.unwrap();
    let predecessor = Predecessor(ours);
    predecessor.ready().await.unwrap();
    let serves = predecessor.serving().await;
    assert!(matches!(serves, Err(HandoverError::Refused)), "{serves:?}");
}

#[tokio::test]
async fn successor_that_ends_before_serving_has_not_taken_over() {
    let offer = HandoverOffer::open().unwrap();
    let name = offer.name().to_owned();
    let successor_side = async { take_over(&name).await.unwrap().1.ready().await };
    let (reply, served) = tokio::join!(successor_side, offer.hand_over(vec![]));
    assert!(reply.is_ok(), "{reply:?}");
    assert!(matches!(served, Err(HandoverError::Io(_))), "{served:?}");
}

#[tokio::test(start_paused = true)]
async fn successor_that_stops_after_any_message_is_refused_after_10_s() {
    for (sent, missing) in [(0, "ready"), (1, "serving")] {
        let offer = HandoverOffer::open().unwrap();
        let channel = Channel::to(offer.name()).unwrap();
        let started = Instant::now();
        let successor_side = async {
            for message in [Message::Ready, Message::Serving].iter().take(sent) {
                send(&channel, message, None).await.unwrap();
            }
        };
        let (result, ()) = tokio::join!(offer.hand_over(vec![listener().1]), successor_side);
        let error = result.unwrap_err();
        let HandoverError::Timeout { missing: found, .. } = error else {
            panic!("{error:?}");
        };
        assert_eq!(found, missing);
        assert!(error.to_string().contains("within 10.0"), "{error}");
        assert!(started.elapsed() < REPLY_TIMEOUT + REFUSAL_TIMEOUT * 2);
        let mut last = None;
        while let Ok((message, _)) = recv(&channel).await {
            last = Some(message);
        }
        assert!(matches!(last, Some(Message::No)), "{last:?}");
    }
}

/// Returns the two ends of a connection.
fn pair() -> (Channel, Channel) {
    let ends = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, FLAGS, None).unwrap();
    let channel = |end: OwnedFd| Channel(UnixStream::from_std(end.into()).unwrap());
    (channel(ends.0), channel(ends.1))
}

#[tokio::test(start_paused = true)]
async fn offer_without_a_successor_times_out() {
    let result = HandoverOffer::open().unwrap().hand_over(vec![]).await;
    assert!(matches!(result, Err(HandoverError::Io(_))), "{result:?}");
}

#[tokio::test]
async fn unexpected_message_is_reported() {
    let offer = HandoverOffer::open().unwrap();
    let channel = Channel::to(offer.name()).unwrap();
    let sending = channel.send(br#"{"is":"song"}"#, None);
    let (result, sent) = tokio::join!(offer.hand_over(vec![]), sending);
    sent.unwrap();
    let error = result.unwrap_err().to_string();
    assert!(error.contains("song"), "{error}");
}

#[tokio::test]
async fn takeover_without_an_offer_is_an_error() {
    let error = take_over("lockgate-no-offer").await.unwrap_err();
    assert!(matches!(error, HandoverError::Io(_)), "{error:?}");
}
