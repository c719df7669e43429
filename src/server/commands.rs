//! The drain of a route or backend, as the admin API orders it.

use crate::{
    http::context::Context,
    lifecycle::command::{DrainAction, DrainError, DrainReport, DrainTarget},
    registry::SessionTarget,
    server::drain::{DrainPacing, Drains},
};
use std::sync::Arc;
use tracing::{info, warn};

/// Starts or ends the drain of a route or backend. Its sessions are closed as after a reload that removes it.
pub(crate) fn drain_target(
    context: &Arc<Context>,
    drains: &Drains,
    target: &DrainTarget,
    action: DrainAction,
) -> Result<DrainReport, DrainError> {
    let gateway = context.live.snapshot();
    if !gateway.drain(target, action == DrainAction::Start) {
        return Err(match target {
            DrainTarget::Route(name) => DrainError::UnknownRoute(name.clone()),
            DrainTarget::Backend(address) => DrainError::UnknownBackend(address.clone()),
        });
    }
    if action == DrainAction::End {
        info!(drained = %target, "drain undone by order; accepting new sessions again");
        return Ok(DrainReport::default());
    }
    let leaving = context.sessions.matching(|session| match target {
        DrainTarget::Route(name) => *session.route == **name,
        DrainTarget::Backend(address) => *session.backend == **address,
    });
    let closing = leaving.len();
    let (current, drained) = (context.clone(), target.clone());
    let must_close = move |_: &SessionTarget| current.live.snapshot().is_drained(&drained);
    let pacing = DrainPacing::of(&gateway.drain);
    drains.close(leaving, pacing, must_close, &context.tasks);
    info!(drained = %target, closing, "drained by order; accepting no new sessions");
    let pools_without_backend = gateway.pools_left_without_backend(target);
    for pool in &pools_without_backend {
        warn!(%pool, drained = %target, "the pool has no backend left that accepts new sessions: all are drained or down");
    }
    Ok(DrainReport {
        closing,
        pools_without_backend,
    })
}
