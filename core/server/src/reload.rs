//! Looks at the disk again when something may have changed, and puts what it finds into service if it is good.
//!
//! The watcher is only a hint. It misses files in new directories, says nothing once its root was replaced, and names no file when a
//! link is swapped; so any event means: wait until it is quiet, read everything, compare, try, swap. SIGHUP and the clock walk the same
//! path. What is no good stays out, what it would have replaced stays in, and the finding says where and why.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque},
    path::{Component, Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use notify::{
    EventKind, RecursiveMode, Watcher,
    event::{AccessKind, AccessMode, ModifyKind},
};
use provost_fleet::{Fleet, Images, Phonebooks, Registry};
use provost_host::{Limits, Prober, Problem, Shelf};
use provost_plugin::MacAddr;
use tokio::sync::{mpsc, watch};

use crate::{
    authority,
    change::stride,
    dispatch::Dispatch,
    progress, rights,
    run::stopped,
    settings::{HttpsFile, Settings, SettingsFile},
    tls::{self, Tls},
    tokens::Tokens,
    world::{Finding, Peer, Severity, Trouble, World},
};

/// Quiet that has to pass after a file was closed or put in its place, for others may follow; after one was begun or written to, which
/// may be half of it; and the longest that events may put off the look.
const BRIEFLY: Duration = Duration::from_millis(30);
const QUIET: Duration = Duration::from_millis(150);
const PATIENCE: Duration = Duration::from_millis(600);
/// A look without any event, for file systems that report none.
const REGULARLY: Duration = Duration::from_secs(60);
/// Time for trying known devices before a change takes service. Beyond some ten thousand devices not all of them fit in; then it is
/// an even sample, and a device that fails untried gets a clear error instead of its older file.
const TRIAL: Duration = Duration::from_millis(500);
/// How often the disk is read again because it changed while it was read. After that, what is there is taken.
const TURNS: usize = 4;

/// Reads everything for the first time. Whatever is good serves, and the findings say what is not.
pub fn first(settings: Settings, limits: Limits, prober: Option<&Prober>) -> (World, Vec<Finding>) {
    let (files, mut findings) = Files::read(&settings, None);
    let (shelf, problems) = Shelf::build(&settings.places(), None, limits, prober);
    findings.extend(problems.into_iter().map(Finding::from));
    rights::explain(&mut findings);
    findings.extend(in_the_clear(&settings));
    let tokens = Arc::new(Tokens::of(&settings.state));
    (world(settings, files, Arc::new(shelf), tokens), findings)
}

/// The people's door takes passwords and keys, and shows those of phones.
fn in_the_clear(settings: &Settings) -> Option<Finding> {
    let admin = &settings.admin;
    let exposed = admin.enabled && !admin.address.is_loopback() && !admin.tls && settings.http.proxies.is_empty();
    let file = settings.file.as_ref().map_or_else(|| "admin.address".into(), |file| file.display().to_string());
    exposed.then(|| Finding {
        file,
        line: 0,
        column: 0,
        severity: Severity::Warning,
        message: format!(
            "the device manager listens on {}, and what goes there is not encrypted, passwords and keys among it: `admin: {{ tls: true }}` encrypts it, or let it listen on 127.0.0.1 behind a proxy that does",
            admin.address
        ),
        older_serves: false,
    })
}

/// What administrators write, plugins aside.
struct Files {
    fleet: Fleet,
    books: Phonebooks,
    images: Images,
    tls: Arc<Tls>,
}

impl Files {
    fn read(settings: &Settings, current: Option<&World>) -> (Files, Vec<Finding>) {
        let (fleet, mut problems) =
            Fleet::read_with(&settings.profiles, settings.kept(), current.map(|world| &*world.fleet));
        let (books, more) = Phonebooks::read(&settings.phonebooks, current.map(|world| &*world.books));
        problems.extend(more);
        let (images, more) = Images::read(&settings.firmware, current.map(|world| &*world.images));
        problems.extend(more);
        let (tls, findings) = Tls::read(settings, current.map(|world| &world.tls));
        let findings = problems.into_iter().map(Finding::from).chain(findings).collect();
        (Files { fleet, books, images, tls }, findings)
    }
}

fn world(settings: Settings, files: Files, shelf: Arc<Shelf>, tokens: Arc<Tokens>) -> World {
    World {
        settings: Arc::new(settings),
        fleet: Arc::new(files.fleet),
        books: Arc::new(files.books),
        images: Arc::new(files.images),
        tls: files.tls,
        shelf,
        tokens,
        made: Arc::default(),
        held: HashMap::new(),
        troubles: BTreeMap::new(),
    }
}

/// Tries the devices that the fleet knows, or these of them, until the time is up. Returns those that fail. `before` is what is known
/// already.
pub fn try_devices(
    world: &World,
    which: Option<&BTreeSet<MacAddr>>,
    seen: &Registry,
    before: &BTreeMap<MacAddr, Trouble>,
    time: Option<Duration>,
) -> BTreeMap<MacAddr, Trouble> {
    let mut devices: Vec<_> = match which {
        Some(macs) => macs.iter().filter_map(|mac| world.fleet.device(*mac)).collect(),
        None => world.fleet.devices().map(|(_, device)| device).collect(),
    };
    devices.retain(|device| device.is_enabled());
    let until = time.map(|time| Instant::now() + time);
    let count = devices.len();
    let stride = stride(count);
    let next = AtomicUsize::new(0);
    let failed = Mutex::new(BTreeMap::new());
    let workers = std::thread::available_parallelism().map_or(1, usize::from).min(8).min(count);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let turn = next.fetch_add(1, Ordering::Relaxed);
                    if turn >= count || until.is_some_and(|until| Instant::now() > until) {
                        return;
                    }
                    let device = devices[turn * stride % count];
                    let peer = last_seen(seen, device.mac());
                    if let Err(trouble) = world.try_device(device, &peer, before.get(&device.mac())) {
                        failed.lock().unwrap_or_else(PoisonError::into_inner).insert(device.mac(), trouble);
                    }
                }
            });
        }
    });
    failed.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// A phone as it would ask now.
fn last_seen(registry: &Registry, mac: MacAddr) -> Peer {
    registry.look(mac, |record| progress::peer(mac, Some(record))).unwrap_or_else(|| progress::peer(mac, None))
}

/// The findings about devices that cannot be served, at the place where they stand.
pub fn device_findings(world: &World) -> Vec<Finding> {
    let finding = |(mac, trouble): (&MacAddr, &Trouble)| {
        let device = world.fleet.device(*mac);
        Finding {
            file: device.map(|device| device.file().to_owned()).unwrap_or_default(),
            line: device.map_or(0, |device| device.line() as usize),
            column: 0,
            severity: Severity::Error,
            message: trouble.why.clone(),
            older_serves: world.held.contains_key(mac),
        }
    };
    world.troubles.iter().map(finding).collect()
}

/// Reads everything again and returns what is to serve from now on, with what was refused. `asked`: somebody wants to know for sure,
/// so nothing is taken as known.
pub fn again(
    current: &Arc<World>,
    settings: Settings,
    limits: Limits,
    prober: Option<&Prober>,
    seen: &Registry,
    asked: bool,
) -> (World, Vec<Finding>) {
    let (files, mut findings) = Files::read(&settings, Some(current));
    // An entry whose file is missing has no older version: it is out.
    let whole = |finding: &&mut Finding| {
        finding.severity == Severity::Error
            && !finding.message.starts_with("there is no file ")
            && !finding.older_serves
    };
    for finding in findings.iter_mut().filter(whole) {
        let file = &finding.file;
        finding.older_serves = current.fleet.serves(file) || current.books.serves(file) || current.images.serves(file);
    }
    let same_ground = same_ground(current, &files, &settings);
    // What the devices had against a plugin may be gone with what was written of the devices.
    let known = if asked || !same_ground { Arc::new(current.shelf.willing(asked)) } else { Arc::clone(&current.shelf) };
    let (shelf, problems) = Shelf::build(&settings.places(), Some(&known), limits, prober);
    findings.extend(problems.into_iter().map(Finding::from));
    rights::explain(&mut findings);
    findings.extend(in_the_clear(&settings));
    let mut world = world(settings, files, Arc::new(shelf), Arc::clone(&current.tokens));
    world.made = Arc::clone(&current.made);
    // Where only devices were written, all others are known: an edit of one phone is not to wait for a hundred thousand.
    let is_only_fleet = !asked && same_plugins(current, &world) && same_around(current, &world);
    let mut concerned = if is_only_fleet { world.fleet.changed_since(&current.fleet) } else { None };
    // Those that failed have another chance whenever anything changes: it may have been a library that was slow for once.
    if let Some(concerned) = concerned.as_mut().filter(|concerned| !concerned.is_empty()) {
        concerned.extend(current.troubles.keys());
    }
    if let Some(concerned) = &concerned {
        let stay = |mac: &MacAddr| !concerned.contains(mac);
        world.held =
            (current.held.iter()).filter(|(mac, _)| stay(mac)).map(|(mac, old)| (*mac, Arc::clone(old))).collect();
    }

    let mut failed = try_devices(&world, concerned.as_ref(), seen, &current.troubles, Some(TRIAL));
    // A plugin whose new version fails a device that its old version serves is not let in.
    for old in current.shelf.plugins() {
        if world.shelf.get(&old.id).is_none_or(|new| Arc::ptr_eq(new, old)) {
            continue;
        }
        let before = World {
            settings: Arc::clone(&world.settings),
            fleet: Arc::clone(&world.fleet),
            books: Arc::clone(&world.books),
            images: Arc::clone(&world.images),
            tls: Arc::clone(&world.tls),
            shelf: Arc::new(world.shelf.keeping(old, Problem::new("", 0, ""))),
            tokens: Arc::clone(&world.tokens),
            made: Arc::clone(&world.made),
            held: HashMap::new(),
            troubles: BTreeMap::new(),
        };
        let mut worse: Vec<Trouble> = Vec::new();
        failed.retain(|mac, trouble| {
            let serves = |device| before.try_device(device, &last_seen(seen, *mac), Some(trouble)).is_ok();
            let better = world.fleet.device(*mac).is_some_and(serves);
            if better {
                worse.push(trouble.clone());
            }
            !better
        });
        if let Some(first) = worse.first() {
            let others = match worse.len() {
                1 => String::new(),
                count => format!(", and so for {} further devices", count - 1),
            };
            let (file, line) = first.template.clone().unwrap_or_else(|| (old.origin.display().to_string(), 0));
            let message = format!("the change to {} is refused: {}{others}", old.spec.vendor, first.why);
            let problem = Problem { older_serves: true, ..Problem::new(file, line, message) };
            findings.push(problem.clone().into());
            world.shelf = Arc::new(world.shelf.keeping(old, problem));
        }
    }
    // What remains is the profiles' doing: those devices stay as they were, and nobody else notices.
    for (mac, trouble) in &failed {
        let origin = current.held.get(mac).unwrap_or(current);
        let serves = |device| origin.try_device(device, &last_seen(seen, *mac), Some(trouble)).is_ok();
        if origin.fleet.device(*mac).is_some_and(serves) {
            world.held.insert(*mac, Arc::clone(origin));
        }
    }
    if let Some(concerned) = &concerned {
        let others = current.troubles.iter().filter(|(mac, _)| !concerned.contains(mac));
        failed.extend(others.map(|(mac, trouble)| (*mac, trouble.clone())));
    }
    world.troubles = failed;
    findings.extend(device_findings(&world));
    (world, findings)
}

/// Eyes on the disk, open before anything is read: what changes while it is read is seen.
pub struct Watch {
    eyes: Eyes,
    hint: mpsc::Sender<()>,
    hints: mpsc::Receiver<()>,
}

impl Watch {
    pub fn open(settings: &Settings) -> Watch {
        let (hint, hints) = mpsc::channel::<()>(1);
        // What is not there yet is waited for in what holds it, and that is state/, to which the registry writes all the time.
        let _ = std::fs::create_dir_all(authority::place(settings));
        Watch { eyes: Eyes::open(settings, &hint, None), hint, hints }
    }
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch").finish_non_exhaustive()
    }
}

/// Follows the disk until told to stop.
pub struct Reload {
    pub dispatch: Arc<Dispatch>,
    pub watch: Watch,
    pub limits: Limits,
    pub overlay: Overlay,
    pub prober: Option<Prober>,
    /// What was found at the first reading, and told.
    pub shown: Vec<Finding>,
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
        let Reload { dispatch, watch, limits, overlay, prober, mut shown } = self;
        let Watch { mut eyes, hint, mut hints } = watch;
        loop {
            let asked = tokio::select! {
                () = stopped(&mut stop) => return,
                Some(()) = hints.recv() => {
                    eyes.quiet(&mut hints).await;
                    false
                }
                Some(()) = now.recv() => true,
                () = tokio::time::sleep(REGULARLY) => {
                    // Whatever it was that the eyes did not see, they are to see it from now on.
                    eyes.stirred.store(true, Ordering::Relaxed);
                    false
                }
            };
            let current = dispatch.world();
            let began = Instant::now();
            let mut turns = 0;
            let (world, findings) = loop {
                turns += 1;
                let (settings, mut findings) = Reload::settings(&current.settings, &overlay);
                // Before anything is read: what changes after the reading must be seen.
                eyes = eyes.follow(&settings, &hint);
                while hints.try_recv().is_ok() {}
                let (limits, prober, before) = (limits, prober.clone(), Arc::clone(&current));
                let seen = Arc::clone(&dispatch.registry);
                let looking = tokio::task::spawn_blocking(move || {
                    again(&before, settings, limits, prober.as_ref(), &seen, asked)
                });
                let Ok((world, more)) = looking.await else { break (None, findings) };
                findings.extend(more);
                // Written to while it was read: this may be half of a change.
                if turns < TURNS && hints.try_recv().is_ok() {
                    eyes.quiet(&mut hints).await;
                    continue;
                }
                break (Some(world), findings);
            };
            let Some(world) = world else {
                tracing::error!("looking at the disk was cut short; everything stays as it is");
                continue;
            };
            let (devices, changed) = (world.fleet.len(), asked || changes(&current, &world));
            // Also where it answers as before: it remembers what was refused, and why.
            if changed {
                dispatch.replace(world);
                tracing::info!(
                    devices,
                    refused = findings.len(),
                    millis = began.elapsed().as_millis() as u64,
                    "reloaded"
                );
            } else {
                dispatch.renew(world);
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
    fn settings(current: &Settings, overlay: &Overlay) -> (Settings, Vec<Finding>) {
        let Some(file) = &current.file else { return (current.clone(), Vec::new()) };
        let read = SettingsFile::read(file).and_then(|mut settings| {
            overlay(&mut settings);
            settings.settle(Some(file))
        });
        let finding = |severity, line, column, message| Finding {
            file: file.display().to_string(),
            line,
            column,
            severity,
            message,
            older_serves: severity == Severity::Error,
        };
        // What is not to be reached would be read as if there were nothing, and every phone be gone.
        let beyond = read.as_ref().ok().and_then(rights::beyond);
        if let Some(path) = beyond {
            let message = format!(
                "Landlock keeps this process from {}, which these settings name and those at its start did not: restart it. Everything stays as it was",
                path.display()
            );
            return (current.clone(), vec![finding(Severity::Error, 0, 0, message)]);
        }
        match read {
            Ok(settings) => {
                let mut findings = Vec::new();
                if needs_restart(current, &settings) {
                    let message = "ports, addresses, limits and proxies of the doors, and what the process may do, change only with a restart";
                    findings.push(finding(Severity::Warning, 0, 0, message.to_owned()));
                }
                let doors = (current.pnp.clone(), current.http.clone(), current.tftp.clone(), current.admin.clone());
                // Where it is open stays; what it shows there, and whom it asks for what, is looked at again.
                let HttpsFile { enabled, address, port, .. } = current.https;
                let https = HttpsFile { enabled, address, port, ..settings.https };
                let without_key = current.without_key;
                let process = current.process.clone();
                let (pnp, http, tftp, admin) = doors;
                (Settings { pnp, http, https, tftp, admin, process, without_key, ..settings }, findings)
            }
            Err(error) => {
                let refused =
                    |wrong: crate::settings::Wrong| finding(Severity::Error, wrong.line, wrong.column, wrong.message);
                (current.clone(), error.problems.into_iter().map(refused).collect())
            }
        }
    }
}

fn needs_restart(old: &Settings, new: &Settings) -> bool {
    // A door that could not be opened stands as closed in the old settings; nobody changed that in the file.
    let http = |settings: &Settings| crate::settings::HttpFile { enabled: true, ..settings.http.clone() };
    let doors = |settings: &Settings| {
        let https = (settings.https.enabled, settings.https.address, settings.https.port);
        serde_json::to_string(&(&settings.pnp, http(settings), https, &settings.tftp, &settings.process))
            .unwrap_or_default()
    };
    doors(old) != doors(new)
}

/// Whether the two worlds would answer differently, as far as what they were made of tells.
fn changes(old: &World, new: &World) -> bool {
    written(old) != written(new)
        || in_answers(&old.settings) != in_answers(&new.settings)
        || !same_plugins(old, new)
        || !Arc::ptr_eq(&old.tls, &new.tls)
        || old.held.keys().collect::<BTreeSet<_>>() != new.held.keys().collect::<BTreeSet<_>>()
}

fn same_plugins(old: &World, new: &World) -> bool {
    old.shelf.plugins().map(Arc::as_ptr).eq(new.shelf.plugins().map(Arc::as_ptr))
}

/// Whether everything but the plugins is as it was.
fn same_ground(old: &World, files: &Files, settings: &Settings) -> bool {
    written(old) == [files.fleet.modified(), files.books.modified(), files.images.modified()]
        && in_answers(&old.settings) == in_answers(settings)
}

/// Whether everything but fleet and plugins is as it was.
fn same_around(old: &World, new: &World) -> bool {
    old.books.modified() == new.books.modified()
        && old.images.modified() == new.images.modified()
        && in_answers(&old.settings) == in_answers(&new.settings)
}

fn written(world: &World) -> [SystemTime; 3] {
    [world.fleet.modified(), world.books.modified(), world.images.modified()]
}

/// What of the settings goes into answers.
fn in_answers(settings: &Settings) -> String {
    let Settings { public_url, networks, forward, assets, phonebooks, firmware, .. } = settings;
    serde_json::to_string(&(public_url, networks, forward, assets, phonebooks, firmware)).unwrap_or_default()
}

/// The watcher, and what it watches.
struct Eyes {
    _watcher: Option<notify::RecommendedWatcher>,
    view: View,
    /// Something was made, moved or taken away since: what a path leads to may be another thing now, which nobody watches.
    stirred: Arc<AtomicBool>,
    /// Files that were begun, or written to, and not closed yet.
    unfinished: Arc<Mutex<HashSet<PathBuf>>>,
    /// What could not be watched, and was told.
    blind: BTreeSet<String>,
}

impl Eyes {
    /// Waits until nothing has been seen for a while, but not for ever.
    async fn quiet(&self, hints: &mut mpsc::Receiver<()>) {
        let began = Instant::now();
        loop {
            let length = if unfinished(&self.unfinished).is_empty() { BRIEFLY } else { QUIET };
            let told = tokio::time::timeout(length, hints.recv()).await;
            if !matches!(told, Ok(Some(()))) || began.elapsed() > PATIENCE {
                // Links are begun, too, and never closed.
                unfinished(&self.unfinished).clear();
                return;
            }
        }
    }

    fn open(settings: &Settings, hint: &mpsc::Sender<()>, before: Option<&Eyes>) -> Eyes {
        let view = View::of(settings);
        let (stirred, begun) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let mut blind = BTreeSet::new();
        let handler = {
            let (view, stirred, begun, hint) = (view.clone(), Arc::clone(&stirred), Arc::clone(&begun), hint.clone());
            move |event: notify::Result<notify::Event>| {
                if let Ok(event) = &event {
                    match event.kind {
                        // Of firmware it counts that it is there, and that is a file of many megabytes to be written.
                        EventKind::Modify(ModifyKind::Data(_) | ModifyKind::Metadata(_))
                            if event.paths.iter().all(|path| view.is_firmware(path)) =>
                        {
                            return;
                        }
                        // Being read is no change, but having been written is.
                        EventKind::Access(kind) if kind != AccessKind::Close(AccessMode::Write) => return,
                        _ if !event.need_rescan() && !event.paths.iter().any(|path| view.shows(path)) => return,
                        EventKind::Access(_) | EventKind::Modify(ModifyKind::Data(_) | ModifyKind::Metadata(_)) => {}
                        _ => stirred.store(true, Ordering::Relaxed),
                    }
                    let mut begun = unfinished(&begun);
                    match event.kind {
                        EventKind::Create(_) | EventKind::Modify(ModifyKind::Data(_)) => {
                            begun.extend(event.paths.clone())
                        }
                        EventKind::Modify(ModifyKind::Metadata(_)) => {}
                        _ => begun.retain(|path| !event.paths.contains(path)),
                    }
                } else {
                    stirred.store(true, Ordering::Relaxed);
                }
                let _ = hint.try_send(());
            }
        };
        // Links are followed here and not by the watcher, so that each directory is watched once, under the name that events carry.
        let config = notify::Config::default().with_follow_symlinks(false);
        let mut watcher = notify::RecommendedWatcher::new(handler, config)
            .map_err(|error| blind.insert(format!("the disk cannot be watched: {error}")))
            .ok();
        if let Some(watcher) = &mut watcher {
            let parents = view.points.iter().filter_map(|point| point.parent()).chain(view.libraries.as_deref());
            let parents: BTreeSet<&Path> = parents.filter(|path| path.is_dir() && !view.is_in_tree(path)).collect();
            let parents = parents.into_iter().map(|path| (path, RecursiveMode::NonRecursive));
            let trees =
                view.trees.iter().filter(|tree| !tree.ancestors().skip(1).any(|above| view.trees.contains(above)));
            let trees = trees.map(|path| (path.as_path(), RecursiveMode::Recursive));
            for (path, mode) in parents.chain(trees) {
                if let Err(error) = watcher.watch(path, mode) {
                    blind.insert(format!("cannot watch {}: {error}", path.display()));
                }
            }
        }
        for reason in blind.iter().filter(|reason| before.is_none_or(|before| !before.blind.contains(*reason))) {
            tracing::warn!("{reason}; changes there are seen within {} s or on SIGHUP", REGULARLY.as_secs());
        }
        Eyes { _watcher: watcher, view, stirred, unfinished: begun, blind }
    }

    /// The same eyes, unless there is something else to look at.
    fn follow(self, settings: &Settings, hint: &mpsc::Sender<()>) -> Eyes {
        let same = !self.stirred.load(Ordering::Relaxed) && self.view == View::of(settings);
        // The old ones are closed only when the new ones are open.
        if same { self } else { Eyes::open(settings, hint, Some(&self)) }
    }
}

/// A set of paths is whole whatever panicked beside it.
fn unfinished(files: &Mutex<HashSet<PathBuf>>) -> MutexGuard<'_, HashSet<PathBuf>> {
    files.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The places on disk that matter, without links on the way to them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct View {
    /// Directories with all that is below them.
    trees: BTreeSet<PathBuf>,
    /// Single entries of directories: files, links that lead to something, and directories that may be replaced.
    points: BTreeSet<PathBuf>,
    /// Where libraries lie beside the program.
    libraries: Option<PathBuf>,
    firmware: Option<PathBuf>,
}

/// Links that are followed on the way to one file; as many as the kernel follows.
const LINKS: usize = 40;
const DEPTH: usize = 16;

impl View {
    fn of(settings: &Settings) -> View {
        let mut view = View::default();
        let Settings { profiles, templates, overrides, phonebooks, firmware, plugins, .. } = settings;
        for root in [profiles, templates, overrides, phonebooks, firmware].into_iter().chain(plugins) {
            view.tree(root);
            // What holds it may be replaced as a whole.
            if let Some(parent) = root.parent().filter(|parent| !parent.as_os_str().is_empty()) {
                view.point(parent);
            }
        }
        if let Some(file) = &settings.file {
            view.point(file);
        }
        // The key and the identity lie in state/, which is written to all the time: they are looked at whenever anything else is.
        view.point(&settings.secrets);
        let (certificate, key) = tls::pair_files(settings);
        view.point(&certificate);
        view.point(&key);
        view.point(&authority::place(settings).join(authority::CA));
        if let Some(directory) = &settings.https.client_authorities {
            view.tree(directory);
        }
        view.firmware = firmware.canonicalize().ok();
        view.libraries = settings.libraries.first().and_then(|directory| directory.canonicalize().ok());
        view
    }

    fn shows(&self, path: &Path) -> bool {
        let is_library = || path.as_os_str().to_string_lossy().ends_with(std::env::consts::DLL_SUFFIX);
        self.points.contains(path)
            || self.is_in_tree(path)
            || path.parent() == self.libraries.as_deref() && is_library()
    }

    fn is_firmware(&self, path: &Path) -> bool {
        let is_manifest = path.file_name().is_some_and(|name| name == provost_fleet::MANIFEST);
        self.firmware.as_deref().is_some_and(|firmware| path.starts_with(firmware)) && !is_manifest
    }

    fn is_in_tree(&self, path: &Path) -> bool {
        path.ancestors().any(|above| self.trees.contains(above))
    }

    fn tree(&mut self, path: &Path) {
        if let Some(place) = self.point(path)
            && place.is_dir()
            && self.trees.insert(place.clone())
        {
            self.links_below(&place, 0);
        }
    }

    fn links_below(&mut self, directory: &Path, depth: usize) {
        let Ok(entries) = std::fs::read_dir(directory) else { return };
        for entry in entries.flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_symlink() => self.tree(&entry.path()),
                Ok(kind) if kind.is_dir() && depth < DEPTH => self.links_below(&entry.path(), depth + 1),
                _ => {}
            }
        }
    }

    /// Where a path leads to. Every link on the way is a point, and so is the place itself; where nothing is yet, that is where it
    /// will come to be.
    fn point(&mut self, path: &Path) -> Option<PathBuf> {
        let path = std::path::absolute(path).ok()?;
        let mut rest: VecDeque<PathBuf> = steps(&path).collect();
        let mut place = PathBuf::new();
        let mut links = 0;
        while let Some(step) = rest.pop_front() {
            if step.as_os_str() == ".." {
                place.pop();
                continue;
            }
            let next = place.join(&step);
            match std::fs::symlink_metadata(&next) {
                Ok(metadata) if metadata.is_symlink() => {
                    links += 1;
                    let target = std::fs::read_link(&next).ok().filter(|_| links <= LINKS)?;
                    self.points.insert(next);
                    for step in steps(&target).collect::<Vec<_>>().into_iter().rev() {
                        rest.push_front(step);
                    }
                }
                Ok(_) => place = next,
                Err(_) => {
                    self.points.insert(next.clone());
                    place = next;
                }
            }
        }
        self.points.insert(place.clone());
        Some(place)
    }
}

/// The parts of a path, a leading slash among them.
fn steps(path: &Path) -> impl Iterator<Item = PathBuf> {
    path.components().filter(|part| *part != Component::CurDir).map(|part| PathBuf::from(part.as_os_str()))
}
