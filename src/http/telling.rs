//! The record of a request: told once, whatever becomes of it.

use super::{
    Body, Context,
    asked::{Trail, in_words},
    reject::Refusal,
};
use crate::observe::RequestRecord;
use ::http::{Request, Response, header};
use hyper::body::Incoming;
use std::{net::IpAddr, sync::Arc};
use tokio::time::Instant;

/// What will be told of a request. Dropped before its end, it tells that the client has left.
pub(super) struct Telling {
    /// Filled in on the way.
    pub(super) trail: Trail,
    context: Arc<Context>,
    client: IpAddr,
    started: Instant,
    version: &'static str,
    method: String,
    host: String,
    path: String,
    told: bool,
}

// === impl Telling ===

impl Telling {
    /// Keeps the request line: the request itself goes on.
    pub(super) fn of(context: Arc<Context>, request: &Request<Incoming>, client: IpAddr) -> Self {
        let host = request
            .headers()
            .get(header::HOST)
            .map(|host| host.as_bytes());
        let authority = request.uri().authority().map(|it| it.as_str().as_bytes());
        Telling {
            trail: Trail::default(),
            context,
            client,
            started: Instant::now(),
            version: in_words(request.version()),
            method: request.method().to_string(),
            host: host
                .or(authority)
                .map(|host| String::from_utf8_lossy(host).into_owned())
                .unwrap_or_default(),
            path: request.uri().path().to_owned(),
            told: false,
        }
    }

    /// Tells how the request was answered.
    pub(super) fn end(mut self, answer: &Result<Response<Body>, Refusal>) {
        match answer {
            Ok(_) if self.trail.session => self.told = true,
            Ok(response) => self.tell(response.status().as_u16(), None),
            Err(refusal) => self.tell(refusal.status.as_u16(), Some(refusal.why)),
        }
    }

    fn tell(&mut self, status: u16, why: Option<&'static str>) {
        self.told = true;
        let context = &self.context;
        match why {
            Some(why) => context.metrics.refused(status, why),
            None => context.metrics.request(status),
        }
        context.access.request(&RequestRecord {
            client: self.client,
            http: self.version,
            method: &self.method,
            host: &self.host,
            path: &self.path,
            route: self.trail.route.as_deref(),
            backend: self.trail.backend.as_deref(),
            status,
            duration: self.started.elapsed(),
            why,
        });
    }
}

impl Drop for Telling {
    fn drop(&mut self) {
        if !self.told {
            self.tell(CLIENT_LEFT, Some("client-left"));
        }
    }
}

/// Nobody got it: what nginx and its users write for a client that left before its answer.
const CLIENT_LEFT: u16 = 499;
