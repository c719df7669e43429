//! The admin API: answers one request. `sessions.rs` and `tap.rs` have the paths that need more than a command to the
//! server.

use crate::{
    admin::{
        Admin, Surface,
        auth::{self, HostCheck},
        response::AdminResponse,
        sessions, tap,
    },
    lifecycle::command::{Command, DrainReport, DrainTarget, ServerState},
};
use http_body_util::combinators::UnsyncBoxBody;
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Body, Bytes},
    header::{
        ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
    },
};
use percent_encoding::percent_decode_str;
use serde::Serialize;
use std::{
    convert::Infallible,
    sync::{Arc, OnceLock},
    time::Duration,
};
use tokio::{sync::oneshot, time::timeout};

/// The admin API for one connection.
#[derive(Debug, Clone)]
pub(crate) struct AdminApi {
    pub(crate) admin: Arc<Admin>,
    pub(crate) surface: Surface,
    pub(crate) host_check: HostCheck,
    /// The deadline for the server's reply to a command.
    pub(crate) reply: Duration,
    /// The time that the response takes in addition to the usual deadline; set by requests that need it.
    pub(crate) response_deadline: OnceLock<Duration>,
}

// === impl AdminApi ===

impl AdminApi {
    pub(crate) async fn answer<B: Body>(
        &self,
        request: Request<B>,
    ) -> Response<UnsyncBoxBody<Bytes, Infallible>> {
        let admin_response = self.respond(&request).await;
        let mut response = Response::new(admin_response.body);
        *response.status_mut() = admin_response.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(admin_response.kind));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if admin_response.status == StatusCode::UNAUTHORIZED {
            // RFC 9110 §15.5.2
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if admin_response.status == StatusCode::METHOD_NOT_ALLOWED {
            // RFC 9110 §15.5.6
            let allowed = match request.uri().path() {
                path if requires_post(path) => "POST",
                _ => "GET, HEAD",
            };
            headers.insert(ALLOW, HeaderValue::from_static(allowed));
        }
        response
    }

    async fn respond<B: Body>(&self, request: &Request<B>) -> AdminResponse {
        if let Err(refused) = auth::check_origin(request.uri(), request.headers(), self.host_check)
        {
            return AdminResponse::line(refused.status, refused.text);
        }
        let path = request.uri().path();
        // A kubelet has no token, and the answer reveals nothing but the state of the process.
        let is_open = matches!(path, "/healthz" | "/readyz") || self.surface == Surface::Metrics;
        if !is_open && !auth::has_token(request.headers(), &self.admin.token) {
            return AdminResponse::line(StatusCode::UNAUTHORIZED, TOKEN_REQUIRED);
        }
        let known = match path {
            "/healthz" | "/readyz" | "/metrics" => true,
            "/status" | "/certificates" | SESSIONS | TAP => self.surface == Surface::Full,
            path => requires_post(path) && self.surface == Surface::Full,
        };
        if !known {
            return AdminResponse::line(
                StatusCode::NOT_FOUND,
                "no such path: this listener serves /healthz, /readyz and /metrics; server.admin also serves /status, /sessions, /tap and /certificates",
            );
        }
        // hyper sends no body for HEAD (RFC 9110 §9.3.2).
        let (fits, allowed) = match path {
            path if requires_post(path) => (
                request.method() == Method::POST,
                "this path accepts POST only",
            ),
            _ => (
                matches!(*request.method(), Method::GET | Method::HEAD),
                "this path accepts GET and HEAD only",
            ),
        };
        if !fits {
            return AdminResponse::line(StatusCode::METHOD_NOT_ALLOWED, allowed);
        }
        if !request.body().is_end_stream() {
            return AdminResponse::line(
                StatusCode::PAYLOAD_TOO_LARGE,
                "requests to the admin API must not have a body",
            );
        }
        let query = request.uri().query().unwrap_or_default();
        match path {
            // The answer itself is the liveness signal; it is independent of the backends.
            "/healthz" => AdminResponse::line(StatusCode::OK, "ok"),
            "/readyz" => self.readiness(),
            "/metrics" => AdminResponse::text(
                "application/openmetrics-text; version=1.0.0; charset=utf-8",
                self.admin.metrics.encode(),
            ),
            "/certificates" => self
                .command_json(Command::Certificates)
                .await
                .unwrap_or_else(|response| response),
            RELOAD => {
                // A connection carries one request, so this is set once. Otherwise a long reload would lose its reply.
                let _ = self.response_deadline.set(RELOAD_TIMEOUT);
                match self.command_within(RELOAD_TIMEOUT, Command::Reload).await {
                    Ok(Ok(done)) => AdminResponse::line(StatusCode::OK, &done),
                    Ok(Err(error)) => AdminResponse::line(StatusCode::CONFLICT, &error.to_string()),
                    Err(response) => response,
                }
            }
            HAND_OVER => match self.command(Command::HandOver).await {
                Ok(Ok(name)) => AdminResponse::line(StatusCode::OK, &name),
                Ok(Err(error)) => AdminResponse::line(StatusCode::CONFLICT, &error.to_string()),
                Err(response) => response,
            },
            DRAIN => self.drain(query).await,
            RENEW => self.renew(query).await,
            SESSIONS => sessions::list(&self.admin.sessions, query).await,
            TAP => {
                let (response, duration) = tap::tap(&self.admin, query).await;
                if let Some(duration) = duration {
                    // A connection carries one request, so this is set once.
                    let _ = self.response_deadline.set(duration);
                }
                response
            }
            CLOSE => sessions::close(&self.admin.sessions, query).await,
            _ => self
                .command_json(Command::Status)
                .await
                .unwrap_or_else(|response| response),
        }
    }

    fn readiness(&self) -> AdminResponse {
        match *self.admin.state.borrow() {
            ServerState::Ready => AdminResponse::line(StatusCode::OK, "ready"),
            ServerState::Starting => {
                AdminResponse::line(StatusCode::SERVICE_UNAVAILABLE, "starting")
            }
            ServerState::Draining => {
                AdminResponse::line(StatusCode::SERVICE_UNAVAILABLE, "draining")
            }
        }
    }

    /// Drains `route=NAME` or `backend=ADDRESS`, percent-encoded; `&undo` ends the drain.
    async fn drain(&self, query: &str) -> AdminResponse {
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
            let text = "a target is missing: ?route=NAME or ?backend=ADDRESS";
            return AdminResponse::line(StatusCode::BAD_REQUEST, text);
        };
        let reply = self
            .command(|sender| Command::Drain(target, draining, sender))
            .await;
        match reply {
            Ok(Ok(_)) if !draining => AdminResponse::line(
                StatusCode::OK,
                "the drain has ended; new sessions are accepted again",
            ),
            Ok(Ok(draining)) => AdminResponse::line(StatusCode::OK, &describe_drain(&draining)),
            Ok(Err(error)) => AdminResponse::line(StatusCode::CONFLICT, &error.to_string()),
            Err(response) => response,
        }
    }

    /// Renews the certificate of `host=NAME`, percent-encoded.
    async fn renew(&self, query: &str) -> AdminResponse {
        let host = query.strip_prefix("host=").map(percent_decode_str);
        let Some(host) = host.and_then(|host| host.decode_utf8().ok()) else {
            return AdminResponse::line(
                StatusCode::BAD_REQUEST,
                "a host is missing: ?host=chat.example.com",
            );
        };
        match self
            .command(|sender| Command::Renew((*host).into(), sender))
            .await
        {
            Ok(Ok(())) => AdminResponse::line(
                StatusCode::ACCEPTED,
                &format!(
                    "a certificate for {host} is ordered; `lockgate cert list` shows the result"
                ),
            ),
            Ok(Err(error)) => AdminResponse::line(StatusCode::CONFLICT, &error.to_string()),
            Err(response) => response,
        }
    }

    /// Returns the server's reply to a command as JSON.
    async fn command_json<T: Serialize>(
        &self,
        command: impl FnOnce(oneshot::Sender<T>) -> Command,
    ) -> Result<AdminResponse, AdminResponse> {
        let reply = self.command(command).await?;
        Ok(AdminResponse::json(&reply))
    }

    /// Returns the server's reply to a command, or an error response if there is none.
    async fn command<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<T>) -> Command,
    ) -> Result<T, AdminResponse> {
        self.command_within(self.reply, command).await
    }

    async fn command_within<T>(
        &self,
        reply: Duration,
        command: impl FnOnce(oneshot::Sender<T>) -> Command,
    ) -> Result<T, AdminResponse> {
        let exchange = async {
            let (reply, answer) = oneshot::channel();
            self.admin.commands.send(command(reply)).await.ok()?;
            answer.await.ok()
        };
        let unavailable = |text| AdminResponse::line(StatusCode::SERVICE_UNAVAILABLE, text);
        match timeout(reply, exchange).await {
            Ok(Some(reply)) => Ok(reply),
            Ok(None) => Err(unavailable("the server has stopped")),
            Err(_) => Err(unavailable(
                "the server did not reply in time: is this machine overloaded?",
            )),
        }
    }
}

/// Returns whether `path` names a request that changes state and therefore requires POST.
fn requires_post(path: &str) -> bool {
    matches!(path, RENEW | RELOAD | DRAIN | HAND_OVER | CLOSE)
}

/// Describes the result of a drain, with a line for each pool that has no backend left.
fn describe_drain(
    DrainReport {
        closing,
        pools_without_backend,
    }: &DrainReport,
) -> String {
    let closed = match closing {
        1 => "1 is closed".to_owned(),
        n => format!("{n} are closed"),
    };
    let mut text = format!(
        "draining: no new sessions are accepted; {closed}; `lockgate status` shows the progress"
    );
    for pool in pools_without_backend {
        text += &format!(
            "\nwarning: the pool {pool} has no backend left that accepts new sessions: its clients receive 503; `--undo` ends the drain"
        );
    }
    text
}

/// The deadline for reading certificates: ten thousand of them take seconds.
const RELOAD_TIMEOUT: Duration = Duration::from_secs(60);

const TOKEN_REQUIRED: &str = "server.admin_token is set: send it as Authorization: Bearer TOKEN (only /healthz and /readyz need none)";

const CLOSE: &str = "/sessions/close";

const DRAIN: &str = "/drain";

const HAND_OVER: &str = "/handover";

const RELOAD: &str = "/reload";

const RENEW: &str = "/certificates/renew";

const SESSIONS: &str = "/sessions";

const TAP: &str = "/tap";
