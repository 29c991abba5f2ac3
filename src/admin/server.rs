//! The HTTP server of the admin API, metrics and health.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admin::routes::Admin;

/// Connections at a time. A scraper and a few operators need a handful; each costs some 20 KiB.
const CONNECTIONS_MAX: usize = 256;

/// Connections that may wait to be accepted. The library's 128 overflow when a few hundred clients
/// come at once, and the kernel of one that is turned away tries again after 1, 3 and 7 seconds.
const BACKLOG: u32 = 4096;

/// A client that has not sent its request by then is cut off.
const HEADER_TIME: Duration = Duration::from_secs(10);

/// Requests that still run when the process ends have so long.
const DRAIN_TIME: Duration = Duration::from_secs(2);

/// A server that runs until it is stopped.
pub(crate) struct AdminServer {
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

/// Binds a socket, saying clearly what could not be.
///
/// # Errors
/// When the port is in use or not ours to take.
pub(crate) async fn bind(what: &str, address: SocketAddr) -> Result<TcpListener> {
    listen(address).with_context(|| format!("cannot serve {what} on {address}"))
}

fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // As the library does; a port is free for us as soon as nobody listens on it.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

impl AdminServer {
    /// Begins to serve.
    pub(crate) fn start(listener: TcpListener, admin: Arc<Admin>) -> Self {
        let stop = CancellationToken::new();
        let task = tokio::spawn(accept(listener, admin, stop.clone()));
        Self { stop, task }
    }

    /// Takes no more connections, lets running requests end for a while, and stops.
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the admin server broke off");
        }
    }
}

async fn accept(listener: TcpListener, admin: Arc<Admin>, stop: CancellationToken) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let connections = TaskTracker::new();
    loop {
        let place = tokio::select! {
            () = stop.cancelled() => break,
            place = Arc::clone(&places).acquire_owned() => place,
        };
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let serve = serve(stream, Arc::clone(&admin), stop.clone());
                connections.spawn(async move {
                    serve.await;
                    drop(place);
                });
            }
            Err(error) => {
                // Out of descriptors, most likely: wait for some to come back.
                tracing::warn!(%error, "cannot accept an admin connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    drop(listener);
    connections.close();
    let _ = timeout(DRAIN_TIME, connections.wait()).await;
}

async fn serve(stream: TcpStream, admin: Arc<Admin>, stop: CancellationToken) {
    let service = service_fn(move |request: Request<Incoming>| {
        let admin = Arc::clone(&admin);
        async move { Ok::<Response<Full<Bytes>>, Infallible>(admin.answer(request).await) }
    });
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIME);
    let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "an admin connection broke off");
    }
}
