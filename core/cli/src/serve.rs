//! `provost serve`: the server, with the signals and systemd around it.

use std::process::ExitCode;

use anyhow::{Context, Result};
use provost_host::Limits;
use provost_server::{
    reload::first,
    run::{Start, run},
    settings::SettingsFile,
};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{mpsc, watch},
};

use crate::args::{ServeArgs, SettingsArgs};

pub(crate) fn serve(settings_words: &SettingsArgs, words: &ServeArgs) -> Result<ExitCode> {
    let overlay = {
        let (settings_words, words) = (settings_words.clone(), words.clone());
        move |file: &mut SettingsFile| {
            settings_words.lay_over(file);
            words.lay_over(file);
        }
    };
    let settings = crate::settings_with(settings_words, |file| words.lay_over(file))?;
    crate::log(&settings, "info")?;
    let prober = crate::prober()?;
    let limits = Limits::default();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start the runtime")?;
    let ended = runtime.block_on(async move {
        let (stop_sender, stop) = watch::channel(false);
        let (reload_sender, reload) = mpsc::channel(4);
        // Before anything is read, so that an early SIGTERM ends us cleanly too.
        signals(stop_sender, reload_sender)?;
        let (world, findings) = {
            let prober = prober.clone();
            tokio::task::spawn_blocking(move || first(settings, limits, Some(&prober)))
                .await
                .context("reading was cut short")?
        };
        let ready = Box::new(|summary: &str| {
            // Without systemd there is no socket to tell, and nothing to do.
            let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready, sd_notify::NotifyState::Status(summary)]);
        });
        run(Start { world, findings, prober: Some(prober), limits, reload, stop, overlay: Box::new(overlay), ready })
            .await
            .map_err(anyhow::Error::from)
    });
    // A plugin that hangs must not keep the program from ending.
    runtime.shutdown_timeout(std::time::Duration::from_millis(500));
    ended.map(|()| ExitCode::SUCCESS)
}

fn signals(stop: watch::Sender<bool>, reload: mpsc::Sender<()>) -> Result<()> {
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
