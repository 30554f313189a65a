//! The program. Reads words and settings, calls the crate that does the work, prints what came of it.

mod admin;
mod args;
mod certs;
mod dhcp;
mod doctor;
mod log;
mod new;
mod plugin;
mod relay;
mod render;
mod secret;
mod serve;
mod simulate;

use std::{
    io::Write,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command as Process, ExitCode, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use args::{Cli, Command, PluginCommand, SchemaOf, SettingsArgs};
use clap::{CommandFactory, Parser};
use log::log;
use provost_host::{Limits, Prober};
use provost_server::{
    check::check,
    settings::{Settings, SettingsFile},
    world::Severity,
};

/// The settings are no good: the exit code that sysexits.h calls EX_CONFIG.
const EX_CONFIG: u8 = 78;

/// Phones that power on at once are many small values made and dropped.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli) {
        Ok(code) => code,
        Err(error) => {
            // Whoever reads our output may have gone away (`provost … | head`): that is no failure of ours.
            let gone = error.chain().any(|cause| {
                cause
                    .downcast_ref::<std::io::Error>()
                    .is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
            });
            if gone {
                return ExitCode::SUCCESS;
            }
            let _ = writeln!(std::io::stderr(), "provost: {error:#}");
            if error.is::<provost_server::settings::SettingsError>()
                || error.is::<provost_server::rights::RightsError>()
            {
                ExitCode::from(EX_CONFIG)
            } else {
                ExitCode::FAILURE
            }
        }
    }
}

fn run(cli: Cli) -> Result<ExitCode> {
    let mut out = std::io::stdout().lock();
    match cli.command {
        Command::Serve(words) => serve::serve(&cli.settings, &words),
        Command::Check { json } => {
            let settings = settings(&cli.settings)?;
            log(&settings, "warn")?;
            let (world, findings) = check(settings, Limits::default(), Some(&prober()?));
            let errors = findings.iter().filter(|finding| finding.severity == Severity::Error).count();
            if json {
                let summary = serde_json::json!({
                    "ok": errors == 0, "devices": world.fleet.len(), "vendors": world.shelf.plugins().count(), "findings": findings,
                });
                writeln!(out, "{}", serde_json::to_string_pretty(&summary)?)?;
            } else {
                for finding in &findings {
                    writeln!(out, "{finding}")?;
                }
                let warnings = findings.len() - errors;
                writeln!(
                    out,
                    "{} devices, {} vendors: {errors} errors, {warnings} warnings",
                    world.fleet.len(),
                    world.shelf.plugins().count()
                )?;
            }
            Ok(if errors == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Command::Render(words) => render::render(settings(&cli.settings)?, &words, &mut out),
        Command::Explain(words) => render::explain(settings(&cli.settings)?, &words, &mut out),
        Command::Simulate(words) => {
            drop(out);
            simulate::simulate(settings(&cli.settings)?, &words)
        }
        Command::Relay(words) => {
            drop(out);
            relay::relay(&settings(&cli.settings)?, &words)
        }
        Command::Dhcp(words) => {
            let settings = settings_with(&cli.settings, |file| {
                if let Some(url) = &words.url {
                    file.public_url = Some(url.clone());
                }
            })?;
            dhcp::dhcp(&settings, &words, &mut out)
        }
        Command::Plugin(PluginCommand::List { json }) => plugin::list(settings(&cli.settings)?, json, &mut out),
        Command::Plugin(PluginCommand::Check { plugin, json }) => {
            plugin::check(&settings(&cli.settings)?, &plugin, json, &mut out)
        }
        Command::Plugin(PluginCommand::New(words)) => new::new(&words, &mut out),
        Command::Plugin(PluginCommand::Test { plugin, update }) => {
            plugin::test(&settings(&cli.settings)?, &plugin, update, &mut out)
        }
        Command::Plugin(PluginCommand::Pack { plugin, output }) => {
            plugin::pack(&settings(&cli.settings)?, &plugin, output.as_deref(), &mut out)
        }
        Command::Plugin(PluginCommand::Add { file, force }) => {
            plugin::add(&settings(&cli.settings)?, &file, force, &mut out)
        }
        Command::Plugin(PluginCommand::Probe { library }) => {
            let version = provost_host::probe(&library)?;
            writeln!(out, "{version}")?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Devices(words) => {
            let settings = settings(&cli.settings)?;
            admin::devices(&settings, &words, &mut out)
        }
        Command::Approve(words) => admin::approve(&settings(&cli.settings)?, &words, &mut out),
        Command::Assign(words) => admin::assign(&settings(&cli.settings)?, &words, &mut out),
        Command::Resync(words) => admin::resync(&settings(&cli.settings)?, &words, &mut out),
        Command::Open { mac, minutes, close, server } => {
            let minutes = (!close).then_some(minutes);
            admin::open(&settings(&cli.settings)?, &server, mac, minutes, &mut out)
        }
        Command::Revoke { mac, server } => admin::revoke(&settings(&cli.settings)?, &server, mac, &mut out),
        Command::Lockouts { pardon, json, server } => {
            admin::lockouts(&settings(&cli.settings)?, &server, pardon.as_deref(), json, &mut out)
        }
        Command::Rollouts { id, cancel, resume, json, server } => {
            let act = if cancel { Some("cancel") } else { resume.then_some("resume") };
            admin::rollouts(&settings(&cli.settings)?, &server, id, act, json, &mut out)
        }
        Command::Diff { file, new, mac, json, server } => {
            admin::diff(&settings(&cli.settings)?, &server, &file, &new, mac, json, &mut out)
        }
        Command::Swap { mac, to, server } => admin::swap(&settings(&cli.settings)?, &server, mac, to, &mut out),
        Command::Import(words) => admin::import(&settings(&cli.settings)?, &words, &mut out),
        Command::Export { form, server } => admin::export(&settings(&cli.settings)?, &server, form, &mut out),
        Command::History { mac, json, server } => {
            admin::history(&settings(&cli.settings)?, &server, mac, json, &mut out)
        }
        Command::Doctor(words) => doctor::doctor(&settings(&cli.settings)?, &words, &mut out),
        Command::Certs(words) => certs::certs(&settings(&cli.settings)?, &words, &mut out),
        Command::Key(words) => admin::key(&settings(&cli.settings)?, &words, &mut out),
        Command::Secret(words) => secret::secret(settings(&cli.settings)?, &words, &mut out),
        Command::Schema { of } => {
            let schema = match of {
                SchemaOf::Profile => provost_fleet::schema(),
                SchemaOf::Settings => provost_server::settings::schema(),
                SchemaOf::Vendor => provost_plugin::spec::schema(),
                SchemaOf::Phonebook => provost_fleet::phonebook_schema(),
                SchemaOf::Firmware => provost_fleet::firmware_schema(),
            };
            writeln!(out, "{}", serde_json::to_string_pretty(&schema)?)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Completions { shell } => {
            // Written by ourselves: the generator panics when nobody reads any more.
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "provost", &mut script);
            out.write_all(&script)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Man { directory } => {
            std::fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
            clap_mangen::generate_to(Cli::command(), &directory)
                .with_context(|| format!("cannot write man pages to {}", directory.display()))?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// The settings file that applies, if any: the one that was named, or `provost.yaml` where we stand.
fn settings_file(words: &SettingsArgs) -> Option<PathBuf> {
    words.settings.clone().or_else(|| Some(PathBuf::from("provost.yaml")).filter(|path| path.is_file()))
}

fn settings(words: &SettingsArgs) -> Result<Settings> {
    settings_with(words, |_| {})
}

fn settings_with(words: &SettingsArgs, more: impl FnOnce(&mut SettingsFile)) -> Result<Settings> {
    let file = settings_file(words);
    let mut written = file.as_deref().map(SettingsFile::read).transpose()?.unwrap_or_default();
    words.lay_over(&mut written);
    more(&mut written);
    Ok(written.settle(file.as_deref())?)
}

/// Tries a staged library in a process of its own: this program again, which may crash or hang without harm.
fn prober() -> Result<Prober> {
    // The file that runs, also when another has taken its place on disk meanwhile. Elsewhere than on Linux there is no such name.
    let program = match Path::new("/proc/self/exe") {
        running if running.exists() => running.to_owned(),
        _ => std::env::current_exe().context("cannot find this program on disk, which is needed to try plugins")?,
    };
    Ok(Arc::new(move |library: &Path| {
        let mut child = Process::new(&program)
            .arg0("provost")
            .args(["plugin", "probe"])
            .arg(library)
            .env_remove("PROVOST_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("cannot start it: {error}"))?;
        let until = Instant::now() + Duration::from_secs(5);
        loop {
            match child.try_wait() {
                Ok(Some(status)) if status.success() => return Ok(()),
                Ok(Some(status)) => {
                    let mut said = String::new();
                    if let Some(stderr) = child.stderr.take() {
                        let _ = std::io::Read::take(stderr, 2000).read_to_string_lossy(&mut said);
                    }
                    let said = said.trim().trim_start_matches("provost: ");
                    return Err(if said.is_empty() { format!("it ended with {status}") } else { said.to_owned() });
                }
                Ok(None) if Instant::now() > until => {
                    let _ = child.kill();
                    let _ = child.wait();
                    return Err("it did not end within 5 s".into());
                }
                // The only wait in the program that polls: a child has no descriptor to wait on without more machinery than it is worth.
                Ok(None) => std::thread::sleep(Duration::from_millis(2)),
                Err(error) => return Err(format!("cannot wait for it: {error}")),
            }
        }
    }))
}

trait ReadLossy {
    fn read_to_string_lossy(self, text: &mut String) -> std::io::Result<()>;
}

impl<R: std::io::Read> ReadLossy for R {
    fn read_to_string_lossy(mut self, text: &mut String) -> std::io::Result<()> {
        let mut bytes = Vec::new();
        self.read_to_end(&mut bytes)?;
        text.push_str(&String::from_utf8_lossy(&bytes));
        Ok(())
    }
}
