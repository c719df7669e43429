//! The admin API: answers one request. `sessions.rs` and `tap.rs` have the paths that need more than a command to the
//! server.

use crate::{
    admin::{
        Admin, Surface,
        auth::{self, HostCheck},
        path::AdminPath,
        proof,
        query::{BadQuery, Query},
        response::AdminResponse,
        sessions, tap,
    },
    lifecycle::command::{Command, DrainAction, DrainReport, DrainTarget, ServerState},
};
use http_body_util::combinators::UnsyncBoxBody;
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Body, Bytes},
    header::{
        ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE,
        X_CONTENT_TYPE_OPTIONS,
    },
};
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
    /// The time to wait for the server's reply to a command.
    pub(crate) reply_timeout: Duration,
    /// The time that the response takes in addition to the usual deadline; set by requests that need it.
    pub(crate) response_deadline: OnceLock<Duration>,
    /// Set once the connection has returned a proof.
    pub(crate) proven: OnceLock<()>,
}

// === impl AdminApi ===

impl AdminApi {
    /// Returns the response to a request, with the headers that every response has.
    pub(crate) async fn respond<B: Body>(
        &self,
        request: Request<B>,
    ) -> Response<UnsyncBoxBody<Bytes, Infallible>> {
        let path = AdminPath::parse(request.uri().path(), self.surface);
        let admin_response = self.admin_response(path, &request).await;
        // The request with the token follows the proof on the same connection.
        let keeps_open = path == Some(AdminPath::Auth)
            && admin_response.status == StatusCode::OK
            && self.proven.set(()).is_ok();
        let mut response = Response::new(admin_response.body);
        *response.status_mut() = admin_response.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(admin_response.kind));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if !keeps_open {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        if admin_response.status == StatusCode::UNAUTHORIZED {
            // RFC 9110 §15.5.2
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if admin_response.status == StatusCode::METHOD_NOT_ALLOWED {
            // RFC 9110 §15.5.6
            let allowed = if path.is_some_and(AdminPath::requires_post) {
                "POST"
            } else {
                "GET, HEAD"
            };
            headers.insert(ALLOW, HeaderValue::from_static(allowed));
        }
        response
    }

    /// Refuses the request, or executes what its path names.
    async fn admin_response<B: Body>(
        &self,
        path: Option<AdminPath>,
        request: &Request<B>,
    ) -> AdminResponse {
        if let Err(refused) = auth::check_origin(request.uri(), request.headers(), self.host_check)
        {
            return AdminResponse::line(refused.status, refused.text);
        }
        let is_open = path.is_some_and(AdminPath::is_open) || self.surface == Surface::Metrics;
        if !is_open && !auth::has_token(request.headers(), &self.admin.token) {
            return AdminResponse::line(StatusCode::UNAUTHORIZED, TOKEN_REQUIRED);
        }
        let Some(path) = path else {
            return AdminResponse::line(
                StatusCode::NOT_FOUND,
                "no such path: this listener serves /healthz, /readyz and /metrics; server.admin also serves /status, /sessions, /tap and /certificates",
            );
        };
        // hyper sends no body for HEAD (RFC 9110 §9.3.2).
        let (fits, allowed) = if path.requires_post() {
            let fits = request.method() == Method::POST;
            (fits, "this path accepts POST only")
        } else {
            let fits = matches!(*request.method(), Method::GET | Method::HEAD);
            (fits, "this path accepts GET and HEAD only")
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
            // The response itself is the liveness signal; it is independent of the backends.
            AdminPath::Healthz => AdminResponse::line(StatusCode::OK, "ok"),
            AdminPath::Readyz => self.readiness(),
            AdminPath::Metrics => AdminResponse::text(
                "application/openmetrics-text; version=1.0.0; charset=utf-8",
                self.admin.metrics.encode(),
            ),
            AdminPath::Status => self
                .command_json(Command::Status)
                .await
                .unwrap_or_else(|response| response),
            AdminPath::Certificates => self
                .command_json(Command::Certificates)
                .await
                .unwrap_or_else(|response| response),
            AdminPath::Reload => {
                // A connection carries one reload, so this is set once. Otherwise a long reload would lose its reply.
                let _ = self.response_deadline.set(RELOAD_TIMEOUT);
                match self.command_within(RELOAD_TIMEOUT, Command::Reload).await {
                    Ok(Ok(done)) => AdminResponse::line(StatusCode::OK, &done),
                    Ok(Err(error)) => AdminResponse::conflict(&error),
                    Err(response) => response,
                }
            }
            AdminPath::HandOver => match self.command(Command::HandOver).await {
                Ok(Ok(name)) => AdminResponse::line(StatusCode::OK, &name),
                Ok(Err(error)) => AdminResponse::conflict(&error),
                Err(response) => response,
            },
            AdminPath::Drain => self.drain(query).await,
            AdminPath::Renew => self.renew(query).await,
            AdminPath::Auth => proof::prove(&self.admin.token, &self.admin.proofs, query),
            AdminPath::Sessions => sessions::list(&self.admin.sessions, query).await,
            AdminPath::Tap => {
                let (response, duration) = tap::tap(&self.admin, query).await;
                if let Some(duration) = duration {
                    // A connection carries one request, so this is set once.
                    let _ = self.response_deadline.set(duration);
                }
                response
            }
            AdminPath::CloseSessions => sessions::close(&self.admin.sessions, query).await,
        }
    }

    /// Returns 200 while new work is accepted, otherwise 503.
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
        let (target, action) = match parse_drain_query(query) {
            Ok(parsed) => parsed,
            Err(error) => return AdminResponse::line(StatusCode::BAD_REQUEST, &error.to_string()),
        };
        let reply = self
            .command(|reply| Command::Drain {
                target,
                action,
                reply,
            })
            .await;
        match reply {
            Ok(Ok(report)) => {
                let text = match action {
                    DrainAction::Start => describe_drain(&report),
                    DrainAction::End => {
                        "the drain has ended; new sessions are accepted again".to_owned()
                    }
                };
                AdminResponse::line(StatusCode::OK, &text)
            }
            Ok(Err(error)) => AdminResponse::conflict(&error),
            Err(response) => response,
        }
    }

    /// Renews the certificate of `host=NAME`, percent-encoded.
    async fn renew(&self, query: &str) -> AdminResponse {
        let host = match parse_renew_query(query) {
            Ok(host) => host,
            Err(error) => return AdminResponse::line(StatusCode::BAD_REQUEST, &error.to_string()),
        };
        match self
            .command(|reply| Command::Renew(host.clone(), reply))
            .await
        {
            Ok(Ok(())) => AdminResponse::line(
                StatusCode::ACCEPTED,
                &format!(
                    "a certificate for {host} is ordered; `lockgate cert list` shows the result"
                ),
            ),
            Ok(Err(error)) => AdminResponse::conflict(&error),
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
        self.command_within(self.reply_timeout, command).await
    }

    /// Returns the server's reply to a command, or an error response if there is none within `reply_timeout`.
    async fn command_within<T>(
        &self,
        reply_timeout: Duration,
        command: impl FnOnce(oneshot::Sender<T>) -> Command,
    ) -> Result<T, AdminResponse> {
        let exchange = async {
            let (reply_tx, reply_rx) = oneshot::channel();
            self.admin.commands.send(command(reply_tx)).await.ok()?;
            reply_rx.await.ok()
        };
        let unavailable = |text| AdminResponse::line(StatusCode::SERVICE_UNAVAILABLE, text);
        match timeout(reply_timeout, exchange).await {
            Ok(Some(reply)) => Ok(reply),
            Ok(None) => Err(unavailable("the server has stopped")),
            Err(_) => Err(unavailable(
                "the server did not reply in time: is this machine overloaded?",
            )),
        }
    }
}

fn parse_drain_query(query: &str) -> Result<(DrainTarget, DrainAction), BadQuery> {
    let mut query = Query::parse(query)?;
    let action = if query.has("undo") {
        DrainAction::End
    } else {
        DrainAction::Start
    };
    let target = match (query.take("route"), query.take("backend")) {
        (Some(name), None) => DrainTarget::Route(name.into()),
        (None, Some(address)) => DrainTarget::Backend(address.into()),
        _ => return Err(BadQuery::NoDrainTarget),
    };
    query.finish()?;
    Ok((target, action))
}

fn parse_renew_query(query: &str) -> Result<Box<str>, BadQuery> {
    let mut query = Query::parse(query)?;
    let host = query.take("host").ok_or(BadQuery::NoHost)?;
    query.finish()?;
    Ok(host.into())
}

/// Describes the result of a drain, with a line for each pool that has no backend left.
fn describe_drain(
    DrainReport {
        closing,
        pools_without_backend,
    }: &DrainReport,
) -> String {
    let closed = match closing {
        0 => "it has none".to_owned(),
        1 => "1 is closed; `lockgate status` shows the progress".to_owned(),
        n => format!("{n} are closed; `lockgate status` shows the progress"),
    };
    let mut text = format!("draining: no new sessions are accepted; {closed}");
    for pool in pools_without_backend {
        text += &format!(
            "\nwarning: the pool {pool} has no backend left that accepts new sessions: its clients receive 503; `--undo` ends the drain"
        );
    }
    text
}

/// The time to wait for the result of a reload, which may follow one that is running.
const RELOAD_TIMEOUT: Duration = Duration::from_secs(60);

const TOKEN_REQUIRED: &str = "server.admin_token is set: send it as Authorization: Bearer TOKEN (only /healthz, /readyz and /auth need none)";
