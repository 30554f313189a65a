//! `provost relay`: the ears of a server elsewhere.

use std::process::ExitCode;

use anyhow::{Context, Result};
use provost_server::{
    pnp::relay::{
        PORT,
        agent::{Opened, Plan},
        read_key,
    },
    rights,
    settings::Settings,
};
use tokio::sync::{mpsc, watch};

use crate::args::RelayArgs;

pub(crate) fn relay(settings: &Settings, words: &RelayArgs) -> Result<ExitCode> {
    crate::log(settings, "info")?;
    let pnp = &settings.pnp;
    let server = match words.to.rsplit_once(':') {
        Some(_) => words.to.clone(),
        None => format!("{}:{PORT}", words.to),
    };
    let plan = Plan {
        server,
        key: read_key(&words.key)?,
        interfaces: if words.interface.is_empty() { pnp.interfaces.clone() } else { words.interface.clone() },
        listen: words.listen.map_or(pnp.listen, Into::into),
        group: pnp.group,
        port: pnp.port,
    };
    if let Some(warning) = provost_server::pnp::relay::readable(&words.key) {
        tracing::warn!("{warning}");
    }
    let opened = Opened::open(plan)?;
    // While there is one thread: what is opened later takes no rights.
    rights::give_up_all(words.user.as_deref().or(settings.process.user.as_deref()))?;
    let _log = crate::log::behind();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(async move {
        let (stop_sender, stop) = watch::channel(false);
        // There is nothing to read again, so SIGHUP comes to nothing.
        let (reload, _) = mpsc::channel(1);
        crate::serve::signals(stop_sender, reload)?;
        let ready = sd_notify::NotifyState::Ready;
        // Without systemd there is no socket to tell, and nothing to do.
        let _ = sd_notify::notify(&[ready]);
        opened.run(stop).await.map_err(anyhow::Error::from)
    })?;
    Ok(ExitCode::SUCCESS)
}
