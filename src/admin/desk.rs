//! Answers one request.

use super::{
    Admin, Surface,
    browser::{self, Names},
};
use crate::lifecycle::{Command, State};
use hyper::{
    Method, Request, Response, StatusCode,
    body::Body,
    header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS},
};
use std::{sync::Arc, time::Duration};
use tokio::{sync::oneshot, time::timeout};

/// What one connection may ask.
#[derive(Debug, Clone)]
pub(super) struct Desk {
    pub(super) admin: Arc<Admin>,
    pub(super) surface: Surface,
    pub(super) names: Names,
    /// For the server's reply to a command.
    pub(super) reply: Duration,
}

struct Page {
    status: StatusCode,
    kind: &'static str,
    text: String,
}

// === impl Desk ===

impl Desk {
    pub(super) async fn answer<B: Body>(&self, request: Request<B>) -> Response<String> {
        let page = self.page(&request).await;
        let mut response = Response::new(page.text);
        *response.status_mut() = page.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(page.kind));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if page.status == StatusCode::METHOD_NOT_ALLOWED {
            // RFC 9110 §15.5.6
            headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        }
        response
    }

    async fn page<B: Body>(&self, request: &Request<B>) -> Page {
        if let Err((status, text)) = browser::vet(request.uri(), request.headers(), self.names) {
            return Page::line(status, text);
        }
        let path = request.uri().path();
        let known = match path {
            "/healthz" | "/readyz" | "/metrics" => true,
            "/status" => self.surface == Surface::Full,
            _ => false,
        };
        if !known {
            return Page::line(
                StatusCode::NOT_FOUND,
                "no such page: /healthz, /readyz and /metrics are here, on server.admin also /status",
            );
        }
        // hyper sends no body for HEAD (RFC 9110 §9.3.2).
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return Page::line(
                StatusCode::METHOD_NOT_ALLOWED,
                "only GET and HEAD are answered",
            );
        }
        if !request.body().is_end_stream() {
            return Page::line(StatusCode::PAYLOAD_TOO_LARGE, "no request has a body here");
        }
        match path {
            // That this is answered is all that it says; backends are another matter.
            "/healthz" => Page::line(StatusCode::OK, "ok"),
            "/readyz" => self.readiness(),
            "/metrics" => Page {
                status: StatusCode::OK,
                kind: "application/openmetrics-text; version=1.0.0; charset=utf-8",
                text: self.admin.metrics.encode(),
            },
            _ => self.status().await,
        }
    }

    fn readiness(&self) -> Page {
        match *self.admin.state.borrow() {
            State::Ready => Page::line(StatusCode::OK, "ready"),
            State::Starting => Page::line(StatusCode::SERVICE_UNAVAILABLE, "starting"),
            State::Draining => Page::line(StatusCode::SERVICE_UNAVAILABLE, "draining"),
        }
    }

    async fn status(&self) -> Page {
        let asked = async {
            let (reply, answer) = oneshot::channel();
            self.admin
                .commands
                .send(Command::Status(reply))
                .await
                .ok()?;
            answer.await.ok()
        };
        match timeout(self.reply, asked).await {
            Ok(Some(status)) => Page {
                status: StatusCode::OK,
                kind: "application/json",
                text: serde_json::to_string(&status).expect("a status is strings and numbers"),
            },
            Ok(None) => Page::line(StatusCode::SERVICE_UNAVAILABLE, "the server has stopped"),
            Err(_) => Page::line(
                StatusCode::SERVICE_UNAVAILABLE,
                "the server did not reply in time: is this machine overloaded?",
            ),
        }
    }
}

// === impl Page ===

impl Page {
    fn line(status: StatusCode, text: &str) -> Self {
        Page {
            status,
            kind: "text/plain; charset=utf-8",
            text: format!("{text}\n"),
        }
    }
}
