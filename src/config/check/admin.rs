//! Checks `server.admin_token`: only characters that an Authorization header may contain.

use super::CheckContext;

pub(super) fn token(context: &mut CheckContext<'_>) {
    let token = context.config.server.admin_token.expose();
    // RFC 6750 §2.1
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
    if !token.bytes().all(fits) {
        context.add(
            context.in_section("server", "admin_token"),
            "server.admin_token cannot stand in a header",
            "use letters, digits and - . _ ~ + / =, as `openssl rand -hex 32` makes them",
        );
    }
}
