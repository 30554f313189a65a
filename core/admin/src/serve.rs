//! The door itself: a listener, the routes behind it, and the end.

use std::{io, net::TcpListener, sync::Arc, time::Duration};

use axum::{Extension, Router, extract::FromRef, http::Request, middleware};
use hyper::{
    body::Incoming,
    service::{Service, service_fn},
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use provost_fleet::Store;
use provost_server::{dispatch::Dispatch, network::Network, pnp::exchange::Counters, rollout::Rollouts, run::stopped};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{Semaphore, watch},
    time::timeout,
};
use tokio_rustls::TlsAcceptor;

use crate::{
    Activity, Audit, Keys, Looks, api, auth,
    ui::{self, Encrypted, People, Visitor},
};

/// People and their programs, not a building of phones.
const CONNECTIONS: usize = 256;
/// For a handshake, and for the head of a request.
const HEADERS: Duration = Duration::from_secs(10);

/// What the handlers work with.
#[derive(Clone, Debug)]
pub struct Admin {
    pub desk: Arc<Dispatch>,
    pub keys: Arc<Keys>,
    /// None where the registry cannot be kept.
    pub store: Option<Arc<Store>>,
    pub counters: Arc<Counters>,
    pub network: Arc<Network>,
    pub activity: Arc<Activity>,
    pub rollouts: Arc<Rollouts>,
    pub audit: Arc<Audit>,
    pub looks: Looks,
}

/// The same, and who is logged in.
#[derive(Clone, Debug)]
pub(crate) struct Door {
    pub(crate) admin: Admin,
    pub(crate) people: Arc<People>,
}

impl FromRef<Door> for Admin {
    fn from_ref(door: &Door) -> Admin {
        door.admin.clone()
    }
}

impl Door {
    fn routes(self) -> Router {
        let guard = middleware::from_fn_with_state(self.clone(), auth::guard);
        let people = Extension(Arc::clone(&self.people));
        let api = api::routes().layer(guard).layer(people).with_state(self.admin.clone());
        ui::routes(&self).with_state(self).merge(api)
    }
}

/// What answers people, without a socket; each request needs a [`Visitor`] and [`Encrypted`] among its extensions.
pub fn routes(admin: Admin, stop: watch::Receiver<bool>) -> Router {
    let people = Arc::new(People::new(&admin.desk.world().settings.state, stop));
    Door { admin, people }.routes()
}

/// Serves until told to stop.
pub async fn serve(listener: TcpListener, admin: Admin, mut stop: watch::Receiver<bool>) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let settings = Arc::clone(&admin.desk.world().settings);
    let (desk, proxies) = (Arc::clone(&admin.desk), Arc::new(settings.proxies()));
    let routes = TowerToHyperService::new(routes(admin, stop.clone()));
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { break };
        let (stream, from) = tokio::select! {
            () = stopped(&mut stop) => break,
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // A connection that broke off, or no descriptor left: others go on.
                    tracing::debug!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    continue;
                }
            },
        };
        let (routes, proxies, encrypted) = (routes.clone(), Arc::clone(&proxies), settings.admin.tls);
        let service = service_fn(move |mut request: Request<Incoming>| {
            let behind = proxies.behind(request.headers(), from);
            let visitor = behind.as_ref().map_or(from, |behind| behind.client);
            request.extensions_mut().insert(Visitor(visitor.ip()));
            request.extensions_mut().insert(Encrypted(encrypted || behind.is_some_and(|behind| behind.encrypted)));
            routes.call(request)
        });
        let (stop, tls) = (stop.clone(), encrypted.then(|| desk.world().tls.people()));
        connections.spawn(async move {
            let _permit = permit;
            match tls {
                None => converse(stream, service, stop).await,
                Some(None) => {
                    tracing::warn!(peer = %from, "no handshake with somebody at the people's door: there is no certificate to show; `provost check` says why");
                }
                Some(Some(config)) => match timeout(HEADERS, TlsAcceptor::from(config).accept(stream)).await {
                    Ok(Ok(stream)) => converse(stream, service, stop).await,
                    Ok(Err(error)) => tracing::debug!(peer = %from, %error, "no handshake at the people's door"),
                    Err(_) => tracing::debug!(peer = %from, "a handshake at the people's door took too long"),
                },
            }
        });
        while connections.try_join_next().is_some() {}
    }
    let _ =
        tokio::time::timeout(Duration::from_secs(2), async { while connections.join_next().await.is_some() {} }).await;
    Ok(())
}

/// One connection, to its end or to ours.
async fn converse<S>(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    service: S,
    mut stop: watch::Receiver<bool>,
) where
    S: Service<Request<Incoming>, Response = axum::response::Response, Error = std::convert::Infallible>,
    S::Future: Send + 'static,
{
    let mut server = auto::Builder::new(TokioExecutor::new()).http1_only();
    server.http1().timer(TokioTimer::new()).header_read_timeout(HEADERS);
    let connection = server.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    tokio::select! {
        _ = connection.as_mut() => return,
        () = stopped(&mut stop) => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}
