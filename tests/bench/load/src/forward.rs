//! The minimal proxy: terminates TLS and copies bytes in both directions without parsing them.

use crate::{
    arguments::Arguments,
    control::{end_with_input, print_line},
    tls,
};
use std::{io, net::SocketAddr};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
};
use tokio_rustls::TlsAcceptor;

pub(crate) async fn run(arguments: &Arguments) -> io::Result<()> {
    let acceptor = TlsAcceptor::from(tls::server(&arguments.cert, &arguments.key)?);
    let listener = TcpListener::bind(("127.0.0.1", arguments.listen)).await?;
    print_line(&listener.local_addr()?.port().to_string())?;
    let to = arguments.to;
    end_with_input();
    loop {
        let (client, _) = listener.accept().await?;
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            // As in any proxy, the end of one connection does not affect others.
            let _ = forward(acceptor, client, to).await;
        });
    }
}

async fn forward(acceptor: TlsAcceptor, client: TcpStream, to: SocketAddr) -> io::Result<()> {
    client.set_nodelay(true)?;
    let mut client = acceptor.accept(client).await?;
    let mut backend = TcpStream::connect(to).await?;
    backend.set_nodelay(true)?;
    copy_bidirectional(&mut client, &mut backend).await?;
    Ok(())
}
