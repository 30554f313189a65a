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
use tokio::sync::{Semaphore, watch};

use crate::{
    Activity, Audit, Keys, api, auth,
    ui::{self, People, Visitor},
};

/// People and their programs, not a building of phones.
const CONNECTIONS: usize = 256;
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

/// Serves until told to stop.
pub async fn serve(listener: TcpListener, admin: Admin, mut stop: watch::Receiver<bool>) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let people = Arc::new(People::new(&admin.desk.world().settings.state, stop.clone()));
    let routes = TowerToHyperService::new(Door { admin, people }.routes());
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { break };
        let (stream, visitor) = tokio::select! {
            () = stopped(&mut stop) => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, from)) => (stream, Visitor(from.ip())),
                Err(error) => {
                    // A connection that broke off, or no descriptor left: others go on.
                    tracing::debug!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    continue;
                }
            },
        };
        let routes = routes.clone();
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(visitor);
            routes.call(request)
        });
        let mut stop = stop.clone();
        connections.spawn(async move {
            let _permit = permit;
            let mut server = auto::Builder::new(TokioExecutor::new()).http1_only();
            server.http1().timer(TokioTimer::new()).header_read_timeout(HEADERS);
            let connection = server.serve_connection(TokioIo::new(stream), service);
            tokio::pin!(connection);
            tokio::select! {
                _ = connection.as_mut() => return,
                () = stopped(&mut stop) => connection.as_mut().graceful_shutdown(),
            }
            let _ = connection.await;
        });
        while connections.try_join_next().is_some() {}
    }
    let _ =
        tokio::time::timeout(Duration::from_secs(2), async { while connections.join_next().await.is_some() {} }).await;
    Ok(())
}
