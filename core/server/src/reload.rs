//! Looks at the disk again when something may have changed, and puts what it finds into service if it is good.
//!
//! The watcher is only a hint. It misses files in new directories, says nothing once its root was replaced, and names no file when a
//! link is swapped; so any event means: wait until it is quiet, read everything, compare, try, swap. SIGHUP and the clock walk the same
//! path. What is no good stays out, what it would have replaced stays in, and the finding says where and why.

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use notify::{EventKind, RecursiveMode, Watcher};
use provost_fleet::Fleet;
use provost_host::{Limits, Prober, Shelf};
use tokio::sync::{mpsc, watch};

use crate::{
    dispatch::Dispatch,
    run::stopped,
    settings::{Settings, SettingsFile},
    world::{Finding, Severity, World},
};

/// Quiet that has to pass after an event, and the longest that events may put off the look.
const QUIET: Duration = Duration::from_millis(150);
const PATIENCE: Duration = Duration::from_millis(600);
/// A look without any event, for file systems that report none.
const REGULARLY: Duration = Duration::from_secs(60);
/// Time for trying known devices before a change takes service. Beyond some ten thousand devices not all of them fit in; then it is
/// an even sample, and the rest is tried right after.
const TRIAL: Duration = Duration::from_millis(500);

/// Reads everything for the first time. Whatever is good serves, and the findings say what is not.
pub fn first(settings: Settings, limits: Limits, prober: Option<&Prober>) -> (World, Vec<Finding>) {
    let (fleet, problems) = Fleet::read(&settings.profiles, None);
    let mut findings: Vec<Finding> = problems.into_iter().map(Finding::from).collect();
    let (shelf, problems) = Shelf::build(&settings.places(), None, limits, prober);
    findings.extend(problems.into_iter().map(Finding::from));
    let world =
        World { settings: Arc::new(settings), fleet: Arc::new(fleet), shelf: Arc::new(shelf), held: HashMap::new() };
    (world, findings)
}

/// Tries every device that the fleet knows, until the time is up. Returns those that fail, with the reason, and how many were tried.
pub fn try_devices(world: &World, time: Option<Duration>) -> (BTreeMap<provost_plugin::MacAddr, String>, usize) {
    let devices: Vec<_> =
        world.fleet.devices().map(|(_, device)| device).filter(|device| device.is_enabled()).collect();
    let until = time.map(|time| Instant::now() + time);
    // Even strides, so that a trial that is cut short has seen something of everything. 7919 is prime, so that every device comes up
    // once unless their number is a multiple of it; then one more device would not be.
    let count = devices.len();
    let stride = if count % 7919 == 0 { 1 } else { 7919 };
    let next = std::sync::atomic::AtomicUsize::new(0);
    let failed = Mutex::new(BTreeMap::new());
    let workers = std::thread::available_parallelism().map_or(1, usize::from).min(8);
    let tried = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let turn = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    if turn >= count || until.is_some_and(|until| Instant::now() > until) {
                        return;
                    }
                    let device = devices[turn * stride % count];
                    if let Err(why) = world.try_device(device) {
                        failed.lock().unwrap_or_else(std::sync::PoisonError::into_inner).insert(device.mac(), why);
                    }
                    tried.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                }
            });
        }
    });
    (failed.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner), tried.into_inner())
}

/// The findings about devices that cannot be served, at the place where they stand.
pub fn device_findings(
    world: &World,
    failed: &BTreeMap<provost_plugin::MacAddr, String>,
    older_serves: bool,
) -> Vec<Finding> {
    failed
        .iter()
        .map(|(mac, why)| {
            let device = world.fleet.device(*mac);
            Finding {
                file: device.map(|device| device.file().to_owned()).unwrap_or_default(),
                line: device.map_or(0, |device| device.line() as usize),
                column: 0,
                severity: Severity::Error,
                message: why.clone(),
                older_serves,
            }
        })
        .collect()
}

/// Reads everything again and returns what is to serve from now on, with what was refused.
pub fn again(
    current: &Arc<World>,
    settings: Settings,
    limits: Limits,
    prober: Option<&Prober>,
) -> (World, Vec<Finding>) {
    let (fleet, problems) = Fleet::read(&settings.profiles, Some(&current.fleet));
    let mut findings: Vec<Finding> = problems.into_iter().map(Finding::from).collect();
    let (shelf, problems) = Shelf::build(&settings.places(), Some(&current.shelf), limits, prober);
    findings.extend(problems.into_iter().map(Finding::from));
    let mut world =
        World { settings: Arc::new(settings), fleet: Arc::new(fleet), shelf: Arc::new(shelf), held: HashMap::new() };

    let (mut failed, _) = try_devices(&world, Some(TRIAL));
    // A plugin whose new version fails a device that its old version serves is not let in.
    let mut blamed: Vec<String> = Vec::new();
    for old in current.shelf.plugins() {
        let changed = world.shelf.get(&old.id).is_none_or(|new| !Arc::ptr_eq(new, old));
        if !changed || world.shelf.get(&old.id).is_none() {
            continue;
        }
        let before = World {
            settings: Arc::clone(&world.settings),
            fleet: Arc::clone(&world.fleet),
            shelf: Arc::new(world.shelf.with(Arc::clone(old))),
            held: HashMap::new(),
        };
        let mut worse: Vec<String> = Vec::new();
        failed.retain(|mac, why| {
            let better = world.fleet.device(*mac).is_some_and(|device| before.try_device(device).is_ok());
            if better {
                worse.push(why.clone());
            }
            !better
        });
        if let Some(why) = worse.first() {
            blamed.push(old.id.clone());
            let others = match worse.len() {
                1 => String::new(),
                count => format!(", and so for {} further devices", count - 1),
            };
            findings.push(Finding {
                file: old.origin.display().to_string(),
                line: 0,
                column: 0,
                severity: Severity::Error,
                message: format!("the change to {} is refused: {why}{others}", old.spec.vendor),
                older_serves: true,
            });
            world = before;
        }
    }
    // What remains is the profiles' doing: those devices stay as they were, and nobody else notices.
    let (held, lost): (Vec<_>, Vec<_>) = failed.iter().partition(|(mac, _)| {
        let origin = current.held.get(mac).unwrap_or(current);
        origin.fleet.device(**mac).is_some_and(|device| origin.try_device(device).is_ok())
    });
    world.held = held.iter().map(|(mac, _)| (**mac, Arc::clone(current.held.get(mac).unwrap_or(current)))).collect();
    let as_map = |pairs: Vec<(&provost_plugin::MacAddr, &String)>| {
        pairs.into_iter().map(|(mac, why)| (*mac, why.clone())).collect()
    };
    findings.extend(device_findings(&world, &as_map(held), true));
    findings.extend(device_findings(&world, &as_map(lost), false));
    (world, findings)
}

/// Follows the disk until told to stop.
pub struct Reload {
    pub dispatch: Arc<Dispatch>,
    pub limits: Limits,
    pub overlay: Overlay,
    pub prober: Option<Prober>,
}

/// What the command line does to a settings file. It stands above the file, also when the file is read again.
pub type Overlay = Box<dyn Fn(&mut SettingsFile) + Send>;

impl std::fmt::Debug for Reload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reload").field("limits", &self.limits).finish_non_exhaustive()
    }
}

impl Reload {
    /// `now` rings for SIGHUP and for whoever else wants a look at once.
    pub async fn run(self, mut now: mpsc::Receiver<()>, mut stop: watch::Receiver<bool>) {
        let (hint, mut hints) = mpsc::channel::<()>(1);
        let mut eyes = Eyes::open(&self.dispatch.world().settings, hint.clone());
        let mut shown: Vec<Finding> = Vec::new();
        loop {
            let asked = tokio::select! {
                () = stopped(&mut stop) => return,
                Some(()) = hints.recv() => {
                    let first = tokio::time::Instant::now();
                    while let Ok(Some(())) = tokio::time::timeout(QUIET, hints.recv()).await {
                        if first.elapsed() > PATIENCE {
                            break;
                        }
                    }
                    false
                }
                Some(()) = now.recv() => true,
                () = tokio::time::sleep(REGULARLY) => false,
            };
            let current = self.dispatch.world();
            let settings = self.settings(&current.settings, &mut shown);
            let (limits, prober) = (self.limits, self.prober.clone());
            let before = Arc::clone(&current);
            let began = Instant::now();
            let Ok((world, findings)) =
                tokio::task::spawn_blocking(move || again(&before, settings, limits, prober.as_ref())).await
            else {
                tracing::error!("looking at the disk was cut short; everything stays as it is");
                continue;
            };
            let changed = asked || changes(&current, &world);
            let devices = world.fleet.len();
            // Directories may have been replaced, and new ones may have come.
            eyes = Eyes::open_again(eyes, &world.settings, &hint);
            if changed {
                self.dispatch.replace(world);
                let world = self.dispatch.world();
                // A device that was written into a profile is pending no more, and the other way round.
                self.dispatch.registry.judge(|mac| world.fleet.device(mac).is_some());
                tracing::info!(
                    devices,
                    refused = findings.len(),
                    millis = began.elapsed().as_millis() as u64,
                    "reloaded"
                );
            }
            for finding in findings.iter().filter(|finding| !shown.contains(finding)) {
                match finding.severity {
                    Severity::Error => tracing::error!(
                        file = finding.file,
                        line = finding.line,
                        older_serves = finding.older_serves,
                        "refused: {finding}"
                    ),
                    Severity::Warning => tracing::warn!(file = finding.file, line = finding.line, "{finding}"),
                }
            }
            shown = findings;
        }
    }

    /// The settings as the file has them now, or as they were if it is no good.
    fn settings(&self, current: &Settings, shown: &mut Vec<Finding>) -> Settings {
        let Some(file) = &current.file else { return current.clone() };
        let read = SettingsFile::read(file).and_then(|mut settings| {
            (self.overlay)(&mut settings);
            settings.settle(Some(file))
        });
        match read {
            Ok(settings) => {
                if needs_restart(current, &settings) {
                    tracing::warn!(file = %file.display(), "ports, addresses and limits of the doors change only with a restart");
                }
                Settings {
                    pnp: current.pnp.clone(),
                    http: current.http.clone(),
                    tftp: current.tftp.clone(),
                    ..settings
                }
            }
            Err(error) => {
                let finding = Finding {
                    file: file.display().to_string(),
                    line: 0,
                    column: 0,
                    severity: Severity::Error,
                    message: error.to_string(),
                    older_serves: true,
                };
                if !shown.contains(&finding) {
                    tracing::error!("refused: {finding}");
                    shown.push(finding);
                }
                current.clone()
            }
        }
    }
}

fn needs_restart(old: &Settings, new: &Settings) -> bool {
    let doors = |settings: &Settings| {
        serde_json::to_string(&(&settings.pnp, &settings.http, &settings.tftp)).unwrap_or_default()
    };
    doors(old) != doors(new)
}

/// Whether the two worlds would answer differently, as far as what they were made of tells.
fn changes(old: &World, new: &World) -> bool {
    let plugins = |world: &World| world.shelf.plugins().map(Arc::as_ptr).collect::<Vec<_>>();
    let settings = |settings: &Settings| {
        serde_json::to_string(&(&settings.public_url, &settings.networks, &settings.forward, &settings.assets))
            .unwrap_or_default()
    };
    old.fleet.modified() != new.fleet.modified()
        || plugins(old) != plugins(new)
        || settings(&old.settings) != settings(&new.settings)
        || old.held.keys().collect::<std::collections::BTreeSet<_>>()
            != new.held.keys().collect::<std::collections::BTreeSet<_>>()
}

/// The watcher, and what it watches.
struct Eyes {
    _watcher: Option<notify::RecommendedWatcher>,
    roots: Vec<(PathBuf, Option<u64>)>,
}

impl Eyes {
    fn open(settings: &Settings, hint: mpsc::Sender<()>) -> Eyes {
        let roots = roots(settings);
        let handler = move |event: notify::Result<notify::Event>| {
            // Being read is no change; everything else, an error or an overflow first of all, is worth a look.
            if !matches!(event, Ok(notify::Event { kind: EventKind::Access(_), .. })) {
                let _ = hint.try_send(());
            }
        };
        let watcher = notify::recommended_watcher(handler).map_err(|error| {
            tracing::warn!(%error, "the disk cannot be watched; changes are seen within {} s or on SIGHUP", REGULARLY.as_secs());
        });
        let mut watcher = watcher.ok();
        if let Some(watcher) = &mut watcher {
            for (root, _) in &roots {
                // The directory itself, and its parent, from which it may be replaced.
                for (path, mode) in
                    [(Some(root.as_path()), RecursiveMode::Recursive), (root.parent(), RecursiveMode::NonRecursive)]
                {
                    let path = path.map(|path| if path.as_os_str().is_empty() { Path::new(".") } else { path });
                    let Some(path) = path.filter(|path| path.exists()) else { continue };
                    if let Err(error) = watcher.watch(path, mode) {
                        tracing::warn!(path = %path.display(), %error, "cannot watch; changes are seen within {} s or on SIGHUP", REGULARLY.as_secs());
                    }
                }
            }
            for path in
                settings.libraries.iter().map(PathBuf::as_path).chain(settings.file.as_deref().and_then(Path::parent))
            {
                let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
                let _ = watcher.watch(path, RecursiveMode::NonRecursive);
            }
        }
        Eyes { _watcher: watcher, roots }
    }

    /// The same eyes, unless a directory is another one than before.
    fn open_again(eyes: Eyes, settings: &Settings, hint: &mpsc::Sender<()>) -> Eyes {
        if eyes.roots == roots(settings) { eyes } else { Eyes::open(settings, hint.clone()) }
    }
}

/// What is watched with all that is below it, and which directory each really is.
fn roots(settings: &Settings) -> Vec<(PathBuf, Option<u64>)> {
    let paths = [&settings.profiles, &settings.templates, &settings.overrides].into_iter().chain(&settings.plugins);
    paths.map(|path| (path.clone(), inode(path))).collect()
}

fn inode(path: &Path) -> Option<u64> {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(path).ok().map(|metadata| metadata.ino())
}
