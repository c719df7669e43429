//! The guards that verify who a client is, in the order in which a route lists them. They run after the checks of the
//! address and the origin, and before a byte goes to a backend.

use crate::{
    config::{self, Diagnostic, Located},
    guard::{
        Denial,
        authorization::{AuthRequest, AuthServices, Authorized},
        basic::BasicGuard,
        forward_auth::ForwardAuthGuard,
        jwt::JwtGuard,
    },
};
use std::sync::Arc;

/// A guard of `[guards.NAME]`, in its runtime form.
#[derive(Debug)]
pub(crate) struct IdentityGuard {
    pub(crate) name: Arc<str>,
    kind: GuardKind,
}

#[derive(Debug)]
enum GuardKind {
    Jwt(Box<JwtGuard>),
    ForwardAuth(Box<ForwardAuthGuard>),
    Basic(Box<BasicGuard>),
}

/// Asks the guards in their order, until one refuses.
pub(crate) async fn authorize(
    guards: &[Arc<IdentityGuard>],
    request: &AuthRequest<'_>,
    services: &AuthServices,
) -> Result<Authorized, Denial> {
    let mut authorized = Authorized::default();
    for guard in guards {
        if let Err(mut denial) = guard.authorize(request, services, &mut authorized).await {
            denial.guard = Some(guard.name.clone());
            // Cookies that an earlier guard sets, such as those of a sign-in that it has extended.
            denial.headers.append(&mut authorized.response_headers);
            return Err(denial);
        }
    }
    Ok(authorized)
}

// === impl IdentityGuard ===

impl IdentityGuard {
    /// Builds the guard, and reads its files. `previous` is the guard of this name before a reload: keys that were
    /// fetched from the same address stay in use. Returns `None` after an error, which is in `diagnostics`.
    pub(crate) fn build(
        name: &str,
        guard: &Located<config::Guard>,
        previous: Option<&IdentityGuard>,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Option<IdentityGuard> {
        let name: Arc<str> = name.into();
        let kind = if let Some(jwt) = &guard.jwt {
            let previous = previous.and_then(IdentityGuard::jwt);
            GuardKind::Jwt(Box::new(JwtGuard::build(
                &name,
                jwt,
                previous,
                diagnostics,
            )?))
        } else if let Some(auth) = &guard.forward_auth {
            GuardKind::ForwardAuth(Box::new(ForwardAuthGuard::build(&name, auth, diagnostics)?))
        } else if let Some(basic) = &guard.basic {
            let previous = previous.and_then(IdentityGuard::basic);
            GuardKind::Basic(Box::new(BasicGuard::build(basic, previous, diagnostics)?))
        } else {
            // `check` has reported it.
            return None;
        };
        Some(IdentityGuard { name, kind })
    }

    /// Asks the guard about a request, and adds what it has decided.
    async fn authorize(
        &self,
        request: &AuthRequest<'_>,
        services: &AuthServices,
        authorized: &mut Authorized,
    ) -> Result<(), Denial> {
        match &self.kind {
            GuardKind::Jwt(jwt) => {
                let token = jwt.authorize(request.token, services).await?;
                jwt.apply(&token, authorized)
            }
            GuardKind::ForwardAuth(auth) => auth.authorize(request, services, authorized).await,
            GuardKind::Basic(basic) => basic.authorize(request, services, authorized).await,
        }
    }

    /// Returns the guard for tokens, if it is one.
    pub(crate) fn jwt(&self) -> Option<&JwtGuard> {
        match &self.kind {
            GuardKind::Jwt(jwt) => Some(jwt),
            _ => None,
        }
    }

    /// Returns the guard for passwords, if it is one.
    pub(crate) fn basic(&self) -> Option<&BasicGuard> {
        match &self.kind {
            GuardKind::Basic(basic) => Some(basic),
            _ => None,
        }
    }

    /// Describes what the guard decides about a request. It sends nothing, and does not count the request.
    pub(crate) fn explain(&self, request: &AuthRequest<'_>) -> String {
        match &self.kind {
            GuardKind::Jwt(jwt) => jwt.explain(request.token),
            GuardKind::ForwardAuth(auth) => auth.explain(),
            GuardKind::Basic(basic) => basic.explain(request.headers),
        }
    }

    /// Starts what the guard needs before its first request, such as the fetch of a key set.
    pub(crate) fn start(&self, services: &AuthServices) {
        match &self.kind {
            GuardKind::Jwt(jwt) => jwt.start(services),
            GuardKind::ForwardAuth(_) | GuardKind::Basic(_) => {}
        }
    }
}
