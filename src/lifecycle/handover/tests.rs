use super::*;
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
async fn what_is_given_accepts_at_the_other_end() {
    let (mine, given) = listener();
    let (address, label) = (mine.local_addr().unwrap(), given.label.clone());
    let offer = HandoverOffer::open().unwrap();
    let name = offer.name().to_owned();
    let taking = async {
        let (mut taken, predecessor) = take_over(&name).await.unwrap();
        predecessor.ready().await.unwrap();
        predecessor.serving().await;
        taken.pop().unwrap()
    };
    let giving = async {
        let successor = offer.send_to_successor(vec![given]).await.unwrap();
        assert_eq!(successor.id, std::process::id());
        successor.permit_serving().await.unwrap();
        drop(mine);
        successor.release().await;
    };
    let (taken, ()) = tokio::join!(taking, giving);
    assert_eq!(taken.label, label);
    let theirs = TcpListener::from(taken.descriptor);
    let client = TcpStream::connect(address).unwrap();
    let (_, from) = theirs.accept().unwrap();
    assert_eq!(from, client.local_addr().unwrap());
}

#[tokio::test]
async fn who_leaves_before_it_is_ready_is_an_error_at_the_other_end() {
    let offer = HandoverOffer::open().unwrap();
    let name = offer.name().to_owned();
    let leaving = async { drop(take_over(&name).await.unwrap()) };
    let (given, ()) = tokio::join!(offer.send_to_successor(vec![listener().1]), leaving);
    assert!(matches!(given, Err(HandoverError::Io(_))), "{given:?}");
}

#[tokio::test]
async fn who_ends_without_a_no_leaves_the_place_and_who_says_no_does_not() {
    for refuses in [false, true] {
        let offer = HandoverOffer::open().unwrap();
        let name = offer.name().to_owned();
        let taking = async { take_over(&name).await.unwrap().1.ready().await };
        let giving = async {
            let successor = offer.send_to_successor(vec![]).await.unwrap();
            if refuses {
                successor.refuse().await;
            }
        };
        let (answered, ()) = tokio::join!(taking, giving);
        match refuses {
            false => assert!(answered.is_ok(), "{answered:?}"),
            true => assert!(
                matches!(answered, Err(HandoverError::Refused)),
                "{answered:?}"
            ),
        }
    }
}

#[tokio::test]
async fn who_ends_before_it_serves_has_not_taken_over() {
    let offer = HandoverOffer::open().unwrap();
    let name = offer.name().to_owned();
    let taking = async { take_over(&name).await.unwrap().1.ready().await };
    let giving = async {
        offer
            .send_to_successor(vec![])
            .await
            .unwrap()
            .permit_serving()
            .await
    };
    let (answered, served) = tokio::join!(taking, giving);
    assert!(answered.is_ok(), "{answered:?}");
    assert!(matches!(served, Err(HandoverError::Io(_))), "{served:?}");
}

#[tokio::test(start_paused = true)]
async fn nobody_is_waited_for_for_ever() {
    let given = HandoverOffer::open()
        .unwrap()
        .send_to_successor(vec![])
        .await;
    assert!(matches!(given, Err(HandoverError::Io(_))), "{given:?}");
}

#[tokio::test]
async fn strange_words_are_told() {
    let offer = HandoverOffer::open().unwrap();
    let channel = Channel::to(offer.name()).unwrap();
    let speaking = channel.send(br#"{"is":"song"}"#, None);
    let (given, spoken) = tokio::join!(offer.send_to_successor(vec![]), speaking);
    spoken.unwrap();
    let error = given.unwrap_err().to_string();
    assert!(error.contains("song"), "{error}");
}

#[tokio::test]
async fn nothing_is_behind_a_name_that_nobody_offers() {
    let error = take_over("lockgate-nobody").await.unwrap_err();
    assert!(matches!(error, HandoverError::Io(_)), "{error:?}");
}
