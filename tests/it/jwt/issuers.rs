//! Real issuers and libraries: an OpenID provider, and tokens of PyJWT, joserfc and Authlib.

use crate::{
    harness::{Backend, Lockgate, Program},
    jwt::open,
};

#[tokio::test]
async fn tokens_of_python_libraries_and_of_an_openid_provider_are_accepted() {
    let backend = Backend::listen().await;
    // Prints the issuer's URL, then lines with a library and a token.
    let mut issuer = Program::start("token_issuer.py", &[]);
    let url = issuer.line().await;
    let lockgate = Lockgate::to(backend.address)
        .with(&format!(
            "guards = [\"login\"]\n[guards.login.jwt]\nissuer = \"{url}\"\naudience = [\"chat\"]\n\
             algorithms = [\"RS256\", \"PS256\", \"ES256\", \"EdDSA\"]"
        ))
        .start()
        .await;
    let mut seen = Vec::new();
    loop {
        let line = issuer.line().await;
        let Some((library, token)) = line.split_once(' ') else {
            break;
        };
        let _session = open(&lockgate, &backend, token).await;
        seen.push(library.to_owned());
    }
    assert_eq!(
        seen,
        [
            "PyJWT:RS256",
            "PyJWT:PS256",
            "PyJWT:ES256",
            "PyJWT:EdDSA",
            "joserfc:RS256",
            "joserfc:ES256",
            "Authlib:RS256",
            "Authlib:ES256"
        ]
    );
    let mut provider = Program::start("openid_provider.py", &[]);
    let url = provider.line().await;
    let token = provider.line().await;
    let lockgate = Lockgate::to(backend.address)
        .with(&format!(
            "guards = [\"login\"]\n[guards.login.jwt]\nissuer = \"{url}\"\naudience = [\"chat\"]"
        ))
        .start()
        .await;
    let _session = open(&lockgate, &backend, &token).await;
    lockgate
        .record(|it| it["event"] == "open" && it["subject"] == "anna")
        .await;
}
