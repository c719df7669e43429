//! Answers one request.

use super::{
    Admin, Surface,
    browser::{self, Names},
};
use crate::lifecycle::{Command, DrainTarget, State};
use hyper::{
    Method, Request, Response, StatusCode,
    body::Body,
    header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS},
};
use percent_encoding::percent_decode_str;
use serde::Serialize;
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
            let allowed = match request.uri().path() {
                path if is_order(path) => "POST",
                _ => "GET, HEAD",
            };
            headers.insert(ALLOW, HeaderValue::from_static(allowed));
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
            "/status" | "/certificates" => self.surface == Surface::Full,
            path => is_order(path) && self.surface == Surface::Full,
        };
        if !known {
            return Page::line(
                StatusCode::NOT_FOUND,
                "no such page: /healthz, /readyz and /metrics are here, on server.admin also /status and /certificates",
            );
        }
        // hyper sends no body for HEAD (RFC 9110 §9.3.2).
        let (fits, allowed) = match path {
            path if is_order(path) => (
                request.method() == Method::POST,
                "only POST is answered here",
            ),
            _ => (
                matches!(*request.method(), Method::GET | Method::HEAD),
                "only GET and HEAD are answered",
            ),
        };
        if !fits {
            return Page::line(StatusCode::METHOD_NOT_ALLOWED, allowed);
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
            "/certificates" => self
                .ask(Command::Certificates)
                .await
                .unwrap_or_else(|page| page),
            RELOAD => match self.command(Command::Reload).await {
                Ok(Ok(done)) => Page::line(StatusCode::OK, &done),
                Ok(Err(why)) => Page::line(StatusCode::CONFLICT, &why),
                Err(page) => page,
            },
            HAND_OVER => match self.command(Command::HandOver).await {
                Ok(Ok(name)) => Page::line(StatusCode::OK, &name),
                Ok(Err(why)) => Page::line(StatusCode::CONFLICT, &why),
                Err(page) => page,
            },
            DRAIN => self.drain(request.uri().query().unwrap_or_default()).await,
            RENEW => self.renew(request.uri().query().unwrap_or_default()).await,
            _ => self.ask(Command::Status).await.unwrap_or_else(|page| page),
        }
    }

    /// `route=NAME` or `backend=ADDRESS`, percent-encoded; `&undo` ends it.
    async fn drain(&self, query: &str) -> Page {
        let (query, draining) = match query.strip_suffix("&undo") {
            Some(query) => (query, false),
            None => (query, true),
        };
        let decoded = |value| percent_decode_str(value).decode_utf8().ok();
        let target = match query.split_once('=') {
            Some(("route", name)) => decoded(name).map(|it| DrainTarget::Route((*it).into())),
            Some(("backend", name)) => decoded(name).map(|it| DrainTarget::Backend((*it).into())),
            _ => None,
        };
        let Some(target) = target else {
            let text = "name what: ?route=NAME or ?backend=ADDRESS";
            return Page::line(StatusCode::BAD_REQUEST, text);
        };
        let ordered = self
            .command(|reply| Command::Drain(target, draining, reply))
            .await;
        match ordered {
            Ok(Ok(_)) if !draining => Page::line(StatusCode::OK, "it takes new sessions again"),
            Ok(Ok(closing)) => {
                let closed = match closing {
                    1 => "1 is closed".to_owned(),
                    n => format!("{n} are closed"),
                };
                let text = format!(
                    "it takes no new sessions; {closed}, and `lockgate status` shows how that goes"
                );
                Page::line(StatusCode::OK, &text)
            }
            Ok(Err(why)) => Page::line(StatusCode::CONFLICT, &why),
            Err(page) => page,
        }
    }

    /// `host=NAME`, percent-encoded.
    async fn renew(&self, query: &str) -> Page {
        let host = query.strip_prefix("host=").map(percent_decode_str);
        let Some(host) = host.and_then(|host| host.decode_utf8().ok()) else {
            return Page::line(
                StatusCode::BAD_REQUEST,
                "name the host: ?host=chat.example.com",
            );
        };
        match self
            .command(|reply| Command::Renew((*host).into(), reply))
            .await
        {
            Ok(Ok(())) => Page::line(
                StatusCode::ACCEPTED,
                &format!(
                    "a certificate for {host} is ordered; `lockgate cert list` shows what comes of it"
                ),
            ),
            Ok(Err(why)) => Page::line(StatusCode::CONFLICT, &why),
            Err(page) => page,
        }
    }

    fn readiness(&self) -> Page {
        match *self.admin.state.borrow() {
            State::Ready => Page::line(StatusCode::OK, "ready"),
            State::Starting => Page::line(StatusCode::SERVICE_UNAVAILABLE, "starting"),
            State::Draining => Page::line(StatusCode::SERVICE_UNAVAILABLE, "draining"),
        }
    }

    /// What the server replies to a command, as JSON.
    async fn ask<T: Serialize>(
        &self,
        command: impl FnOnce(oneshot::Sender<T>) -> Command,
    ) -> Result<Page, Page> {
        let reply = self.command(command).await?;
        Ok(Page {
            status: StatusCode::OK,
            kind: "application/json",
            text: serde_json::to_string(&reply).expect("a reply is strings and numbers"),
        })
    }

    /// What the server replies to a command, or a page that says why it does not.
    async fn command<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<T>) -> Command,
    ) -> Result<T, Page> {
        let asked = async {
            let (reply, answer) = oneshot::channel();
            self.admin.commands.send(command(reply)).await.ok()?;
            answer.await.ok()
        };
        let unavailable = |text| Page::line(StatusCode::SERVICE_UNAVAILABLE, text);
        match timeout(self.reply, asked).await {
            Ok(Some(reply)) => Ok(reply),
            Ok(None) => Err(unavailable("the server has stopped")),
            Err(_) => Err(unavailable(
                "the server did not reply in time: is this machine overloaded?",
            )),
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

/// What has an effect, and so wants POST.
fn is_order(path: &str) -> bool {
    matches!(path, RENEW | RELOAD | DRAIN | HAND_OVER)
}

const DRAIN: &str = "/drain";
const HAND_OVER: &str = "/handover";
const RELOAD: &str = "/reload";
const RENEW: &str = "/certificates/renew";
