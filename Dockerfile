# One static binary in an empty image: `docker build -t lockgate .`
FROM rust:1-bookworm AS builder
WORKDIR /lockgate
# With --target these flags apply to the program alone: procedural macros must stay dynamic. A static program cannot detect
# getrandom(2) at run time and would read /dev/urandom instead, so the call is selected at build time.
ENV RUSTFLAGS='-C target-feature=+crt-static --cfg getrandom_backend="linux_getrandom"' \
    CARGO_PROFILE_RELEASE_STRIP=debuginfo

# Dependencies in a separate layer, which is rebuilt only if the manifest or the lock file changes.
COPY Cargo.toml Cargo.lock ./
COPY .cargo .cargo
RUN mkdir src \
    && echo 'fn main() {}' >src/main.rs \
    && touch src/lib.rs \
    && cargo build --release --locked --bin lockgate --target "$(rustc --print host-tuple)"

# The copies keep their timestamps, which are older than the build above: without touch, cargo would skip them.
COPY src ./src
RUN touch src/main.rs src/lib.rs \
    && cargo build --release --locked --bin lockgate --target "$(rustc --print host-tuple)" \
    && install -D "target/$(rustc --print host-tuple)/release/lockgate" /image/lockgate \
    && mkdir /image/data

FROM scratch
COPY --from=builder /image/lockgate /lockgate
COPY --from=builder --chown=65532:65532 /image/data /data
# PATH is for `docker exec NAME lockgate status`.
ENV PATH=/ \
    LOCKGATE_DATA=/data
USER 65532:65532
VOLUME /data
EXPOSE 443 80 8443
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s CMD ["/lockgate", "health"]
ENTRYPOINT ["/lockgate"]
CMD ["run"]
