//! An HTTP/2 client.

use super::{Wire, within};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::{
    body::Incoming,
    client::conn::http2::{Builder, SendRequest},
    ext::Protocol,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{net::TcpStream, task::JoinHandle};
use tokio_rustls::client::TlsStream;

/// One connection with many streams.
pub(crate) struct H2 {
    sender: SendRequest<Full<Bytes>>,
    /// Ends with the connection.
    pub(crate) connection: JoinHandle<hyper::Result<()>>,
}

// === impl H2 ===

impl H2 {
    pub(crate) async fn over(stream: TlsStream<TcpStream>) -> H2 {
        let (sender, connection) = within("SETTINGS", async {
            let mut builder = Builder::new(TokioExecutor::new());
            builder.initial_stream_window_size(WINDOW);
            // As in browsers, one stream cannot exhaust the connection window.
            builder.initial_connection_window_size(WINDOW * 200);
            builder.handshake(TokioIo::new(stream)).await.expect("h2")
        })
        .await;
        let mut client = H2 {
            sender,
            connection: tokio::spawn(connection),
        };
        // An extended CONNECT is allowed only after the server's SETTINGS, which arrive before any response.
        let elsewhere = Request::get("https://elsewhere.test/");
        let elsewhere = elsewhere.body(Full::default()).expect("a request");
        assert_eq!(client.send(elsewhere).await.status(), 404);
        client
    }

    /// Sends a request and returns the response.
    pub(crate) async fn send(&mut self, request: Request<Full<Bytes>>) -> Response<Incoming> {
        self.try_send(request).await.expect("an answer")
    }

    /// Sends a request; returns an error if the stream or the connection is closed.
    #[track_caller]
    pub(crate) fn try_send(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> impl Future<Output = hyper::Result<Response<Incoming>>> {
        within("an answer", async {
            self.sender.ready().await?;
            self.sender.send_request(request).await
        })
    }

    /// Sends an extended CONNECT; returns the response, and the session if it is a 200.
    pub(crate) async fn websocket(
        &mut self,
        path: &str,
        more: &[(&str, &str)],
    ) -> (Response<()>, Option<Wire>) {
        let mut connect = request("CONNECT", path);
        let protocol = Protocol::from_static("websocket");
        connect.extensions_mut().insert(protocol);
        for (name, value) in more {
            let name = name.parse::<http::HeaderName>().expect("a name");
            connect
                .headers_mut()
                .append(name, value.parse().expect("a value"));
        }
        let mut answer = self.send(connect).await;
        let upgraded = match answer.status().as_u16() {
            200 => within("the stream", hyper::upgrade::on(&mut answer))
                .await
                .ok(),
            _ => None,
        };
        let wire = upgraded.map(|upgraded| Wire::stream(TokioIo::new(upgraded)));
        (answer.map(|_| ()), wire)
    }

    /// Opens a session; anything but a 200 fails the test.
    pub(crate) async fn session(&mut self, path: &str) -> Wire {
        let (answer, wire) = self.websocket(path, &[]).await;
        wire.unwrap_or_else(|| panic!("{answer:?}"))
    }
}

/// A request without a body for `a.test`.
pub(crate) fn request(method: &str, path: &str) -> Request<Full<Bytes>> {
    Request::builder()
        .method(method)
        .uri(format!("https://a.test{path}"))
        .body(Full::default())
        .expect("a request")
}

const WINDOW: u32 = 65_535;
