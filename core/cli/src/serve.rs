//! `provost serve`: the server, with the signals and systemd around it.

use std::{
    net::{SocketAddr, TcpListener},
    process::ExitCode,
    sync::Arc,
};

use anyhow::{Context, Result};
use provost_admin::{Activity, Admin, Audit, Keys, Looks};
use provost_fleet::WithoutKey;
use provost_host::Limits;
use provost_server::{
    limits::tcp_owner,
    reload::{Watch, first},
    rights,
    rollout::Rollouts,
    run::{BoxFuture, Early, Inside, Start, run},
    settings::SettingsFile,
};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{mpsc, watch},
};

use crate::{
    admin::KEY,
    args::{ServeArgs, SettingsArgs},
};

pub(crate) fn serve(settings_words: &SettingsArgs, words: &ServeArgs) -> Result<ExitCode> {
    let overlay = {
        let (settings_words, words) = (settings_words.clone(), words.clone());
        move |file: &mut SettingsFile| {
            settings_words.lay_over(file);
            words.lay_over(file);
        }
    };
    let mut settings = crate::settings_with(settings_words, |file| words.lay_over(file))?;
    // Passwords that are made need a key, and it is here that it comes to be.
    settings.without_key = WithoutKey::Make;
    let activity = Arc::new(Activity::default());
    crate::log::log_and_keep(&settings, "info", Some(&activity))?;
    let prober = crate::prober()?;
    let limits = Limits::default();
    // While there is one thread, and after it no way back.
    let early = Early::open(&settings);
    rights::give_up(&settings)?;
    let _log = crate::log::behind();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start the runtime")?;
    let ended = runtime.block_on(async move {
        let (stop_sender, stop) = watch::channel(false);
        let (reload_sender, reload) = mpsc::channel(4);
        // Before anything is read, so that an early SIGTERM ends us cleanly too.
        signals(stop_sender, reload_sender)?;
        let (watch, (world, findings)) = {
            let prober = prober.clone();
            tokio::task::spawn_blocking(move || (Watch::open(&settings), first(settings, limits, Some(&prober))))
                .await
                .context("reading was cut short")?
        };
        let ready = Box::new(|summary: &str| {
            // Without systemd there is no socket to tell, and nothing to do.
            let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready, sd_notify::NotifyState::Status(summary)]);
        });
        let (prober, overlay, beside) =
            (Some(prober), Box::new(overlay) as _, Some(Box::new(|inside| admin(inside, activity)) as _));
        run(Start { early, watch, world, findings, prober, limits, reload, stop, overlay, beside, ready })
            .await
            .map_err(anyhow::Error::from)
    });
    // A plugin that hangs must not keep the program from ending.
    runtime.shutdown_timeout(std::time::Duration::from_millis(500));
    ended.map(|()| ExitCode::SUCCESS)
}

/// Opens the door for people.
fn admin(inside: Inside, activity: Arc<Activity>) -> Result<(String, BoxFuture), String> {
    let socket = SocketAddr::new(inside.settings.admin.address, inside.settings.admin.port);
    let listener = TcpListener::bind(socket).map_err(|error| {
        let owner = match error.kind() {
            std::io::ErrorKind::AddrInUse => {
                format!(" {} Stop that, or set admin.port to another", tcp_owner(socket.port()))
            }
            _ => String::new(),
        };
        format!("cannot listen on {socket}: {error}.{owner}")
    })?;
    let keys = Keys::open(&inside.settings.state.join(KEY)).map_err(|error| error.to_string())?;
    let rollouts = Rollouts::start(Arc::clone(&inside.desk), &inside.settings.state, inside.stop.clone());
    let Inside { desk, store, counters, network, .. } = inside;
    let audit = Arc::new(Audit::of(&desk.world().settings.state));
    let admin = Admin {
        desk,
        keys: Arc::new(keys),
        store,
        counters,
        network,
        activity,
        rollouts,
        audit,
        looks: Looks::default(),
    };
    let serving = async move {
        if let Err(error) = provost_admin::serve(listener, admin, inside.stop).await {
            tracing::error!(%error, "the door for people closed");
        }
    };
    Ok((format!("people {socket}"), Box::pin(serving)))
}

pub(crate) fn signals(stop: watch::Sender<bool>, reload: mpsc::Sender<()>) -> Result<()> {
    let heard = |kind: SignalKind| signal(kind).context("cannot listen for signals");
    let (mut terminate, mut interrupt, mut hangup) =
        (heard(SignalKind::terminate())?, heard(SignalKind::interrupt())?, heard(SignalKind::hangup())?);
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                _ = hangup.recv() => {
                    tracing::info!("SIGHUP: looking at the disk again");
                    let _ = reload.try_send(());
                }
            }
        }
        // At once: from here on systemd counts the time that stopping takes.
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
        stop.send_replace(true);
    });
    Ok(())
}
