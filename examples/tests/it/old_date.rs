//! A service as it would answer if it were 2001 there.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// In front of the service at this host and port. The date is the only thing that is not real.
pub(crate) async fn before(service: String) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (client, _) = listener.accept().await.unwrap();
            let service = TcpStream::connect(&service).await.unwrap();
            let (mut from_client, mut to_client) = client.into_split();
            let (mut from_service, mut to_service) = service.into_split();
            tokio::spawn(async move { tokio::io::copy(&mut from_client, &mut to_service).await });
            tokio::spawn(async move {
                let mut buffer = vec![0; 64 << 10];
                while let Ok(n @ 1..) = from_service.read(&mut buffer).await {
                    let part = &mut buffer[..n];
                    // Heads are short, and come in one piece.
                    let date = part.windows(8).position(|window| window.eq_ignore_ascii_case(b"\r\ndate: "));
                    let old = b"Sat, 24 Nov 2001 10:00:00 GMT";
                    if let Some(date) = date.and_then(|at| part.get_mut(at + 8..at + 8 + old.len())) {
                        date.copy_from_slice(old);
                    }
                    if to_client.write_all(part).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}
