//! The limits per client address: its own, and its share of scarce descriptors and memory.

use crate::http::{
    client_table::{ClientLimit, ClientLimits, ClientPermit, ClientUse},
    context::Context,
    refusal::{Refusal, RefusalReason},
    request::RequestContext,
};

/// Applies the limits per client address, and the shares of descriptors and memory.
pub(crate) fn client_permit(
    context: &Context,
    rc: &RequestContext<'_>,
    is_handshake: bool,
) -> Result<ClientPermit, Refusal> {
    let limits = &rc.gateway.limits;
    let (used_for, max, reason, text) = if is_handshake {
        (
            ClientUse::Session,
            limits.sessions_per_ip,
            RefusalReason::SessionsShare,
            "too many WebSockets from this address, try again later",
        )
    } else {
        (
            ClientUse::Request,
            limits.requests_per_ip,
            RefusalReason::RequestsShare,
            "too many concurrent requests from this address, try again later",
        )
    };
    let limits = ClientLimits::new(rc.gateway, rc.client, max);
    let permit = context.clients.acquire(rc.client, used_for, limits);
    permit.map_err(|limit| match limit {
        ClientLimit::PerIp => Refusal::unavailable(reason, text),
        ClientLimit::Descriptors => Refusal::unavailable(RefusalReason::DescriptorsShare, BUSY),
        ClientLimit::Memory => Refusal::unavailable(RefusalReason::MemoryShare, BUSY),
    })
}

/// The text of a response to an address that is above its share of a scarce resource.
const BUSY: &str = "this server is busy and this address uses much of it, try again later";
